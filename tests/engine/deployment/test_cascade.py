"""Chains of points carried out, on a backend of numpy and on the exits of a network."""

import numpy as np
import pytest

from engine.data.preprocessing import Preprocessing
from engine.deployment import cascade
from engine.deployment.backend import Way, answered
from engine.deployment.cascade import Chain, Turn
from engine.deployment.stages import Queue, Stage
from engine.errors import UsageError
from engine.results import chains
from engine.results.chains import Combination
from engine.results.exit_thresholds import ALWAYS, NEVER

CLASSES, N = 5, 40
RNG = np.random.default_rng(0)
SIZES = {'s12': 12, 's16': 16, 's20': 20}
IMAGES = RNG.integers(256, size=(N, 20, 20, 3), dtype=np.uint8)
VIEWS = {size: np.ascontiguousarray(IMAGES[:, :size, :size]) for size in SIZES.values()}


def head(name):
    return np.random.default_rng(len(name) + sum(map(ord, name))).normal(0, 0.1, [12, CLASSES])


def logits_of(name, images):
    """What a point says of images, from the first pixels of all rows of a colour."""
    return (images[:, :12, 0, 0].astype(np.float32) / 50) @ head(name).astype(np.float32)


def at(resize, seen):
    """Ways of points, which note how many images they run."""

    def way(name):
        def answer(batch):
            (images,) = batch
            seen.setdefault(name, []).append(len(images))
            return answered(logits_of(name, images), [name] * len(images))

        rule = Preprocessing('shift', 20, (SIZES[name],), resize, 'unit_rgb')
        return Way(rule, answer)

    return way


def turns_of(resize='area', seen=None):
    way = at(resize, {} if seen is None else seen)
    return lambda points: cascade.one_by_one(way, points)


def views(resize):
    return [VIEWS[20]] if resize == 'area' else [VIEWS[20], VIEWS[16], VIEWS[12]]


def expected(points, thresholds, combination):
    """Labels, confidence and stage, image by image."""
    found = []
    for image in range(N):
        shown = []
        for k, name in enumerate(points):
            scaled = logits_of(name, IMAGES[image : image + 1])[0] / combination.temperatures[k]
            scaled = scaled.astype(float) - scaled.max()
            shown.append(np.exp(scaled) / np.exp(scaled).sum())
            said = np.mean(shown, axis=0) if combination.sums else shown[-1]
            if np.log(said.max()) >= thresholds[k]:
                break
        found.append((said.argmax(), np.log(said.max()), k))
    return [np.array(column) for column in zip(*found)]


THRESHOLDS = (-0.7, -0.9, ALWAYS)
POINTS = ('s12', 's16', 's20')
TEMPERATURES = (0.8, 1.0, 1.5)


@pytest.mark.parametrize('resize', ['area', 'antialias'])
@pytest.mark.parametrize('combine', chains.COMBINES)
@pytest.mark.parametrize('size', [1, 7, N])
def test_answers_and_images_of_every_stage(resize, combine, size):
    """Batch by batch and queued, in order; a stage gets the images that are left and no others."""
    combination = Combination(combine, TEMPERATURES)
    labels, confidence, stages = expected(POINTS, THRESHOLDS, combination)
    assert set(stages) == {0, 1, 2}
    seen = {}
    chain = Chain(turns_of(resize, seen), POINTS, combination)
    assert chain.preprocessing.view_sizes == ((20,) if resize == 'area' else (20, 16, 12))
    way = chain.way(THRESHOLDS)
    found = way.answer(views(resize))
    np.testing.assert_array_equal(found.labels, labels)
    np.testing.assert_allclose(found.scores, np.exp(confidence), rtol=1e-5)
    assert found.points == [POINTS[k] for k in stages]
    assert found.stages == [POINTS[: k + 1] for k in stages]
    assert found.probabilities.shape == (N, CLASSES)
    left = [np.count_nonzero(stages >= k) for k in range(3)]
    assert seen == {name: [count] for name, count in zip(POINTS, left)}
    seen.clear()
    batches = []
    for start in range(0, N, size):
        batches.append([one[start : start + size] for one in views(resize)])
    whole = way.answer_all(batches)
    np.testing.assert_array_equal(whole.labels, labels)
    np.testing.assert_allclose(whole.scores, np.exp(confidence), rtol=1e-5)
    assert whole.stages == found.stages and whole.probabilities is None
    for name, count in zip(POINTS[1:], left[1:]):
        full, rest = divmod(count, size)
        assert seen[name] == [size] * full + [rest] * bool(rest)


@pytest.mark.parametrize('top', [1, 3])
def test_a_queue_tells_the_best_classes(top):
    combination = Combination(chains.MEAN, TEMPERATURES)
    chain = Chain(turns_of(), POINTS, combination)
    queue = Queue(chain, chain.thresholds(THRESHOLDS), 8, top)
    queue.add([VIEWS[20]])
    found = queue.finish()
    probabilities = chain.way(THRESHOLDS).answer([VIEWS[20]]).probabilities
    order = np.argsort(-probabilities, axis=1, kind='stable')
    np.testing.assert_array_equal(found.best, order[:, :top])


def test_a_chain_of_one_point():
    chain = Chain(turns_of(), ['s16'])
    found = chain.way([ALWAYS]).answer([VIEWS[20]])
    np.testing.assert_array_equal(found.labels, logits_of('s16', IMAGES).argmax(1))
    assert found.stages == [('s16',)] * N


@pytest.mark.parametrize('deadline, point', [(0, 's12'), (1e9, 's20')])
def test_a_deadline_is_climbed_to(deadline, point):
    found = Chain(turns_of(), POINTS).way(None, deadline).answer([VIEWS[20]])
    assert set(found.points) == {point}
    np.testing.assert_array_equal(found.labels, logits_of(point, IMAGES).argmax(1))


def test_points_of_other_images():
    def way(name):
        rule = Preprocessing('shift', 20 + (name == 's20'), (SIZES[name],), 'area', 'unit_rgb')
        return Way(rule, None)

    with pytest.raises(UsageError, match='s20 reads images of 21 pixels and s12 of 20'):
        Chain(lambda points: cascade.one_by_one(way, points), POINTS)


def test_what_a_deadline_climbs():
    found = cascade.ascending(['s28-w03', 's28-w01', 's20-w03', 's20-w01'])
    assert found == ['s20-w03', 's28-w03']
    assert cascade.ascending(['w03', 'w00']) == []


def exits(seen):
    """Passes whose points are exits: each adds to a sum that the one before has left."""

    def turns(points):
        name, _, last = points[-1].partition('-x')

        def stage(k):
            def run(*feeds):
                before = np.zeros([len(feeds[0]), CLASSES], np.float32)
                images = feeds[0]
                if k:
                    images, before = feeds
                seen.setdefault(f'{name}-x{k}', []).append(len(images))
                total = before + logits_of(f'{name}{k}', images)
                return [total.argmax(1), total.max(1), total, images, total]

            # As networks call them: alike at every size.
            return Stage(['pixels', 'sum'] if k else [], ['pixels', 'sum'], run)

        count = int(last) + 1
        stages = [stage(k) for k in range(count)]
        rule = Preprocessing('shift', 20, (SIZES[name],), 'area', 'unit_rgb')
        return [Turn(rule, stages, [f'{name}-x{k}' for k in range(count)])]

    return turns


@pytest.mark.parametrize('combine', chains.COMBINES)
@pytest.mark.parametrize('size', [3, N])
def test_exits_go_on_and_sizes_begin_anew(combine, size):
    """Exits in between run, and no image leaves at them."""
    points = ('s12-x1', 's20-x0', 's20-x2')
    seen = {}
    combination = Combination(combine, (1.0, 1.0, 1.0))
    chain = Chain(exits(seen), points, combination)
    assert chain.ends == [1, 2, 4] and len(chain.stages) == 5
    assert chain.thresholds([1, 2, 3]) == [NEVER, 1, 2, NEVER, 3]
    every = Chain(exits({}), points).every([VIEWS[20]])
    own = {}
    for point, scores in zip(points, every):
        name, _, last = point.partition('-x')
        parts = [logits_of(f'{name}{k}', IMAGES) for k in range(int(last) + 1)]
        own[point] = np.sum(parts, axis=0)
        expected = chains.log_probabilities(own[point])
        np.testing.assert_allclose(scores, expected, rtol=1e-4)
    total, stages, confidence = None, np.full(N, 2), None
    for k, point in enumerate(points):
        said = combination.answer(k, own[point], total)
        total = said.total if combination.sums else None
        if k < 2:
            limit = float(np.median(said.confidence[stages == 2]))
            confidence = [*(confidence or []), limit]
            stages[(stages == 2) & (said.confidence >= limit)] = k
    seen.clear()
    queue = Queue(chain, chain.thresholds([*confidence, ALWAYS]), size)
    for start in range(0, N, size):
        queue.add([VIEWS[20][start : start + size]])
    found = queue.finish()
    assert [chain.point_of(stage) for stage in found.exits] == stages.tolist()
    ran = [sum(seen[name]) for name in ('s12-x1', 's20-x0', 's20-x1', 's20-x2')]
    left = np.count_nonzero(stages == 2)
    assert ran == [N, np.count_nonzero(stages > 0), left, left] and 0 < left < N


def test_an_exit_is_passed_again_where_another_size_ran_in_between():
    points = ('s20-x0', 's12-x2', 's20-x2')
    chain = Chain(exits({}), points)
    assert chain.ends == [0, 3, 6]
    every = chain.every([VIEWS[20]])
    confidence = np.stack([one.max(axis=1) for one in every], axis=1)  # [N, 3]
    limits = [*np.median(confidence[:, :2], axis=0), ALWAYS]
    found = chain.way(limits).answer([VIEWS[20]])
    stages = (confidence >= limits).argmax(axis=1)
    assert set(stages) == {0, 1, 2}
    assert found.stages == [points[: k + 1] for k in stages]
    labels = [every[k][image].argmax() for image, k in enumerate(stages)]
    np.testing.assert_array_equal(found.labels, labels)
    alone = Chain(exits({}), points[2:]).every([VIEWS[20]])
    np.testing.assert_array_equal(every[2], alone[0])
