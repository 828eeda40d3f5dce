"""Predictor: any network, any point, any budget gives what the evaluation graph gives; from several
threads too.
"""

import concurrent.futures
import dataclasses
import shutil
import tracemalloc
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest

from engine import Predictor
from engine.data.datasets import open_dataset
from engine.deployment import views as view_batches
from engine.errors import UsageError
from engine.evaluation.evaluate import eval_flow
from engine.files import write_json
from engine.graph.tower import Model, scored
from engine.optimization import averages
from engine.results import cascades
from engine.runs import checkpoint, fingerprint
from engine.runs.folder import merge_layers
from nets import cost
from nets.backbones import resnet
from nets.layers.kernels import generate
from quant.backend import tf
from scripts import import_checkpoint, profile
from tests import test_grid
from tests.engine.data.test_cifar import make_cifar10
from tests.engine.importers.test_importer_aig import aig8, written
from tests.engine.results.run_folders import score
from tests.engine.results.test_cascades import made as cascade
from tests.engine.runs.test_checkpoint import save

# A fixture.
pytestmark = pytest.mark.usefixtures('shallow')

RNG = np.random.default_rng(3)
IMAGES = RNG.integers(256, size=(7, 16, 16, 3), dtype=np.uint8)
MIXED = [
    RNG.integers(256, size=size, dtype=np.uint8)
    for size in ((16, 16, 3), (20, 31, 3), (40, 9, 3), (8, 8, 3))
]
FAMILIES = {
    'aig': 'aig-gates-float',
    'rsnet': 'rsnet-sizes-w2a2',
    'san': 'san-sizes-float',
    'msdnet': 'msdnet-exits-float',
    'dsnet': 'dsnet-gates-float',
    'slimmable': 'dsnet-widths-float',
}
FIVE = list(FAMILIES)[:5]


class Made(NamedTuple):
    """A run folder with its configuration, variables and layer records."""

    path: Any
    config: Any
    values: dict[str, np.ndarray]
    layers: Any


@pytest.fixture(scope='module')
def make(tmp_path_factory):
    """Run folders with random weights, each written once. Only SAN reads one view per size."""
    runs = {}

    def made(family):
        if family not in runs:
            config = test_grid.config(FAMILIES[family])
            if family == 'san':
                config = config.replacing(resize='antialias')
            model, path = Model(config, data_format='NHWC'), tmp_path_factory.mktemp(family) / 'run'
            variables, layers = model.inspect()
            shapes = {name: state.shape for name, state in variables.items()}
            values = model.starting_values() | test_grid.numbers(shapes)
            save(values, path / 'model-1')
            write_json(path / 'config.json', config.to_json())
            merge_layers(path, layers)
            runs[family] = Made(path, config, values, layers)
        return runs[family]

    return made


@pytest.fixture(scope='module')
def predictors(make):
    """One predictor per family, whose graphs stay."""
    known = {}

    def predictor(family):
        if family not in known:
            known[family] = Predictor(make(family).path, threads=1)
        return known[family]

    return predictor


def views(config, images):
    made = map(config.preprocessing.eval_views, images)
    return [np.stack(size) for size in zip(*made)]


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.fixture(scope='module')
def evaluated():
    """``answers`` to images of any size, for which a graph is built once."""
    known = {}

    def found(made, images):
        key = made.path, *(image.tobytes() for image in images)
        if key not in known:
            known[key] = answers(made, views(made.config, images))
        return known[key]

    return found


def answers(made, batch):
    """Probabilities [N, classes] by name: the graph of evaluation, whose variables a saver
    restores.
    """
    with tf.Graph().as_default(), tf.Session() as session:
        model = Model(made.config, data_format='NHWC')
        feeds = [tf.constant(view) for view in batch]
        rows = scored(model.net.outputs(model.views(feeds), model.blocks(training=False)))
        tf.train.Saver({v.op.name: v for v in tf.global_variables()}).restore(
            session, str(made.path / 'model-1')
        )
        session.run(generate())
        return {name: softmax(logits) for name, logits in session.run(rows).items()}


def check(found, probabilities, point):
    np.testing.assert_array_equal(found.labels, probabilities.argmax(1))
    np.testing.assert_allclose(found.scores, probabilities.max(1), atol=1e-4)
    assert found.labels.dtype == np.int64
    if point == 'dynamic':
        # A gate chose the width of each image.
        assert set(found.points) <= {'w06', 'w00'}
    else:
        assert found.points == [point] * len(probabilities)


POINTS = {
    'aig': ['s16'],
    'rsnet': ['s16', 's12'],
    'san': ['s16', 's12'],
    'msdnet': ['s16-x1', 's16-x0'],
    'dsnet': ['w06', 'w00', 'dynamic'],
    'slimmable': ['w14', 'w00'],
}


SLOW = ('aig', 'dsnet', 'san', 'slimmable')


@pytest.mark.parametrize(
    'family',
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW))
        for name in (*FIVE, 'slimmable')
    ],
)
def test_every_point_says_what_evaluation_says(family, make, predictors, evaluated):
    """Width 6 of a network that was not calibrated has no statistics and is no point."""
    made, predictor = make(family), predictors(family)
    assert predictor.points == POINTS[family] and predictor.config == made.config
    expected = evaluated(made, IMAGES)
    for point in predictor.points:
        check(predictor.predict(IMAGES, point=point), expected[point], point)
    check(predictor.predict(IMAGES), expected[predictor.points[0]], predictor.points[0])


@pytest.mark.parametrize('family', ['aig', 'san', 'dsnet', 'msdnet'])
@pytest.mark.parametrize('count', [1, 3])
def test_batches_of_any_size(family, count, predictors):
    predictor = predictors(family)
    point = predictor.points[-1]
    whole, part = (
        predictor.predict(IMAGES, point=point),
        predictor.predict(IMAGES[:count], point=point),
    )
    np.testing.assert_array_equal(part.labels, whole.labels[:count])
    np.testing.assert_allclose(part.scores, whole.scores[:count], atol=1e-5)


@pytest.mark.parametrize('family', ['rsnet', 'san'])
def test_images_of_any_size(family, make, predictors, evaluated):
    """They need not be alike; views are those of evaluation: one for all sizes, or one for each."""
    check(
        predictors(family).predict(MIXED, point='s12'), evaluated(make(family), MIXED)['s12'], 's12'
    )


@pytest.mark.parametrize(
    'family, resize, kind',
    [
        ('dsnet', 'antialias_cubic', 'files'),
        ('rsnet', 'area', 'cifar'),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ('rsnet', 'nearest', 'files'),
                ('san', 'antialias', 'files'),
                ('aig', 'antialias', 'cifar'),
                ('msdnet', 'area', 'files'),
                ('dsnet', 'antialias_cubic', 'cifar'),
            )
        ),
    ],
)
def test_images_of_a_data_folder(family, resize, kind, make, tmp_path):
    """The data flow of evaluation, and the predictor on the images as they lie there, whatever kind
    of folder it is.
    """
    made, folder = make(family), tmp_path / 'data'
    make_cifar10(folder) if kind == 'cifar' else photographs(folder)
    dataset = open_dataset(str(folder), size=made.config.image_size)
    config = made.config.replacing(
        data=str(folder),
        resize=resize,
        augmentation=dataset.spec.augmentation,
    )
    shutil.copytree(made.path, tmp_path / 'run')
    write_json(tmp_path / 'run' / 'config.json', config.to_json())
    *batch, _ = next(iter(eval_flow(config, dataset, 0)))
    predictor, images = (
        Predictor(tmp_path / 'run', threads=1),
        [dataset.val.read(i) for i in range(len(dataset.val))],
    )
    point = predictor.points[-1]
    check(
        predictor.predict(images, point=point),
        answers(made._replace(config=config), batch)[point],
        point,
    )


def photographs(folder):
    for part, shape in (('train', (30, 40)), ('val', (30, 47)), ('val', (61, 33))):
        place = folder / part / 'class'
        place.mkdir(parents=True, exist_ok=True)
        image = RNG.integers(256, size=(*shape, 3), dtype=np.uint8)
        assert cv2.imwrite(str(place / f'{shape[0]}.png'), image)


@pytest.mark.parametrize(
    'images, match',
    [
        (
            IMAGES.astype('float32'),
            r'images: expected uint8 \[H, W, 3\], found float32 \[16, 16, 3\]',
        ),
        (IMAGES[..., :1], r'found uint8 \[16, 16, 1\]'),
        (IMAGES[0], r'found uint8 \[16, 3\]'),
        (IMAGES[:0], 'none given'),
        ([[1, 2]], 'found <class'),
        ([IMAGES[0], IMAGES[0, 0]], r'found uint8 \[16, 3\] \(number 1\)'),
        ([IMAGES[0], np.empty((0, 7, 3), np.uint8)], r'found uint8 \[0, 7, 3\] \(number 1\)'),
        (np.empty((2, 7, 0, 3), np.uint8), r'found uint8 \[7, 0, 3\]'),
        (iter([]), 'none given'),
        (iter([IMAGES[0]] * 9 + [None]), r'\(number 9\)'),
    ],
)
def test_what_is_no_image(images, match, predictors):
    with pytest.raises(UsageError, match=match):
        predictors('rsnet').predict(images)


@pytest.fixture
def batches_of_two(predictors, monkeypatch):
    """A predictor, and how many images it has run at once."""
    monkeypatch.setattr(view_batches, 'LARGEST_BATCH', 2)
    found = predictors('rsnet')
    found.predict(IMAGES[:1])
    (way,) = (way for name, way in found._points.items() if name == 's16')
    counts = []

    def answer(batch):
        counts.append(len(batch[0]))
        return way.answer(batch)

    monkeypatch.setitem(found._points, 's16', way._replace(answer=answer))
    return found, counts


def test_many_images_go_in_batches(batches_of_two, make, evaluated):
    found, counts = batches_of_two
    expected = evaluated(make('rsnet'), IMAGES)['s16']
    for images in (IMAGES, list(IMAGES), iter(IMAGES), (image for image in IMAGES)):
        check(found.predict(images, point='s16'), expected, 's16')
        assert counts == [2, 2, 2, 1]
        counts.clear()


def test_progress_is_shown_for_long_inputs(batches_of_two, monkeypatch):
    made = []

    class Shown(view_batches.Progress):
        def __init__(self, what, total, *args, delay):
            assert what == 'predicting' and delay > 0
            super().__init__(what, total, *args, delay=delay)
            made.append((self, total))

    monkeypatch.setattr(view_batches, 'Progress', Shown)
    found, _ = batches_of_two
    found.predict(IMAGES, point='s16')
    found.predict(iter(IMAGES), point='s16')
    assert [progress.n for progress, _ in made] == [len(IMAGES)] * 2
    assert [total for _, total in made] == [len(IMAGES), None]


def test_a_list_is_checked_before_anything_is_run(batches_of_two):
    found, counts = batches_of_two
    with pytest.raises(UsageError, match='number 6'):
        found.predict([*IMAGES[:6], IMAGES[0, 0]], point='s16')
    assert not counts


def test_images_of_a_generator_are_let_go(predictors):
    """150 images of 3 MB: what stays of each is its view."""
    images = (np.full((1000, 1000, 3), k % 256, np.uint8) for k in range(150))
    predictors('rsnet').predict(IMAGES, point='s16')
    tracemalloc.start()
    found = predictors('rsnet').predict(images, point='s16')
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found.labels) == 150 and peak < 2**25


@pytest.mark.parametrize(
    'size, resize',
    [
        pytest.param(20, 'area', marks=pytest.mark.slow),
        (8, 'antialias'),
        pytest.param(20, 'nearest', marks=pytest.mark.slow),
        pytest.param(20, 'antialias', marks=pytest.mark.slow),
        pytest.param(8, 'area', marks=pytest.mark.slow),
    ],
)
def test_a_calibrated_size_has_views_of_its_own(size, resize, make, tmp_path):
    """Larger than all views of the run, or one beside several: feeds of another shape."""
    made = make('rsnet')
    run = tmp_path / 'run'
    shutil.copytree(made.path, run)
    config = made.config.replacing(resize=resize)
    write_json(run / 'config.json', config.to_json())
    narrowed = config.narrowed([size]).adjusted(kd=False)
    variables, _ = Model(narrowed, data_format='NHWC').inspect()
    lent = {}
    for name in variables:
        if f'/s{size}/' in name:
            lent[name] = made.values[name.replace(f'/s{size}/', '/s16/')]
    point = f's{size}'
    checkpoint.write_calibrated(str(run / 'model-1'), lent | {checkpoint.POINTS: np.array([point])})
    wanted = Made(run, narrowed, made.values | lent, made.layers)
    expected = restored(wanted, views(narrowed, MIXED))[point]
    found = Predictor(run, threads=1)
    assert point in found.points
    check(found.predict(MIXED, point=point), expected, point)
    found.predict(MIXED, point='s12')
    if resize == 'area':
        assert profile.main([str(run), '--rounds', '1', '--batch', '2']) == 0


def restored(made, batch):
    """Probabilities by name of a graph with the values of ``made``."""
    with tf.Graph().as_default(), tf.Session() as session:
        model = Model(made.config, data_format='NHWC')
        feeds = [tf.constant(view) for view in batch]
        rows = scored(model.net.outputs(model.views(feeds), model.blocks(training=False)))
        checkpoint.Restore(made.values).init(session)
        return {name: softmax(logits) for name, logits in session.run(rows).items()}


def test_wrong_points(predictors):
    with pytest.raises(UsageError, match="point 's20': .* has s16 s12"):
        predictors('rsnet').predict(IMAGES, point='s20')
    with pytest.raises(UsageError, match='point s16 and budget 3M: give one'):
        predictors('rsnet').predict(IMAGES, point='s16', budget='3M')
    for family, point in (('rsnet', 'dynamic'), ('dsnet', 's16-dynamic')):
        with pytest.raises(UsageError, match=f"point '{point}'"):
            predictors(family).predict(IMAGES, point=point)
    with pytest.raises(UsageError, match='is a rsnet, which has no exits'):
        predictors('rsnet').anytime(IMAGES, deadline_ms=5, size=12)


def test_wrong_runs(tmp_path):
    for path in (tmp_path / 'none', tmp_path / 'run' / 'model-1'):
        with pytest.raises(UsageError, match=f'run {path}: no such run folder or checkpoint'):
            Predictor(path)


def record(made, accuracies):
    for point, top1 in accuracies.items():
        write_json(
            made.path / 'eval' / f'{point}.json',
            {'point': point, 'bn': point, 'top1': top1, 'top5': 100.0},
        )


def test_nothing_recorded(make, predictors):
    with pytest.raises(UsageError, match='no evaluation records; run `imagenet_tf.py --eval'):
        predictors('aig').predict(IMAGES, budget='300M')


def test_budget_of_static_points(make, predictors, evaluated):
    made, predictor = make('rsnet'), predictors('rsnet')
    record(made, {'s16': 90.0, 's12': 80.0})
    large, small = (cost.madds(made.layers[point]) for point in ('s16', 's12'))
    expected = evaluated(made, IMAGES)
    for budget, point in (
        (large, 's16'),
        (f'{large / 1e3}K', 's16'),
        (large - 1, 's12'),
        (float(small), 's12'),
    ):
        check(predictor.predict(IMAGES, budget=budget), expected[point], point)
    with pytest.raises(UsageError, match='the nearest is .* at s12'):
        predictor.predict(IMAGES, budget=small - 1)
    with pytest.raises(UsageError, match='budget 3ms: expected multiply-adds'):
        predictor.predict(IMAGES, budget='3ms')


def test_budget_of_a_gate(make, predictors, evaluated):
    made = make('dsnet')
    record(made, {'w06': 90.0, 'w00': 60.0, 'dynamic': 85.0})
    large = cost.madds(made.layers['w06'])
    write_json(made.path / 'routes' / 's16.json', {'madds': large - 10})
    check(
        predictors('dsnet').predict(IMAGES, budget=large - 5),
        evaluated(made, IMAGES)['dynamic'],
        'dynamic',
    )
    assert predictors('dsnet').predict(IMAGES[:1], budget=large).points == ['w06']


def test_budget_of_exits(make, predictors, evaluated):
    """Every image leaves where its confidence reaches the threshold, with the answer of
    that exit.
    """
    made, predictor = make('msdnet'), predictors('msdnet')
    record(made, {'s16-x1': 70.0, 's16-x0': 60.0})
    seen = RNG.integers(256, size=(60, 16, 16, 3), dtype=np.uint8)
    held = evaluated(made, seen)
    arrays = {'confidence': np.stack([np.log(held[f's16-x{k}'].max(1)) for k in (0, 1)], 1)}
    # On the validation images early exit is always right, so that a policy is the best choice.
    arrays |= {'test_confidence': arrays['confidence'], 'test_right': np.ones((60, 2), bool)}
    (made.path / 'exits').mkdir()
    np.savez(made.path / 'exits' / 's16.npz', **arrays, right=arrays['test_right'])
    costs = [cost.madds(cost.cumulative(made.layers, f's16-x{k}')) for k in (0, 1)]
    chosen = predictor.within(sum(costs) / 2)
    assert chosen.policy is not None and chosen.madds <= sum(costs) / 2
    images = RNG.integers(256, size=(20, 16, 16, 3), dtype=np.uint8)
    expected = evaluated(made, images)
    # The middle of the confidences, whatever the cheapest of equally right policies is.
    limit = float(np.median(np.log(expected['s16-x0'].max(1))))
    policy = dataclasses.replace(chosen.policy, thresholds=(limit, chosen.policy.thresholds[1]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            predictor, 'within', lambda budget: dataclasses.replace(chosen, policy=policy)
        )
        found = predictor.predict(images, budget='1M')
    leaves = np.where(np.log(expected['s16-x0'].max(1)) >= limit, 0, 1)
    assert 0 < leaves.sum() < len(images)
    assert found.points == [f's16-x{k}' for k in leaves]
    for i, point in enumerate(found.points):
        assert found.labels[i] == expected[point][i].argmax()
        assert found.scores[i] == pytest.approx(expected[point][i].max(), abs=1e-4)
    assert predictor.within(costs[0]).madds == pytest.approx(costs[0])
    # A budget is kept on the images by which thresholds were chosen; the least sure one lies on its
    # threshold.
    assert predictor.predict(seen, budget=costs[0]).points.count('s16-x0') >= len(seen) - 1


def test_anytime(make, predictors, evaluated):
    expected = evaluated(make('msdnet'), IMAGES)
    check(predictors('msdnet').anytime(IMAGES, deadline_ms=1e6), expected['s16-x1'], 's16-x1')
    check(predictors('msdnet').anytime(IMAGES, deadline_ms=0), expected['s16-x0'], 's16-x0')


def test_sizes_are_climbed_in_time(make, predictors, evaluated):
    expected = evaluated(make('rsnet'), IMAGES)
    check(predictors('rsnet').anytime(IMAGES, deadline_ms=1e6), expected['s16'], 's16')
    found = predictors('rsnet').anytime(IMAGES, deadline_ms=0)
    check(found, expected['s12'], 's12')
    assert found.stages == [('s12',)] * len(IMAGES)


@pytest.mark.parametrize('combine', ['last', 'mean'])
def test_a_cascade(combine, make, predictors, tmp_path, evaluated):
    """By a file, in batches and with an answer each."""
    made, predictor = make('rsnet'), predictors('rsnet')
    small, large = (evaluated(made, IMAGES)[point] for point in ('s12', 's16'))
    threshold = float(np.log(np.sort(small.max(1))[3:5].mean()))
    early = np.log(small.max(1)) >= threshold
    assert early.sum() == 3
    late = (small + large) / 2 if combine == 'mean' else large
    expected = np.where(early[:, None], small, late)
    identity = fingerprint.identity(str(made.path / 'model-1'))
    wanted = cascade(
        points=('s12', 's16'),
        thresholds=(threshold, -1e8),
        combine=combine,
        identity=identity,
    )
    file = tmp_path / 'cascade.json'
    cascades.write(file, wanted)
    found = predictor.predict(IMAGES, cascade=file)
    points = np.where(early, 's12', 's16').tolist()
    np.testing.assert_array_equal(found.labels, expected.argmax(1))
    np.testing.assert_allclose(found.scores, expected.max(1), atol=1e-4)
    assert found.points == points
    answers = list(predictor(list(IMAGES), cascade=file, RGB=False))
    for answer, row, is_early in zip(answers, expected, early):
        np.testing.assert_allclose(answer.probabilities, row, atol=1e-4)
        assert answer.stages == (('s12',) if is_early else ('s12', 's16'))
        assert answer.point == answer.stages[-1]
    with pytest.raises(UsageError, match=f'point s16 and cascade {file}: give one'):
        predictor.predict(IMAGES, point='s16', cascade=file)
    cascades.write(file, dataclasses.replace(wanted, identity='another'))
    with pytest.raises(UsageError, match='chosen for another checkpoint'):
        predictor.predict(IMAGES, cascade=file)


def test_a_budget_takes_the_best_cascade(make, tmp_path):
    made = make('rsnet')
    run = tmp_path / 'run'
    shutil.copytree(made.path, run)
    madds = {point: cost.madds(layers) for point, layers in made.layers.items()}
    for point, top1 in (('s16', 70.0), ('s12', 60.0)):
        write_json(run / 'eval' / f'{point}.json', score(point, top1, images=10))
    identity = fingerprint.identity(str(run / 'model-1'))
    own = cascade(points=('s12', 's16'), identity=identity)
    (run / 'cascades').mkdir()
    cascades.write(run / 'cascades' / 'own.json', own)
    predictor = Predictor(run, threads=1)
    mean = madds['s12'] + 0.5 * madds['s16']
    found = predictor.within(mean + 1)
    assert found.cascade == own and found.madds == pytest.approx(mean) and found.top1 == 90.0
    assert predictor.within(mean - 1).point == ('s16' if madds['s16'] < mean else 's12')
    assert predictor.predict(IMAGES, budget=mean + 1).stages is not None
    # Of another checkpoint in the folder, nothing was chosen.
    for path in run.glob('model-1.*'):
        end = b' ' if '.data' in path.name else b''
        other = path.with_name(path.name.replace('model-1', 'model-2'))
        other.write_bytes(path.read_bytes() + end)
    assert Predictor(run, threads=1).within(mean + 1).cascade is None


@pytest.mark.parametrize(
    'family',
    [
        'rsnet',
        pytest.param('dsnet', marks=pytest.mark.slow),
        pytest.param('msdnet', marks=pytest.mark.slow),
    ],
)
def test_threads(family, make, predictors):
    """Graphs are made while others wait; every call gets its own answers."""
    serial, fresh = predictors(family), Predictor(make(family).path, threads=1)
    calls = [
        (IMAGES[i : i + 1 + i % 3], fresh.points[i % len(fresh.points)])
        for i in 2 * (0, 1, 2, 3, 4, 5)
    ]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda call: fresh.predict(call[0], point=call[1]), calls))
    for (images, point), one in zip(calls, found):
        expected = serial.predict(images, point=point)
        np.testing.assert_array_equal(one.labels, expected.labels)
        np.testing.assert_allclose(one.scores, expected.scores, atol=1e-5)
        assert one.points == expected.points


def test_epochs(make, tmp_path):
    """The last checkpoint, or the one that was asked for, as an epoch or by its prefix."""
    made, path = make('aig'), tmp_path / 'run'
    config = made.config.replacing(steps_per_epoch=1)
    other = {
        name: value[::-1].copy() if name == 'linear/b' else value
        for name, value in made.values.items()
    }
    for step, values in ((1, made.values), (2, other)):
        save(values, path / f'model-{step}')
    write_json(path / 'config.json', config.to_json())
    scores = [
        Predictor(path, threads=1, **options).predict(IMAGES).scores
        for options in ({}, {'epoch': 1})
    ]
    scores.append(Predictor(path / 'model-1', threads=1).predict(IMAGES).scores)
    assert np.abs(scores[0] - scores[1]).max() > 1e-3
    np.testing.assert_array_equal(scores[1], scores[2])


@pytest.fixture
def averaged(make, tmp_path):
    """A run folder whose weights are random and whose averages are those of ``make('rsnet')``.

    Statistics of a size in between were calibrated for its weights.
    """
    made = make('rsnet')
    path = tmp_path / 'averaged'
    values = {}
    for name, value in made.values.items():
        values[name] = np.flip(value).copy()
        values[f'{averages.SCOPE}{name}'] = value
    prefix = save(values, path / 'model-1')
    shutil.copy(made.path / 'config.json', path)
    shutil.copy(made.path / 'layers.json', path)
    checkpoint.write_calibrated(prefix, {checkpoint.POINTS: np.array(['s14'])})
    return path


def test_averages(averaged, make, evaluated):
    """They answer as a run with these weights, at the points that were trained."""
    made = make('rsnet')
    predictor = Predictor(averaged, threads=1, weights='ema')
    assert predictor.points == ['s16', 's12']
    assert Predictor(averaged).points == ['s16', 's12', 's14']
    expected = evaluated(made, IMAGES)
    for point in predictor.points:
        check(predictor.predict(IMAGES, point=point), expected[point], point)


def test_no_budget_was_recorded_of_averages(averaged):
    predictor = Predictor(averaged, weights='ema')
    with pytest.raises(UsageError, match=r"budget 300M: .* weights='ema'; give a point"):
        predictor.predict(IMAGES, budget='300M')


def test_a_published_file(tmp_path, monkeypatch):
    """CIFAR form: an image of its size is taken as it is, as its evaluation does, and as the
    imported run does.
    """
    monkeypatch.setitem(resnet.FORMS, 'resnet8', resnet.Form((1, 1, 1), small=True))
    file = written(tmp_path / 'x.pth.tar', aig8(10))
    published = Predictor(file, threads=1)
    assert published.points == ['s32'] and published.config.net == 'aig'
    assert (
        import_checkpoint.main([str(file), '--out', str(tmp_path / 'run'), '--data', 'animals28'])
        == 0
    )
    images = RNG.integers(256, size=(4, 32, 32, 3), dtype=np.uint8)
    found, imported = (
        published.predict(images),
        Predictor(tmp_path / 'run', threads=1).predict(images),
    )
    np.testing.assert_array_equal(found.labels, imported.labels)
    np.testing.assert_allclose(found.scores, imported.scores, atol=1e-6)
    with pytest.raises(UsageError, match='no such run folder|cannot be read'):
        published.predict(images, budget='300M')
    with pytest.raises(
        UsageError, match=f'epoch 3: {file} is a published checkpoint, which has no epochs'
    ):
        Predictor(file, epoch=3)
    with pytest.raises(UsageError, match="weights 'ema': .* published checkpoint"):
        Predictor(file, weights='ema')
