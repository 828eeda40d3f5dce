"""A data set and an augmentation added as CONTRIBUTING asks: what a run records is what evaluation
and use do.
"""

import dataclasses
import json

import numpy as np
import pytest

import imagenet_tf
from engine import Predictor
from engine.config.config import read_config
from engine.config.presets import data_defaults
from engine.data import augment, datasets
from engine.data.shift import Shift
from engine.data.sources import ArraySource
from engine.data.spec import Dataset, DatasetSpec
from engine.deployment.views import views

pytestmark = pytest.mark.usefixtures('shallow')

CLASSES = ('left', 'middle', 'right')
TRAIN, VAL = 96, 60
INPUTS = 'rgb:0.5,0.4,0.3:0.25,0.2,0.3'


class LeftEdge(Shift):
    """Keeps the square at the left edge: no other augmentation sees what it sees."""

    def eval_view(self, image, size):
        edge = min(image.shape[:2])
        return super().eval_view(image[:edge, :edge], size)


def open_bars(folder, image_size):
    """A bright bar at one of three places in noise, 40 x 64 pixels; what is right of them is noise
    alone.
    """
    rng = np.random.default_rng(5)
    labels = rng.integers(len(CLASSES), size=TRAIN + VAL)
    images = rng.integers(120, size=(len(labels), 40, 64, 3), dtype=np.uint8)
    for image, label in zip(images, labels):
        image[:, 12 * label + 2 : 12 * label + 10, label] += 120
    train = ArraySource(images[:TRAIN], labels[:TRAIN])
    return Dataset('bars', BARS, CLASSES, train, ArraySource(images[TRAIN:], labels[TRAIN:]))


BARS = DatasetSpec(
    name='bars',
    open=open_bars,
    help='bars',
    image_size=24,
    augmentation='left_edge',
    resize='area',
    inputs=INPUTS,
    sizes=(24, 16),
    training={'arch': 'resnet8', 'batch_size': 16, 'lr': 0.02, 'epochs': 2},
    in_memory=True,
    small=True,
)


@pytest.fixture
def bars(monkeypatch):
    """Its one line in each registry."""
    monkeypatch.setitem(datasets.SPECS, 'bars', BARS)
    monkeypatch.setitem(augment.AUGMENTATIONS, 'left_edge', LeftEdge())


@pytest.mark.parametrize('resize', ['area', pytest.param('antialias', marks=pytest.mark.slow)])
def test_the_predictor_scores_what_evaluation_has_scored(bars, resize, tmp_path):
    run = tmp_path / 'run'
    flags = ['--data', 'bars', '--width', '0.25', '--steps-per-epoch', '6', '--logdir', str(run)]
    assert imagenet_tf.main([*flags, '--resize', resize]) == 0
    config = read_config(run / 'config.json')
    assert (config.dataset, config.augmentation, config.inputs) == ('bars', 'left_edge', INPUTS)
    assert (config.sizes, config.batch_size) == ((24, 16), 16)

    assert imagenet_tf.main(['--eval', '-ec', str(run)]) == 0
    val = datasets.open_dataset('bars').val
    images = [val.read(i) for i in range(len(val))]
    predictor = Predictor(run, threads=1)
    for point in ('s24', 's16'):
        record = json.loads((run / 'eval' / f'{point}.json').read_text())
        found = predictor.predict(images, point=point)
        right = int((found.labels == val.labels).sum())
        assert (record['top1'], record['dataset']) == (100 * right / VAL, 'bars')


def test_the_record_decides_and_not_the_name(bars, tmp_path):
    """Evaluated on other data, the run prepares them as it has recorded."""
    run = tmp_path / 'run'
    flags = ['--data', 'bars', '--width', '0.25', '--steps-per-epoch', '2', '--epochs', '1']
    assert imagenet_tf.main([*flags, '--logdir', str(run)]) == 0
    config = read_config(run / 'config.json')
    image = open_bars('', 24).val.read(0)
    expected = config.preprocessing.eval_views(image)
    other = config.adjusted(data='animals28', dataset='animals28')
    (run / 'config.json').write_text(json.dumps(other.to_json()))
    (found,) = views([image], Predictor(run, threads=1).config.preprocessing)
    np.testing.assert_array_equal(found[0], expected[0])
    assert not np.array_equal(augment.eval_views(image, 'shift', [24], antialias=False), expected)


@pytest.mark.parametrize('net', ['aig', 'dsnet', 'msdnet', 'rsnet', 'san'])
def test_small_images_without_sizes_of_their_own(net, monkeypatch):
    """Networks that have one size take that of the images."""
    spec = dataclasses.replace(BARS, sizes=())
    monkeypatch.setitem(datasets.SPECS, 'bars', spec)
    found = data_defaults(net, 'bars')
    assert (found['augmentation'], found['inputs']) == ('left_edge', INPUTS)
    assert found.get('sizes') == {'dsnet': (24,), 'msdnet': (24,)}.get(net)
    assert found.get('encoding') == {'san': 34.0}.get(net)


EARLIER = [
    ({'data': 'animals28', 'classes': 10}, ('animals28', 'shift')),
    ({'data': 'cifar10:/data/batches', 'classes': 10}, ('cifar10', 'shift')),
    ({'data': 'cifar10:/data/batches', 'classes': 1000}, ('cifar10', 'shift')),
    ({'data': 'cifar100:nowhere', 'classes': 100}, ('cifar100', 'shift')),
    ({'data': 'fake', 'classes': 1000}, ('fake', 'area_crop')),
    ({'data': '/data/ILSVRC2012', 'classes': 1000}, ('imagenet', 'area_crop')),
    ({'data': '/data/flowers', 'classes': 102}, ('folder', 'area_crop')),
    ({'data': '', 'classes': 1000, 'inputs': 'unit_rgb'}, ('', 'area_crop')),
    ({'data': '', 'classes': 10, 'inputs': 'cifar_rgb'}, ('', 'shift')),
    ({}, ('', 'area_crop')),
]


@pytest.mark.parametrize('values, expected', EARLIER)
def test_runs_that_recorded_neither(values, expected):
    found = datasets.completed(values)
    assert (found['dataset'], found['augmentation']) == expected
    assert {key: found[key] for key in values} == values


@pytest.mark.parametrize(
    'data, classes, expected',
    [
        ('/data/ILSVRC2012', 1000, 'imagenet'),
        ('/data/flowers', 102, 'folder'),
        ('fake', 1000, 'fake'),
        ('cifar100:/data', 100, 'cifar100'),
        ('', 1000, ''),
    ],
)
def test_a_data_set_that_is_not_opened(data, classes, expected):
    assert datasets.recorded_name(data, classes) == expected


def test_what_is_recorded_stays():
    recorded = {'data': 'animals28', 'dataset': 'bars', 'augmentation': 'left_edge'}
    assert datasets.completed(recorded) == recorded
