"""Checkpoints.

Which one a path stands for, both ways of naming variables, and what is said when one does not fit.
"""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from engine.config.config import Config
from engine.errors import UsageError
from engine.graph.tower import Model
from engine.runs import checkpoint, matching
from quant.backend import tf
from quant.state import Kind, State

SMALL = Config.from_values(
    mode='preact',
    arch='resnet8',
    qw=2,
    qa=3,
    sizes=(16, 12),
    kd=True,
    data='animals28',
    classes=10,
    image_size=28,
    width=0.25,
    steps_per_epoch=10,
    private_basis=True,
)
PUBLISHED = Config.from_values(
    mode='preact',
    arch='resnet18',
    qw=2,
    qa=2,
    sizes=(32, 24),
    kd=True,
    data='fake',
    classes=5,
    width=0.0625,
)


def declared(config: Config) -> dict[str, State]:
    return Model(config, data_format='NHWC').inspect()[0]


def shapes(config: Config) -> dict[str, tuple[int, ...]]:
    return {name: state.shape for name, state in declared(config).items()}


def numbers(wanted: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Other values for every variable."""
    rng = np.random.default_rng(5)
    found = {name: rng.normal(size=shape).astype(np.float32) for name, shape in wanted.items()}
    for name, value in found.items():
        if name.endswith('variance/EMA'):
            found[name] = abs(value)
    return found


def save(values: dict[str, np.ndarray], prefix: Path) -> str:
    """A checkpoint with these names, as ``tf.train.Saver`` writes it."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    with tf.Graph().as_default(), tf.Session() as session:
        fed = {name: tf.placeholder(value.dtype, value.shape) for name, value in values.items()}
        variables = {name: tf.Variable(x, name=re.sub(r'\W', '_', name)) for name, x in fed.items()}
        session.run(
            [v.initializer for v in variables.values()],
            {x: values[name] for name, x in fed.items()},
        )
        tf.train.Saver(variables).save(
            session, str(prefix), write_meta_graph=False, write_state=False
        )
    return str(prefix)


def published(name: str) -> str:
    """Published name of one of our variables (the facts, section 10)."""
    if name == 'alpha':
        return name
    *scope, leaf = re.sub(
        r'/bn_(preact|last)/s(\d+)/', lambda m: f'/bn-{m[1]}{int(m[2]):03d}/bn/', name
    ).split('/')
    path = re.sub(r'/bn/s(\d+)', lambda m: f'/bn{int(m[1]):03d}', '/'.join(scope))
    if leaf == 'basis' and scope[-1].startswith('quant'):
        path += '/ActivationQuantization'
    return f'imagenet/{path}/{leaf}'


@pytest.fixture(scope='module')
def theirs(tmp_path_factory) -> tuple[str, dict[str, np.ndarray]]:
    """A published checkpoint, and its values by our names."""
    values = numbers(shapes(PUBLISHED))
    extra = {
        'global_step': np.int64(5000),
        'learning_rate': np.float32(0.1),
        'EMA/add_8': np.float32(1),
        'EMA/QueueInput/queue_size/biased': np.float32(1),
    }
    named = {published(name): value for name, value in values.items()}
    return save(named | extra, tmp_path_factory.mktemp('theirs') / 'model-5000'), values


def read(prefix) -> checkpoint.Checkpoint:
    return checkpoint.read(str(prefix), flag='-ec')


@pytest.fixture
def source(ours) -> checkpoint.Checkpoint:
    return read(ours[0] / 'model-30')


@pytest.mark.parametrize('epoch, name', [(None, 'model-30'), (3, 'model-30'), (1, 'model-10')])
def test_find_in_a_run_folder(epoch, name, ours):
    assert checkpoint.find(str(ours[0]), epoch, '-ec') == str(ours[0] / name)
    assert Path(checkpoint.find(f'{ours[0]}/', epoch, '-ec')) == ours[0] / name


@pytest.mark.parametrize('name', ['model-10', 'best'])
def test_find_a_prefix(name, tmp_path):
    (tmp_path / f'{name}.index').touch()
    assert checkpoint.find(str(tmp_path / name), None, '-ec') == str(tmp_path / name)


def test_the_last_checkpoint_is_that_of_the_highest_step(tmp_path):
    for step in (900, 1000):
        (tmp_path / f'model-{step}.index').touch()
    assert checkpoint.find(str(tmp_path), None, '-ec') == str(tmp_path / 'model-1000')


def test_epochs_of_a_published_folder_have_5000_steps(tmp_path):
    for epoch in (1, 110):
        (tmp_path / f'model-{epoch * 5000}.index').touch()
    assert checkpoint.find(str(tmp_path), 110, '-ec') == str(tmp_path / 'model-550000')
    with pytest.raises(
        UsageError, match=r'-ep 2: no checkpoint of step 10000 in .*; it has epochs 1, 110$'
    ):
        checkpoint.find(str(tmp_path), 2, '-ec')


def test_a_missing_epoch_is_refused_with_those_there(ours):
    with pytest.raises(
        UsageError, match=r'-ep 2: no checkpoint of step 20 in .*run; it has epochs 1, 3$'
    ):
        checkpoint.find(str(ours[0]), 2, '-ec')


@pytest.mark.parametrize('flag', ['-ec', '--load'])
def test_nothing_to_find(flag, tmp_path):
    with pytest.raises(UsageError, match=f'^{flag} {tmp_path}: no checkpoint'):
        checkpoint.find(str(tmp_path), None, flag)
    for missing in (tmp_path / 'no', tmp_path / 'no' / 'model-5'):
        with pytest.raises(UsageError, match=f'^{flag} {missing}: no such checkpoint or folder'):
            checkpoint.find(str(missing), None, flag)


def test_an_epoch_of_a_prefix_is_refused(ours):
    with pytest.raises(UsageError, match='-ep 1'):
        checkpoint.find(str(ours[0] / 'model-30'), 1, '-ec')


def test_read_our_checkpoint(ours, source):
    assert set(source.values) == {*ours[1], 'global_step'}
    assert all(np.array_equal(source.values[name], value) for name, value in ours[1].items())
    assert source.config == SMALL
    assert source.values['global_step'] == 30


def test_what_our_checkpoint_has(source):
    assert source.sizes == [16, 12]
    assert (source.qw, source.qa, source.classes) == (2, 3, 10)
    assert (
        source.describe() == f'{source.prefix} has sizes 16 12, 2-bit weights and 3-bit activations'
    )


def test_without_a_run_folder_there_is_no_configuration(tmp_path):
    found = read(save({'w': np.ones(3, np.float32)}, tmp_path / 'model-1'))
    assert found.config is None
    assert (found.sizes, found.qw, found.qa) == ([], 32, 32)
    assert 'sizes none' in found.describe()


def test_read_a_published_checkpoint(theirs):
    prefix, values = theirs
    found = read(prefix)
    assert set(found.values) == set(values)
    assert all(np.array_equal(found.values[name], value) for name, value in values.items())
    assert found.config is None


def test_what_a_published_checkpoint_has(theirs):
    found = read(theirs[0])
    assert found.sizes == [32, 24]
    assert (found.qw, found.qa, found.classes) == (2, 2, 5)
    assert found.describe() == f'{theirs[0]} has sizes 32 24, 2-bit weights and 2-bit activations'


def test_a_published_checkpoint_fits_our_network(theirs):
    chosen = matching.select(read(theirs[0]), declared(PUBLISHED), flag='-ec')
    assert set(chosen) == set(shapes(PUBLISHED))


@pytest.mark.parametrize(
    'name, ours',
    [
        ('imagenet/conv0/bn096/mean/EMA', 'conv0/bn/s96/mean/EMA'),
        (
            'imagenet/group3/block0/convshortcut/bn224/gamma',
            'group3/block0/convshortcut/bn/s224/gamma',
        ),
        (
            'imagenet/group0/block1/bn-preact128/bn/variance/EMA',
            'group0/block1/bn_preact/s128/variance/EMA',
        ),
        ('imagenet/group2/bn-last160/bn/beta', 'group2/bn_last/s160/beta'),
        (
            'imagenet/group0/block0/conv1/weight_quant/basis',
            'group0/block0/conv1/weight_quant/basis',
        ),
        ('imagenet/group0/quant_last/ActivationQuantization/basis', 'group0/quant_last/basis'),
        (
            'imagenet/group0/quant_last/ActivationQuantization/imagenet/group0/quant_last/ActivationQuantization/basis/biased',
            'group0/quant_last/basis/biased',
        ),
        ('imagenet/linear/b', 'linear/b'),
        ('imagenet/linear/W/Momentum', 'linear/W/Momentum'),
        ('alpha', 'alpha'),
        ('learning_rate', None),
        ('global_step', None),
        ('EMA/train-error-scale096-top1', None),
    ],
)
def test_published_names(name, ours):
    from engine.importers.rsnet import from_published

    assert from_published(name) == ours


def test_the_inverse_renaming_is_one_to_one():
    names = [published(name) for name in shapes(PUBLISHED)]
    assert len(set(names)) == len(names)
    assert 'imagenet/group0/block1/bn-preact024/bn/mean/EMA' in names
    assert 'imagenet/group2/quant_last/ActivationQuantization/basis' in names


@pytest.mark.parametrize(
    'index, data', [(b'garbage', b'garbage'), (b'', b''), (b'\0' * 500, b''), (None, None)]
)
def test_garbage_is_refused(index, data, tmp_path):
    for end, content in (('index', index), ('data-00000-of-00001', data)):
        if content is not None:
            (tmp_path / f'model-5.{end}').write_bytes(content)
    with pytest.raises(UsageError, match=r'^-ec .*model-5: cannot be read as a checkpoint \(\S'):
        read(tmp_path / 'model-5')


@pytest.mark.parametrize('left', [None, 0, 20])
def test_a_missing_or_cut_data_file_is_refused(left, tmp_path):
    prefix = save({'w': np.ones(99, np.float32)}, tmp_path / 'model-5')
    data = tmp_path / 'model-5.data-00000-of-00001'
    if left is None:
        data.unlink()
    else:
        data.write_bytes(data.read_bytes()[:left])
    with pytest.raises(UsageError, match='cannot be read as a checkpoint .*; give another one'):
        read(prefix)


def test_select_takes_what_the_graph_has_and_no_more(ours, source):
    chosen = matching.select(source, declared(SMALL), flag='-ec')
    assert set(chosen) == set(ours[1])
    narrowed = matching.select(source, declared(SMALL.replacing(sizes=(12,), kd=False)), flag='-ec')
    assert set(narrowed) < set(chosen)
    assert [name for name in narrowed if '/s16/' in name or name == 'alpha'] == []


def refused(source, config, **options) -> str:
    with pytest.raises(UsageError) as caught:
        matching.select(source, declared(config), flag='-ec', **options)
    assert str(caught.value).startswith('-ec: ')
    assert source.describe() in str(caught.value)
    return str(caught.value)


def test_a_missing_size(source):
    config = SMALL.replacing(sizes=(24, 16), kd=False, qw=32, qa=32)
    assert 'no statistics for size 24 (' in refused(source, config)


def test_a_missing_quantizer_state(source):
    values = {name: value for name, value in source.values.items() if not name.endswith('/basis')}
    floats = dataclasses.replace(source, values=values, qw=32, qa=32)
    message = refused(floats, SMALL)
    assert 'no quantizer state for group0/block0/' in message


def test_another_depth(source):
    message = refused(source, SMALL.replacing(arch='resnet20', qw=32, qa=32))
    assert 'another depth' in message
    assert 'no statistics' not in message


FLOAT = SMALL.replacing(qw=32, qa=32, private_basis=False, sizes=(16,), kd=False)


@pytest.mark.parametrize(
    'there, asked',
    [
        ('preact', 'resnet'),
        ('preact', 'preact_typeA'),
        ('resnet20', 'resnet8'),
        ('resnet34', 'resnet18'),
    ],
)
def test_a_part_of_another_network_is_refused(there, asked):
    key = 'mode' if there == 'preact' else 'arch'
    names = shapes(FLOAT.replacing(**{key: there}))
    with pytest.raises(UsageError, match='another depth, mode or network'):
        matching.select(
            checkpoint.Checkpoint('model-1', numbers(names), None),
            declared(FLOAT.replacing(**{key: asked})),
            flag='-ec',
        )


def test_only_some_variables_of_a_network(source):
    some = {name: state for name, state in declared(SMALL).items() if state.kind is not Kind.MOVING}
    kernels = {name: state for name, state in some.items() if 'conv1' not in name}
    with pytest.raises(UsageError, match='another depth, mode or network'):
        matching.select(source, kernels, flag='-ec')
    some = {name: state for name, state in declared(SMALL).items() if state.kind is Kind.MOVING}
    assert set(matching.select(source, some, flag='-ec', partial=True)) == set(some)


def test_a_missing_variable(source):
    values = {name: value for name, value in source.values.items() if name != 'linear/b'}
    assert 'no variable linear/b' in refused(dataclasses.replace(source, values=values), SMALL)


@pytest.mark.parametrize(
    'change, parts',
    [
        ({'classes': 7}, ('linear/', '10]', '7]')),
        ({'width': 0.5}, ('conv0/W', '[3, 3, 3, 4]', '[3, 3, 3, 8]')),
        ({'qa': 2}, ('/basis is [3', '[2')),
    ],
)
def test_another_shape(change, parts, source):
    message = refused(source, SMALL.replacing(sizes=(16,), kd=False, **change))
    assert [part for part in parts if part not in message] == []


def test_a_variable_of_another_number_of_classes(source):
    config = SMALL.replacing(sizes=(16,), kd=False, classes=7)
    assert 'linear/' in refused(source, config)
