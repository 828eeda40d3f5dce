"""Early exit against the network itself.

The same answers image by image, and nothing computed for those that left.
"""

import functools
import itertools
from typing import NamedTuple

import numpy as np
import pytest

from engine.config.config import Config
from engine.data.datasets import open_dataset
from engine.deployment.early_exit import EarlyExit
from engine.deployment.stages import Queue, Stage
from engine.graph.tower import Model
from engine.results import exit_thresholds
from engine.runs.checkpoint import Checkpoint, Restore
from nets.losses import log_confidence
from quant.backend import tf
from tests.conftest import Runner

TINY = Config.from_values(
    net='msdnet',
    arch='msdnet',
    mode='pytorch',
    init='original',
    kd_type='topdown',
    nBlocks=3,
    base=1,
    step=1,
    nChannels=4,
    growthRate=2,
    grFactor=(1, 2, 4),
    bnFactor=(1, 2, 4),
    sizes=(28, 20),
    classes=10,
    data='animals28',
    image_size=28,
    resize='area',
    inputs='normalized_rgb',
    augmentation='shift',
)
CONFIGS = {'float': TINY, 'w2a2': TINY.replacing(qw=2, qa=2, sizes=(28,))}
N, EXITS = 15, TINY.nBlocks
NOBODY, EVERYBODY = [exit_thresholds.NEVER] * EXITS, [exit_thresholds.ALWAYS] * EXITS
VAL = open_dataset('animals28').val
IMAGES = np.stack([VAL.read(50 * i) for i in range(N)])


def random_value(name, value, rng):
    """Normalisation that sets the sizes apart."""
    if name.endswith(('/gamma', 'variance/EMA')):
        return rng.uniform(0.8, 1.2, value.shape).astype('float32')
    if name.endswith(('/beta', 'mean/EMA')):
        return rng.normal(0, 0.1, value.shape).astype('float32')
    return value


def log_softmax(logits):
    shifted = logits.astype('float64') - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


@functools.cache
def network(bits):
    """A model, its variables, and what ``net.outputs`` says of ``IMAGES`` one at a time.

    Logits [N, classes] by point.
    """
    model, rng = Model(CONFIGS[bits], data_format='NHWC'), np.random.default_rng(0)
    with tf.Graph().as_default():
        tf.set_random_seed(1)
        feed = tf.placeholder(tf.uint8, [None, *IMAGES.shape[1:]])
        logits = model.net.outputs(model.views([feed]), model.blocks(training=False)).logits
        run = Runner()
        with run.session:
            start = run({v.op.name: v for v in tf.global_variables()})
            values = {name: random_value(name, value, rng) for name, value in start.items()}
            Restore(values).init(run.session)
            # Classifiers that have something to choose from: over the images, every class is as
            # likely.
            for point, found in run(logits, {feed: IMAGES}).items():
                if point.size == 28:
                    head, scale = f'head{point.exit}/linear', 2 / found.std(0)
                    values |= {
                        f'{head}/W': values[f'{head}/W'] * scale,
                        f'{head}/b': -found.mean(0) * scale,
                    }
            Restore(values).init(run.session)
            rows = [run(logits, {feed: image[None]}) for image in IMAGES]
    return (
        model,
        values,
        {str(point): np.concatenate([row[point] for row in rows]) for point in logits},
    )


def answers(logits, size):
    """Labels [N, K] and float64 log confidence [N, K] at a size, shallowest exit first."""
    found = np.stack([logits[f's{size}-x{k}'] for k in range(EXITS)], 1)
    return found.argmax(2), log_softmax(found).max(2)


class Case(NamedTuple):
    runner: EarlyExit
    labels: np.ndarray
    confidence: np.ndarray


@pytest.fixture(
    scope='module',
    params=[
        pytest.param(('float', 28), id='float-s28', marks=pytest.mark.slow),
        pytest.param(('float', 20), id='float-s20'),
        pytest.param(('w2a2', 28), id='w2a2-s28'),
    ],
)
def case(request):
    bits, size = request.param
    model, values, logits = network(bits)
    source = Checkpoint('none', values, model.config)
    return Case(EarlyExit(source, size, threads=1), *answers(logits, size))


def random_thresholds(confidence, seed):
    """Some that no confidence is so close to that rounding could decide."""
    rng = np.random.default_rng(seed)
    while True:
        found = rng.uniform(confidence.min(0), confidence.max(0))
        if np.abs(confidence - found).min() > 1e-3:
            return [*found[:-1].tolist(), exit_thresholds.ALWAYS]


def check(case, found, exits, images=slice(None)):
    """Labels and confidence are those of the exits that had to answer."""
    np.testing.assert_array_equal(found.exits, exits)
    rows = np.arange(N)[images]
    np.testing.assert_array_equal(found.labels, case.labels[rows, exits])
    np.testing.assert_allclose(found.confidence, case.confidence[rows, exits], atol=1e-4)


def test_the_cases_tell_exits_and_images_apart(case):
    assert (np.ptp(case.confidence, axis=0) > 0.05).all()
    assert (case.labels[:, 0] != case.labels[:, -1]).any()
    chosen = [
        exit_thresholds.chosen(case.confidence, np.array(random_thresholds(case.confidence, n)))
        for n in range(4)
    ]
    assert set(np.concatenate(chosen)) == set(range(EXITS))


@pytest.mark.parametrize('batch', [1, 7, N])
@pytest.mark.parametrize('seed', range(4))
def test_answers_are_those_of_the_network(case, seed, batch):
    thresholds = random_thresholds(case.confidence, seed)
    exits = exit_thresholds.chosen(case.confidence, np.array(thresholds))
    for start in range(0, N, batch):
        part = slice(start, start + batch)
        check(case, case.runner.predict([IMAGES[part]], thresholds), exits[part], part)


@pytest.mark.parametrize(
    'thresholds, exits',
    [
        (None, 2),
        (NOBODY, 2),
        (EVERYBODY, 0),
        ([exit_thresholds.NEVER, exit_thresholds.ALWAYS, exit_thresholds.ALWAYS], 1),
        # That of the last exit is not used.
        ([exit_thresholds.NEVER, exit_thresholds.NEVER, exit_thresholds.ALWAYS], 2),
    ],
)
def test_all_leave_at_one_exit(case, thresholds, exits):
    check(case, case.runner.predict([IMAGES], thresholds), np.full(N, exits))


@pytest.mark.parametrize('seed', range(3))
def test_order_of_the_images_does_not_matter(case, seed):
    order = np.random.default_rng(seed).permutation(N)
    thresholds = random_thresholds(case.confidence, seed)
    exits = exit_thresholds.chosen(case.confidence, np.array(thresholds))
    check(case, case.runner.predict([IMAGES[order]], thresholds), exits[order], order)


@pytest.fixture
def computed(case, monkeypatch):
    """Rows that each stage was run on, by stage, of what is predicted from now on."""
    seen: dict[int, list[int]] = {}

    def watched(k, run, *feeds):
        found = run(*feeds)
        # Labels, confidence, maps: all of them are of these images only.
        assert len({len(array) for array in found}) == 1
        seen.setdefault(k, []).append(len(found[0]))
        return found

    monkeypatch.setattr(
        case.runner,
        'stages',
        [
            stage._replace(run=functools.partial(watched, k, stage.run))
            for k, stage in enumerate(case.runner.stages)
        ],
    )
    return seen


@pytest.mark.parametrize('seed', range(3))
def test_a_stage_gets_only_the_images_that_are_left(case, computed, seed):
    thresholds = random_thresholds(case.confidence, seed)
    exits = exit_thresholds.chosen(case.confidence, np.array(thresholds))
    case.runner.predict([IMAGES], thresholds)
    assert computed == {k: [left] for k in range(EXITS) if (left := np.count_nonzero(exits >= k))}


@pytest.mark.parametrize(
    'thresholds, stages',
    [(EVERYBODY, 1), ([exit_thresholds.NEVER, *EVERYBODY[1:]], 2), (NOBODY, 3)],
)
def test_a_stage_without_images_is_not_run(case, computed, thresholds, stages):
    case.runner.predict([IMAGES], thresholds)
    assert computed == {k: [N] for k in range(stages)}


@pytest.mark.parametrize('deadline, exits, stages', [(0, 0, 1), (1e9, 2, 3)])
def test_no_time_and_much_time(case, computed, deadline, exits, stages):
    check(case, case.runner.predict([IMAGES], deadline_ms=deadline), np.full(N, exits))
    assert len(computed) == stages


@pytest.mark.parametrize('deadline, exits', [(3.9, 0), (4.1, 1), (5.9, 1), (6.1, 2)])
def test_a_stage_that_would_end_too_late_is_not_begun(case, deadline, exits, monkeypatch):
    """By a clock on which a stage takes 1 ms and what lies between two stages another one."""
    ticks = itertools.count()
    monkeypatch.setattr('engine.deployment.stages.time.perf_counter', lambda: next(ticks) / 1000)
    case.runner.predict([IMAGES])
    check(case, case.runner.predict([IMAGES], deadline_ms=deadline), np.full(N, exits))
    # What has left before stays as it is.
    thresholds = random_thresholds(case.confidence, 0)
    left = exit_thresholds.chosen(case.confidence, np.array(thresholds))
    found = case.runner.predict([IMAGES], thresholds, deadline_ms=1e9)
    check(case, found, left)
    check(case, case.runner.predict([IMAGES], thresholds, deadline_ms=0), np.zeros(N, int))


def test_log_confidence(run):
    """As in float64, also where one class is so far ahead that its float32 softmax is 1."""
    logits = np.random.default_rng(0).normal(0, 4, (50, 10)).astype('float32')
    far = np.array(
        [[0, -50, -60], [-50, 0, -50], [1000, 950, 900], [30, 10, 5], [-80, -80, 0]], 'float32'
    )
    for values in (logits, far, np.zeros((3, 7), 'float32'), np.array([[2, 2, -1]], 'float32')):
        # Of a tie the first counts.
        rest = np.delete(
            np.sort(values.astype('float64') - values.max(1, keepdims=True), axis=1), -1, axis=1
        )
        np.testing.assert_allclose(
            run(log_confidence(tf.constant(values))), -np.log1p(np.exp(rest).sum(1)), rtol=2e-6
        )
    saturated = run(log_confidence(tf.constant(far)))
    assert (run(tf.reduce_max(tf.nn.softmax(tf.constant(far)), axis=1))[[0, 1, 2, 4]] == 1).all()
    np.testing.assert_allclose(saturated[:2], [-np.exp(-50), -2 * np.exp(-50)], rtol=1e-4)
    assert saturated.max() < 0


@pytest.mark.parametrize('size', [1, 4, N])
@pytest.mark.parametrize('batch', [2, 5, N])
def test_a_queue_answers_as_the_network_and_in_order(case, computed, size, batch):
    """No stage behind the first runs on fewer than a batch, but for the last images of all."""
    thresholds = random_thresholds(case.confidence, 1)
    exits = exit_thresholds.chosen(case.confidence, np.array(thresholds))
    queue = Queue(case.runner, thresholds, size)
    for start in range(0, N, batch):
        queue.add([IMAGES[start : start + batch]])
    check(case, queue.finish(), exits)
    for k in range(1, EXITS):
        left = np.count_nonzero(exits >= k)
        full, rest = divmod(left, size)
        assert computed.get(k, []) == [size] * full + [rest] * bool(rest)


def test_a_queue_without_thresholds_runs_all_stages(case):
    queue = Queue(case.runner, None, 4)
    queue.add([IMAGES])
    check(case, queue.finish(), np.full(N, EXITS - 1))


class Halves:
    """Two stages, of which the first lets a number of images through; maps are counted.

    Args:
        left: images of a batch that stay.
    """

    def __init__(self, left):
        self.left = left
        self.stages = [Stage([], ['map'], self._first), Stage(['map'], [], self._second)]

    def _first(self, images):
        count = len(images)
        confidence = np.where(np.arange(count) < count - self.left, 0.0, -9.0)
        return [np.zeros(count, int), confidence, images[:, 0], images]

    def _second(self, maps):
        return [maps[:, 0].astype(int), np.zeros(len(maps)), maps]


@pytest.mark.parametrize('left', [1, 3, 5, 6])
def test_few_images_that_wait_do_not_keep_the_maps_of_all(left):
    """However few stay of each batch, memory is that of two batches of maps and the last one."""
    size, batches = 6, 40
    queue = Queue(Halves(left), [-1.0, 0.0], size)
    numbers = np.arange(size * batches)
    kept = []
    for start in range(0, len(numbers), size):
        queue.add([numbers[start : start + size, None]])
        maps = {id(one.maps['map']): one.maps['map'] for one in queue._waiting[1]}
        kept.append(sum(len(value) for value in maps.values()))
    assert max(kept) <= 2 * size
    found = queue.finish()
    stays = numbers % size >= size - left
    np.testing.assert_array_equal(found.exits, stays.astype(int))
    np.testing.assert_array_equal(found.labels, np.where(stays, numbers, 0))
