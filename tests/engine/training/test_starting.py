"""What ``--load`` gives to a network: every variable, or the reason why not."""

import itertools

import numpy as np
import pytest

from engine.config import resolve
from engine.config.config import Config
from engine.errors import UsageError
from engine.files import write_json
from engine.graph.inference import InferenceModel
from engine.runs import checkpoint
from engine.training import similar, starting
from nets.layers.blocks import Blocks
from quant.backend import new_graph, tf
from tests.engine.importers.test_importer_aig import torchvision18
from tests.engine.importers.test_safetensors_file import stored
from tests.engine.importers.torch_format import of, write
from tests.engine.runs.test_checkpoint import numbers, save

SMALL = Config.from_values(
    mode='preact', arch='resnet8', sizes=(16, 12), image_size=16, classes=4, width=0.25
)


@pytest.fixture(autouse=True)
def few_architectures(monkeypatch):
    monkeypatch.setattr(similar, 'archs', lambda: ('resnet8',))


def declared(config):
    return InferenceModel(config, data_format='NHWC').inspect()[0]


@pytest.fixture(scope='module')
def make(tmp_path_factory):
    """Makes runs of configurations; returns their values."""
    counter = itertools.count()

    def made(config):
        folder = tmp_path_factory.mktemp('loaded') / f'run{next(counter)}'
        values = numbers({name: state.shape for name, state in declared(config).items()})
        save(values, folder / 'model-7')
        write_json(folder / 'config.json', config.to_json())
        return folder, values

    return made


def starts(config, folder):
    return starting.starting_values(config.replacing(load=str(folder)))


def drawn(shapes) -> dict[str, np.ndarray]:
    """Values of a network of torchvision, as those of the fixture were drawn."""
    rng, found = np.random.default_rng(21), {}
    for name in sorted(shapes):
        shape = shapes[name]
        if name.endswith('num_batches_tracked'):
            found[name] = np.array(7, '<i8')
        elif name.endswith('running_var') or len(shape) == 1 and name.endswith('weight'):
            found[name] = rng.uniform(0.5, 1.5, shape).astype('<f4')
        else:
            fan = np.prod(shape[1:]) if len(shape) > 1 else 100
            found[name] = (rng.standard_normal(shape) * np.sqrt(1 / fan)).astype('<f4')
    return found


# Logits of PyTorch 2.13 of a ResNet-18 with these values, its layers written as in torchvision.
LOGITS = [
    [1.94486, 0.2859, -3.8732, 0.14443, 0.83787],
    [1.38991, 0.96269, -3.6928, 0.31297, 1.04443],
]
PLAIN = Config.from_values(
    net='rsnet',
    arch='resnet18',
    mode='pytorch',
    sizes=(64,),
    image_size=64,
    classes=5,
    inputs='normalized_rgb',
)


@pytest.fixture(scope='module')
def tensors():
    return drawn(torchvision18(5))


def logits(config, values):
    """float32 [2, classes] at the largest size, of views that are drawn."""
    size = config.sizes[0]
    views = np.random.default_rng(4).standard_normal((2, size, size, 3)).astype('f4')
    model = InferenceModel(config, data_format='NHWC')
    with new_graph(), tf.Session() as session:
        blocks = Blocks(
            config.quantization.to_policy(),
            model.net.points,
            training=False,
            padding=model.net.padding,
        )
        inputs = {one: tf.zeros([2, one, one, 3]) for one in config.sizes}
        outputs = model.net.outputs({**inputs, size: tf.constant(views)}, blocks)
        checkpoint.Restore(values).init(session)
        return session.run(outputs.logits[model.net.points[0]])


@pytest.mark.parametrize(
    'form',
    [
        'lightning',
        pytest.param('torchvision', marks=pytest.mark.slow),
        pytest.param('safetensors', marks=pytest.mark.slow),
    ],
)
def test_a_plain_resnet_answers_as_in_pytorch(form, tensors, tmp_path, capsys):
    path = tmp_path / 'resnet18.pth'
    stray = {'layer1.0.se.fc1.weight': np.ones((4, 64, 1, 1), '<f4')}
    held = {**tensors, **stray}
    if form == 'safetensors':
        path = stored(tmp_path / 'resnet18.safetensors', held)
    else:
        start = 'model._orig_mod.' if form == 'lightning' else ''
        entry = 'state_dict' if form == 'lightning' else 'model_ema'
        state = {}
        for name, value in held.items():
            kind = 'Long' if value.dtype.kind == 'i' else 'Float'
            state[f'{start}{name}'] = of(value, kind)
        write(path, 'zip', {'epoch': 3, entry: state})
    values = starts(PLAIN, path)
    said = capsys.readouterr().out
    assert 'not used: 1 variable there, such as layer1.0.se.fc1.weight' in said
    np.testing.assert_allclose(logits(PLAIN, values), LOGITS, atol=1e-4)


@pytest.mark.slow
def test_a_plain_resnet_becomes_five_sizes_at_two_bits(tensors, tmp_path, capsys):
    path = stored(tmp_path / 'resnet18.safetensors', tensors)
    sizes = (64, 56, 48, 40, 32)
    given = {'load': str(path), 'qw': 2, 'qa': 2, 'data': 'fake', 'image_size': 64, 'sizes': sizes}
    config, _, notes = resolve.resolve(given, starting.described(given))
    assert (config.net, config.arch, config.mode) == ('rsnet', 'resnet18', 'pytorch')
    assert config.inputs == 'normalized_rgb'
    assert any('--arch resnet18 --mode pytorch' in note for note in notes)
    found = starting.starting_values(config)
    said = capsys.readouterr().out
    assert 'fresh: 5 classes there, 1000 here' in said
    assert 'fresh: from the loaded weights and a first batch' in said
    kernel = tensors['layer2.0.conv1.weight'].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(found['group1/block0/conv1/W'], kernel)
    for size in config.sizes:
        mean = found[f'group3/block1/conv2/bn/s{size}/mean/EMA']
        np.testing.assert_array_equal(mean, tensors['layer4.1.bn2.running_mean'])
    assert not [name for name in found if 'linear' in name or 'quant' in name]


@pytest.mark.parametrize(
    'change, part, words',
    [
        ({'classes': 7}, 'linear/', '4 classes there, 7 here'),
        ({'sizes': (24, 16)}, '/s24/', 'that of s16'),
        ({'qw': 2, 'qa': 2}, 'quant', 'from the loaded weights and a first batch'),
    ],
)
def test_what_is_fresh_and_why(change, part, words, make, capsys):
    folder, values = make(SMALL)
    config = SMALL.replacing(image_size=24, **change)
    found = starts(config, folder)
    wanted = {name for name in declared(config) if part in name}
    lent = part == '/s24/'
    assert wanted and wanted <= set(found) if lent else wanted.isdisjoint(found)
    assert words in capsys.readouterr().out
    for name in set(values) & set(found):
        np.testing.assert_array_equal(found[name], values[name])


def test_preact_and_post_activation_are_told_apart(make):
    folder, _ = make(SMALL.replacing(mode='resnet'))
    with pytest.raises(UsageError, match='--mode resnet, here it is preact: .*give --mode pytorch'):
        starts(SMALL.replacing(qa=2), folder)
    folder, _ = make(SMALL)
    for mode in ('resnet', 'preact_typeA'):
        with pytest.raises(UsageError, match='trained with --mode preact, .*give --mode preact'):
            starts(SMALL.replacing(mode=mode), folder)


@pytest.mark.slow
def test_a_default_float_run_is_quantized_in_its_own_form(make):
    folder, values = make(SMALL.replacing(mode='resnet'))
    given = {'load': str(folder), 'qw': 2, 'qa': 2, 'data': 'fake', 'sizes': (16,)}
    config, _, _ = resolve.resolve(given, starting.described(given))
    assert (config.arch, config.width, config.mode) == ('resnet8', 0.25, 'pytorch')
    found = starting.starting_values(config)
    assert np.array_equal(found['group0/block0/conv1/W'], values['group0/block0/conv1/W'])
    del given['qa']
    assert resolve.resolve(given, starting.described(given))[0].mode == 'resnet'


def test_flags_beat_what_is_loaded(make):
    folder, _ = make(SMALL)
    given = {'load': str(folder), 'data': 'fake', 'width': 0.5, 'mode': 'resnet'}
    config, _, notes = resolve.resolve(given, starting.described(given))
    assert (config.arch, config.width, config.mode) == ('resnet8', 0.5, 'resnet')
    assert not any('--width' in note for note in notes)


def test_less_than_half(make):
    folder, _ = make(SMALL)
    for change, flag in (
        ({'width': 0.5}, '--width 0.25'),
        ({'arch': 'resnet20'}, '--arch resnet8'),
    ):
        with pytest.raises(UsageError) as caught:
            starts(SMALL.replacing(**change), folder)
        assert 'of the parameters fit' in str(caught.value)
        assert flag in str(caught.value)
    assert 'nearest by the shapes of its kernels: --arch resnet8 (100%)' in str(caught.value)


@pytest.mark.parametrize(
    ('kernel', 'said'),
    [
        ((4, 4, 3, 3), r'kernels: --arch resnet8 \('),
        ((5, 4, 11, 11), 'no architecture here has kernels of its shapes'),
    ],
)
def test_a_network_of_nobody_is_compared(kernel, said, tmp_path, monkeypatch):
    monkeypatch.setattr(similar, 'archs', lambda: ('resnet20',))
    rng = np.random.default_rng(0)
    alien = {f'conv{n}.weight': rng.standard_normal(kernel).astype('<f4') for n in range(3)}
    path = stored(tmp_path / 'x.safetensors', alien)
    assert starting.described({'load': str(path)}) is None
    with pytest.raises(UsageError, match=f'only 0% of the parameters fit.*{said}'):
        starts(SMALL, path)


@pytest.mark.slow
def test_a_smaller_part_of_a_deeper_network_is_said(make, capsys):
    folder, values = make(SMALL.replacing(arch='resnet20'))
    found = starts(SMALL, folder)
    assert np.array_equal(found['group2/block0/conv2/W'], values['group2/block0/conv2/W'])
    assert 'not used: ' in capsys.readouterr().out


@pytest.mark.slow
def test_one_size_lends_to_points_that_say_their_size(make):
    """A network of widths spells its points without a size where there is one."""
    one = Config.from_values(
        net='dsnet', arch='mobilenetv1_small', mode='pytorch', sizes=(16,), image_size=16, classes=4
    )
    folder, values = make(one)
    found = starts(one.replacing(sizes=(20, 16)), folder)
    assert set(found) >= set(declared(one.replacing(sizes=(20, 16))))
