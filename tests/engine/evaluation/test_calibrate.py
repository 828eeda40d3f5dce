"""Calibration.

Averages against numpy, nothing else changes, and the way from the script to the records.
"""

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

import imagenet_tf
from engine.data import datasets
from engine.data.folder import FOLDER
from engine.data.preprocess import views
from engine.data.sources import ArraySource
from engine.data.spec import Dataset
from engine.evaluation import calibrate, evaluate
from engine.evaluation.calibrate import Batch, image_weighted, pooled, stacked
from engine.graph.loaders import train_flow
from engine.graph.tower import Model
from engine.runs import checkpoint
from nets.layers.norm import Statistics
from quant.backend import tf
from scripts import calibrate as script

TINY = [
    '--data',
    'animals28',
    '--arch',
    'resnet8',
    '--sizes',
    '24',
    '16',
    '--width',
    '0.25',
    '--batch-size',
    '8',
    '--epochs',
    '1',
    '--steps-per-epoch',
    '2',
    '--threads',
    '0',
]
RUNS = {
    'rsnet': ['--kd', '--qw', '2', '--qa', '2', '--private_basis'],
    'san': ['--net', 'san', '--resize', 'antialias', '--warmup', '0', '--lr', '0.01'],
}
RNG = np.random.default_rng(0)


pytestmark = pytest.mark.usefixtures('few_validation_images', 'shallow_module')


def train(net: str, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp(net) / 'run'
    assert imagenet_tf.main([*TINY, *RUNS[net], '--logdir', str(path)]) == 0
    return path


@pytest.fixture(scope='module')
def rsnet(tmp_path_factory, shallow_module) -> Path:
    return train('rsnet', tmp_path_factory)


@pytest.fixture(scope='module')
def san(tmp_path_factory, shallow_module) -> Path:
    return train('san', tmp_path_factory)


@pytest.fixture
def copy(rsnet, tmp_path) -> Path:
    """The run in a folder of this test's own."""
    return Path(shutil.copytree(rsnet, tmp_path / 'run'))


def values_of(run: Path) -> dict[str, np.ndarray]:
    return checkpoint.read(str(run / 'model-2'), flag='-ec').values


def contents(run: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in run.rglob('*') if path.is_file()}


def unequal_batches() -> tuple[list[np.ndarray], list[Batch]]:
    """Raw values [images, positions, channels] and what a normalisation keeps of them.

    One channel is constant.
    """
    raw = [RNG.normal(n, n + 1, size=(n, 5, 3)) for n in (4, 1, 7)]
    for one in raw:
        one[..., 2] = 2
    rows = [
        Statistics(one.mean((0, 1)), one.var((0, 1), ddof=1), np.int32(one.shape[0] * 5))
        for one in raw
    ]
    return raw, [Batch(len(one), {'bn/s8': row}) for one, row in zip(raw, rows)]


def test_pooled_statistics_are_those_of_all_values():
    raw, batches = unequal_batches()
    together = np.concatenate([one.reshape(-1, 3) for one in raw])
    found = stacked(batches, 'bn/s8')
    mean, variance = pooled(found)
    np.testing.assert_allclose(mean, together.mean(0), rtol=1e-12)
    np.testing.assert_allclose(variance, together.var(0, ddof=1), rtol=1e-12, atol=1e-12)
    assert variance[2] == 0 and not np.allclose(variance, image_weighted(found)[1])


def test_pooled_statistics_of_one_value():
    one = Statistics(np.float32([3]), np.float32([0]), np.int32(1))
    mean, variance = pooled(stacked([Batch(1, {'bn': one})], 'bn'))
    assert (mean, variance) == ([3], [0])


def test_published_average_weighs_batches_by_their_images():
    raw, batches = unequal_batches()
    mean, variance = image_weighted(stacked(batches, 'bn/s8'))
    np.testing.assert_allclose(
        mean, sum(len(one) * one.mean((0, 1)) for one in raw) / 12, rtol=1e-12
    )
    np.testing.assert_allclose(
        variance, sum(len(one) * one.var((0, 1), ddof=1) for one in raw) / 12, rtol=1e-12
    )


def setting(run: Path, *sizes: int):
    """Checkpoint, its configuration at these sizes, its data set."""
    source = checkpoint.read(str(run / 'model-2'), flag='RUN')
    config = source.config.replacing(sizes=sizes)
    return source, config, datasets.open_dataset(config.data, size=config.image_size)


def test_observing_changes_no_variable(rsnet):
    """The same batch gives the same statistics, whatever came between; another one gives others."""
    source, config, dataset = setting(rsnet, 24, 16)
    config = config.replacing(kd=False)
    flow = iter(train_flow(config, dataset, start_step=0, threads=0))
    first, second = next(flow), next(flow)
    model = Model(config, data_format='NHWC')
    seen = calibrate.collect(model, source.values, [first, second, first]).batches
    assert [batch.images for batch in seen] == [8, 8, 8]
    assert {name.rpartition('/')[2] for name in seen[0].statistics} == {'s24', 's16'}
    for name, row in seen[0].statistics.items():
        for part, again in zip(row, seen[2].statistics[name]):
            np.testing.assert_array_equal(part, again)
        assert not np.array_equal(row.mean, seen[1].statistics[name].mean)


def first_convolution(config, source, size: int, images: int) -> list[np.ndarray]:
    """What the first normalisation sees of the first training images, by batch."""
    dataset = datasets.open_dataset(config.data, size=config.image_size)
    config, batches = config.replacing(sizes=(size,), batch_size=min(8, images)), []
    flow = iter(train_flow(config, dataset, start_step=0, threads=0))
    while images:
        arrays = [array[:images] for array in next(flow)[:-1]]
        with tf.Graph().as_default(), tf.Session() as session:
            view = views([tf.constant(array) for array in arrays], config.preprocessing, 'NHWC')[
                size
            ]
            batches.append(
                session.run(tf.nn.conv2d(view, source.values['conv0/W'], 1, 'SAME')).astype(
                    'float64'
                )
            )
        images -= len(arrays[0])
    return batches


@pytest.mark.parametrize(
    'net, average', [('rsnet', 'pooled'), ('rsnet', 'images'), ('san', 'pooled')]
)
def test_statistics_of_the_first_normalisation(net, average, request):
    """20 images in batches of 8: the last one is smaller."""
    source, config, dataset = setting(request.getfixturevalue(net), 26)
    found = calibrate.calibrate(config, source, dataset, images=20, average=average, threads=0)
    batches = first_convolution(config, source, 26, 20)
    assert [len(batch) for batch in batches] == [8, 8, 4]
    if average == 'pooled':
        batches = [np.concatenate(batches)]
    weights = [len(batch) / 20 for batch in batches]
    for part, function in (('mean', np.mean), ('variance', lambda x, axis: x.var(axis, ddof=1))):
        expected = sum(w * function(batch, axis=(0, 1, 2)) for w, batch in zip(weights, batches))
        np.testing.assert_allclose(
            found[f'conv0/bn/s26/{part}/EMA'], expected, rtol=1e-4, atol=1e-5
        )


def test_what_is_stored_for_a_new_size_and_for_a_trained_one(rsnet):
    """A new size gets all its variables, affine ones and bases from the nearest; a trained one gets
    new statistics only.
    """
    source, config, dataset = setting(rsnet, 26, 16)
    found = calibrate.calibrate(config, source, dataset, images=9, average='pooled', threads=0)
    wanted = Model(
        config.replacing(kd=False, sizes=(26,), image_size=28), data_format='NHWC'
    ).inspect()[0]
    new = {name for name in wanted if '/s26/' in name}
    assert {name for name in found if '/s26/' in name} == new
    assert {name for name in found if '/s16/' in name} == {
        name.replace('/s26/', '/s16/') for name in new if name.endswith('/EMA')
    }
    assert set(found) - new == {
        'calibrated_points',
        *(name.replace('/s26/', '/s16/') for name in new if name.endswith('/EMA')),
    }
    assert found['calibrated_points'].tolist() == ['s16', 's26']
    for name in new:
        alike = np.array_equal(found[name], source.values[name.replace('/s26/', '/s24/')])
        assert alike == (not name.endswith('/EMA')), name
        assert found[name].dtype == np.float32


def main(line: str) -> int:
    return imagenet_tf.main(shlex.split(line))


def calibrated(run: Path, *flags: str) -> int:
    return script.main([str(run), '--images', '16', '--threads', '0', *flags])


def test_a_calibrated_size_can_be_evaluated(copy, capsys):
    before = contents(copy)
    assert main(f'--eval -ec {copy} -es 26') == 2
    message = capsys.readouterr().err
    assert all(
        part in message for part in ('-es 26', 'scripts/calibrate.py', '--untrained', '-eos')
    )
    assert contents(copy) == before
    assert calibrated(copy, '--sizes', '26') == 0
    assert (
        f'{copy / "model-2.calibrated.npz"}: statistics of 16 images for sizes 26'
        in capsys.readouterr().out
    )
    after = contents(copy)
    assert set(after) - set(before) == {str(copy / 'model-2.calibrated.npz')}
    assert all(after[path] == content for path, content in before.items())
    assert main(f'--eval -ec {copy} -es 26') == 0
    record = json.loads((copy / 'eval' / 's26.json').read_text())
    assert (record['point'], record['bn'], record['images']) == ('s26', 's26', 40)


def test_a_second_calibration_keeps_the_first(copy):
    assert calibrated(copy, '--sizes', '26') == 0
    first = checkpoint.read_calibrated(str(copy / 'model-2'))
    assert calibrated(copy, '--sizes', '20', '--average', 'images', '--batch-size', '5') == 0
    both = checkpoint.read_calibrated(str(copy / 'model-2'))
    assert first.pop('calibrated_points').tolist() == ['s26']
    assert both.pop('calibrated_points').tolist() == ['s20', 's26']
    assert set(first) == {name for name in both if '/s26/' in name} and len(both) == 2 * len(first)
    assert all(np.array_equal(both[name], value) for name, value in first.items())
    assert checkpoint.read(str(copy / 'model-2'), flag='-ec').sizes == [26, 24, 20, 16]


def test_a_size_above_the_images_side(copy):
    """As evaluation does, calibration makes the crops as large as the largest size."""
    assert calibrated(copy, '--sizes', '32', '26') == 0
    assert main(f'--eval -ec {copy} -es 32 26') == 0
    assert {'s32.json', 's26.json'} <= {path.name for path in (copy / 'eval').iterdir()}


@pytest.mark.parametrize(
    'flags, message',
    [
        ('--sizes 4', '--sizes 4: every size must be at least 8'),
        ('--sizes 26 26', 'a size is repeated'),
        ('--sizes 26 --images 1', '--images 1: must lie between 2 and'),
        ('--sizes 26 --images 999999', '--images 999999: must lie between 2 and'),
        ('--sizes 26 --batch-size 1', '--batch-size 1: must lie between 2 and'),
        ('--sizes 26 -ep 7', '-ep 7: no checkpoint of step 14'),
        ('--sizes 26 --data nowhere', '--data nowhere'),
    ],
)
def test_bad_input(flags, message, copy, capsys):
    before = contents(copy)
    assert calibrated(copy, *flags.split()) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith('calibrate: error: ') and message in error
    assert contents(copy) == before


@pytest.mark.parametrize('images, expected', [(None, 40), (7, 7)])
def test_of_few_images_all_are_taken(images, expected):
    """Unless their number is given."""
    source = ArraySource(np.zeros((40, 8, 8, 3), np.uint8), np.zeros(40, int))
    dataset = Dataset('few', FOLDER, ('a',), source, source)
    assert calibrate.number_of(images, 2000, dataset) == expected
    assert calibrate.number_of(images, 20, dataset) == min(expected, 20)


def test_no_run_folder(copy, tmp_path, capsys):
    assert calibrated(tmp_path / 'no', '--sizes', '26') == 2
    assert f'RUN {tmp_path / "no"}: no such checkpoint' in capsys.readouterr().err
    (copy / 'config.json').unlink()
    assert calibrated(copy, '--sizes', '26') == 2
    assert 'no config.json there; import it first' in capsys.readouterr().err


def test_a_damaged_file_of_statistics(copy, capsys):
    (copy / 'model-2.calibrated.npz').write_bytes(b'PK\x03\x04 and no more')
    assert calibrated(copy, '--sizes', '26') == 2
    assert 'model-2.calibrated.npz: damaged' in capsys.readouterr().err


class Watched:
    """Network and values that an evaluation uses, with its logits on fixed images."""

    def __init__(self, monkeypatch):
        self.found, original = None, evaluate.evaluate

        def spy(network, values, *args, **kwargs):
            self.found = network, values
            return original(network, values, *args, **kwargs)

        monkeypatch.setattr(evaluate, 'evaluate', spy)

    def logits(self) -> np.ndarray:
        network, values = self.found
        (size,) = network.config.sizes
        image = np.random.default_rng(1).random((3, size, size, 3), 'float32')
        with tf.Graph().as_default(), tf.Session() as session:
            network.build_inference()
            checkpoint.Restore(values).init(session)
            output = [op for op in tf.get_default_graph().get_operations() if op.type == 'BiasAdd'][
                -1
            ]
            fed = next(
                op
                for op in tf.get_default_graph().get_operations()
                if op.type == 'Placeholder' and op.outputs[0].shape[1:] == [size, size, 3]
            )
            return session.run(output.outputs[0], {fed.outputs[0]: image})


def test_san_at_a_size_between_two_trained_ones(san, tmp_path, monkeypatch):
    """Kernels and statistics of the nearest size (proxy), own kernels (ideal), or own kernels and
    statistics in between (interpolate).
    """
    watched, logits, encodings = Watched(monkeypatch), {}, {}
    run = Path(shutil.copytree(san, tmp_path / 'run'))
    for untrained in ('proxy', 'ideal', 'interpolate'):
        assert main(f'--eval -ec {run} -es 22 --untrained {untrained}') == 0
        logits[untrained], encodings[untrained] = (
            watched.logits(),
            watched.found[0].net.encodings[22],
        )
        assert np.isfinite(logits[untrained]).all()
    assert encodings == {
        'proxy': pytest.approx(24 / 40),
        'ideal': pytest.approx(22 / 40),
        'interpolate': pytest.approx(22 / 40),
    }
    for one, other in (('proxy', 'ideal'), ('ideal', 'interpolate'), ('proxy', 'interpolate')):
        assert np.abs(logits[one] - logits[other]).max() > 1e-3
    records = {path.stem: json.loads(path.read_text()) for path in (run / 'eval').glob('s22*.json')}
    assert set(records) == {'s22@s24', 's22@s24-ideal', 's22@s16+s24'}
    assert all(f'{row["point"]}@{row["bn"]}' == name for name, row in records.items())


def test_statistics_that_are_interpolated(san, tmp_path, monkeypatch):
    watched = Watched(monkeypatch)
    run = Path(shutil.copytree(san, tmp_path / 'run'))
    assert main(f'--eval -ec {run} -es 22 --untrained interpolate') == 0
    values, stored = watched.found[1], values_of(run)
    for name in (
        'conv0/bn/s{}/mean/EMA',
        'group1/block0/conv2/bn/s{}/variance/EMA',
        'conv0/bn/s{}/gamma',
    ):
        expected = 0.25 * stored[name.format(16)] + 0.75 * stored[name.format(24)]
        np.testing.assert_allclose(values[name.format(22)], expected, rtol=1e-6)


def test_interpolation_needs_two_neighbours(san, capsys):
    assert main(f'--eval -ec {san} -es 28 --untrained interpolate') == 2
    assert '28 does not lie between two of the trained sizes 24 16' in capsys.readouterr().err
