"""Cascades on recorded answers: against loops over images, and a calibration against a grid."""

import dataclasses
import itertools

import numpy as np
import pytest

from engine.errors import UsageError
from engine.files import read_json, write_json
from engine.results import (
    calibration,
    cascade_search,
    cascades,
    chains,
    exit_thresholds,
    replays,
)
from engine.results import point_answers as record
from engine.results.cascades import Cascade, Interval, Judged
from engine.results.exit_records import HOLDOUT, VALIDATION
from engine.results.point_answers import Answers
from engine.results.replays import Replay

SINGLE = {'s12': 2e6, 's16': 3e6, 's20': 5e6}


def answers(images=300, classes=6, seed=0, strength=(0.8, 1.0, 1.3)):
    """Answers of three points, of which larger ones are right more often; some images are ties."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=images)
    hard = rng.normal(0, 1, [images, classes])
    points, logits = {}, {}
    for (name, _), factor in zip(SINGLE.items(), strength):
        own = hard + rng.normal(0, 0.5, hard.shape)
        own[np.arange(images), labels] += 2 * factor
        own[:3] = 0.0
        own = own.astype(np.float32)
        logits[name] = own
        points[name] = record.sparse(own)
    return Answers(labels, classes, points), logits


@pytest.mark.parametrize('classes', [2, 6, record.KEPT, 200])
def test_logits_are_kept(classes):
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 3, [9, classes]).astype(np.float32)
    found = record.sparse(logits).dense(classes)
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    order = np.argsort(-shifted, axis=1)[:, : record.KEPT]
    expected = np.take_along_axis(shifted, order, 1)
    np.testing.assert_allclose(np.take_along_axis(found, order, 1), expected, atol=1e-6)
    np.testing.assert_allclose(np.exp(found).sum(1), np.exp(shifted).sum(1), rtol=1e-5)


def test_a_record_comes_back(tmp_path):
    held, test = answers(seed=1)[0], answers(40, classes=50, seed=2)[0]
    path = tmp_path / record.FILE
    assert record.read(path, 'abc') is None
    record.write(path, {HOLDOUT: held, VALIDATION: test}, 'abc')
    assert record.read(path, 'another') is None
    found = record.read(path, 'abc')
    for name, before in ((HOLDOUT, held), (VALIDATION, test)):
        after = found[name]
        np.testing.assert_array_equal(after.labels, before.labels)
        assert after.classes == before.classes and set(after.points) == set(SINGLE)
        for point, logits in before.points.items():
            for field, value in vars(logits).items():
                np.testing.assert_array_equal(getattr(after.points[point], field), value)


@pytest.mark.parametrize(
    'change',
    [
        {'holdout.s12.values': np.full([300, 6], np.nan, np.float32)},
        {'holdout.labels': np.full(300, 6)},
        {'holdout.labels': np.zeros(299, int)},
        {'holdout.s12.ids': np.full([300, 6], -1, np.int32)},
        {'holdout.s12.rest': np.zeros([300, 2], np.float32)},
        {'holdout.classes': np.array(7)},
    ],
)
def test_a_damaged_record_is_refused(change, tmp_path):
    path = tmp_path / record.FILE
    found = answers()[0]
    record.write(path, {HOLDOUT: found, VALIDATION: found}, 'abc')
    with np.load(path) as stored:
        np.savez(path, **({name: stored[name] for name in stored} | change))
    with pytest.raises(UsageError, match=r'answers.npz: damaged \(hold-out\); delete it'):
        record.read(path, 'abc')


@pytest.mark.parametrize('combine', chains.COMBINES)
def test_stages_by_images(combine, monkeypatch):
    """In parts of images, too."""
    monkeypatch.setattr(replays, '_PART', 77)
    found, logits = answers()
    temperatures = {'s12': 0.5, 's20': 2.0}
    points = ['s12', 's16', 's20']
    stages = Replay(found, combine, temperatures).stages(points)
    for image in range(0, 300, 7):
        total = np.zeros(6)
        for k, name in enumerate(points):
            scaled = logits[name][image].astype(float) / temperatures.get(name, 1.0)
            softmax = np.exp(scaled) / np.exp(scaled).sum()
            total += softmax
            shown = total / (k + 1) if combine == chains.MEAN else softmax
            label = found.labels[image]
            assert stages.confidence[image, k] == pytest.approx(np.log(shown.max()), abs=1e-6)
            if image >= 3:
                assert stages.right[image, k] == (shown.argmax() == label)
                assert stages.near[image, k] == ((shown > shown[label]).sum() < 5)


def test_judged():
    stages = Replay(answers()[0], chains.LAST, {}).stages(['s12', 's20'])
    costs = chains.costs(['s12', 's20'], SINGLE)
    threshold = float(np.median(stages.confidence[:, 0]))
    instead = Replay(answers()[0], chains.LAST, {}).stages(['s16']).right[:, 0]
    found = cascades.judged(stages, np.array([threshold, exit_thresholds.ALWAYS]), costs, instead)
    early = stages.confidence[:, 0] >= threshold
    right = np.where(early, stages.right[:, 0], stages.right[:, 1])
    assert found.images == 300
    assert found.top1 == pytest.approx(100 * right.mean())
    assert found.cost == pytest.approx(np.where(early, 2e6, 7e6).mean())
    assert found.shares == pytest.approx((early.mean(), 1 - early.mean()))
    assert found.stage_top1[1] == pytest.approx(100 * right[~early].mean())
    assert found.gain == pytest.approx(100 * (right.mean() - instead.mean()))
    # Half of an interval is 1.96 standard errors.
    error = 100 * right.std() / np.sqrt(300)
    interval = found.top1_interval
    assert interval.low == pytest.approx(found.top1 - 1.96 * error, abs=0.3 * error)
    assert interval.high == pytest.approx(found.top1 + 1.96 * error, abs=0.3 * error)
    assert found.cost_interval.low < found.cost < found.cost_interval.high


def test_a_stage_that_nobody_leaves():
    stages = Replay(answers()[0], chains.LAST, {}).stages(['s12', 's20'])
    costs = chains.costs(['s12', 's20'], SINGLE)
    everybody = np.array([exit_thresholds.ALWAYS] * 2)
    found = cascades.judged(stages, everybody, costs, stages.right[:, 1])
    assert found.shares == (1.0, 0.0) and found.stage_top1[1] is None
    assert found.cost_interval == Interval(2e6, 2e6)


@pytest.mark.parametrize('factor', [0.4, 1.0, 2.5])
@pytest.mark.parametrize('classes', [6, 60])
def test_temperature(factor, classes):
    """Against a grid; counted columns are as good as all of them."""
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 1, [400, classes])
    chance = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = np.array([rng.choice(classes, p=row) for row in chance])
    logits *= factor
    found = calibration.temperature(logits, labels, np.ones(classes))
    losses = {}
    for inverse in np.linspace(0.05, 5, 400):
        norm = np.log(np.exp(inverse * logits).sum(1))
        losses[inverse] = (norm - inverse * logits[np.arange(400), labels]).mean()
    assert 1 / found == pytest.approx(min(losses, key=losses.get), abs=0.02)
    joined = np.concatenate([logits[:, :2], np.full([400, 1], -1.0)], axis=1)
    whole = np.concatenate([logits[:, :2], np.full([400, 4], -1.0)], axis=1)
    places = np.minimum(labels, 2)
    counted = calibration.temperature(joined, places, np.array([1, 1, 4]))
    assert counted == pytest.approx(calibration.temperature(whole, places, np.ones(6)))


def test_no_temperature_without_mistakes():
    logits = np.array([[3.0, 1.0], [0.0, 5.0]])
    assert calibration.temperature(logits, np.array([0, 1]), np.ones(2)) == 1.0


def test_calibration_error():
    rng = np.random.default_rng(4)
    confidence = np.append(rng.random(500), [0.0, 1.0])
    right = rng.random(502) < confidence**2
    expected = 0.0
    for k in range(15):
        inside = (confidence >= k / 15) & ((confidence < (k + 1) / 15) | (k == 14))
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert calibration.expected_error(confidence, right) == pytest.approx(expected)


def test_a_calibration_helps_images_it_was_not_fitted_on():
    held, test = answers(2000, seed=5)[0], answers(2000, seed=6)[0]
    found = cascades.calibrated(held, test)
    assert set(found) == set(SINGLE)
    for one in found.values():
        assert 0 < one.calibrated_error < one.error
    # A temperature changes no answer.
    plain = Replay(test, chains.LAST, {}).stages(['s20'])
    warm = Replay(test, chains.LAST, {'s20': found['s20'].temperature}).stages(['s20'])
    np.testing.assert_array_equal(plain.right, warm.right)


def test_all_chains():
    expected = set()
    for count in (1, 2, 3):
        expected.update(itertools.combinations(SINGLE, count))
    assert set(cascade_search.all_chains(SINGLE, lambda _: 0.0)) == expected
    equal = {**SINGLE, 's13': 2e6}
    assert ('s12', 's13') not in cascade_search.all_chains(equal, lambda _: 0.0)


def test_of_many_points_those_that_no_other_beats():
    many = {f's{k}': float(k) for k in range(100, 130)}
    found = cascade_search.all_chains(many, lambda name: -(int(name[1:]) % 7))
    points = set(itertools.chain(*found))
    assert points <= {'s100', 's101', 's102', 's103', 's104', 's105', 's112'} and points
    found = cascade_search.all_chains(many, lambda name: int(name[1:]))
    assert len(set(itertools.chain(*found))) == cascade_search.MOST_POINTS


@pytest.mark.parametrize('combine', chains.COMBINES)
def test_chances_are_probabilities_at_the_temperature_that_fits(combine, monkeypatch):
    """In parts of images, too."""
    monkeypatch.setattr(replays, '_PART', 77)
    found, logits = answers()
    points = ['s12', 's16', 's20']
    chances = Replay(found, combine, {'s16': 2.0}).chances(points)
    total = np.zeros([300, 6])
    for k, name in enumerate(points):
        scaled = np.exp(logits[name].astype(float) / (2.0 if name == 's16' else 1.0))
        softmax = scaled / scaled.sum(1, keepdims=True)
        total += softmax
        scores = np.log(total / (k + 1) if combine == chains.MEAN else softmax)
        fitted = calibration.temperature(scores, found.labels, np.ones(6))
        warm = np.exp(scores / fitted)
        expected = warm.max(1) / warm.sum(1)
        np.testing.assert_allclose(chances[:, k], expected, atol=1e-6)


@pytest.mark.parametrize('temperature', [0.5, 1.0, 3.0])
def test_a_probability_of_many_classes(temperature):
    """Classes that are not kept share what is left evenly."""
    rng = np.random.default_rng(7)
    logits = record.sparse(rng.normal(0, 2, [20, 100]))
    dense = np.exp(logits.dense(100) / temperature)
    found = replays.probability(logits, 100, temperature)
    np.testing.assert_allclose(found, dense.max(1) / dense.sum(1))


def test_what_is_expected_goes_less_by_luck_than_what_is_counted():
    """The gain of one point above another, over sets of images; both tell the same in the mean."""
    counted, expected = [], []
    for seed in range(20):
        replay = Replay(answers(seed=seed)[0], chains.LAST, {})
        hits = [replay.stages([name]).right.mean() for name in ('s12', 's16')]
        counted.append(100 * (hits[1] - hits[0]))
        large, small = (cascade_search.alone(replay, name, 3e6) for name in ('s16', 's12'))
        expected.append(large.expected - small.expected)
    assert np.std(expected) < 0.8 * np.std(counted)
    assert np.mean(expected) == pytest.approx(np.mean(counted), abs=0.5)


@pytest.mark.parametrize('combine', chains.COMBINES)
@pytest.mark.parametrize('budget', [2e6, 2.6e6, 4e6, 6e6, 1e9])
def test_the_best_within_a_budget(combine, budget):
    """No candidate, of one stage or more, is expected to be better."""
    replay = Replay(answers(500)[0], combine, {})
    tried = []
    for points in cascade_search.all_chains(SINGLE, lambda _: 0.0):
        tried += cascade_search.candidates(replay, points, SINGLE, [budget])
    best, rows = 0.0, np.arange(500)
    for one in tried:
        stages, chances = replay.stages(one.points), replay.chances(one.points)
        leaves = np.argmax(stages.confidence >= one.thresholds, axis=1)
        right, chance = stages.right[rows, leaves].mean(), chances[rows, leaves].mean()
        assert one.expected == pytest.approx(100 * (right + chance) / 2)
        assert one.cost == pytest.approx(chains.costs(one.points, SINGLE)[leaves].mean())
        if one.cost <= budget:
            best = max(best, one.expected)
    found = cascade_search.within(tried, budget)
    assert found.cost <= budget and found.expected == best
    assert cascade_search.reaching(tried, best).expected >= best


def test_nothing_within_limits():
    replay = Replay(answers()[0], chains.LAST, {})
    tried = cascade_search.candidates(replay, ('s12', 's20'), SINGLE)
    with pytest.raises(UsageError, match='smallest possible budget is 2[0,]*'):
        cascade_search.within(tried, 1e6)
    with pytest.raises(UsageError, match='the most accurate cascade has'):
        cascade_search.reaching(tried, 100.0)


def made(**changes):
    """A cascade of two points."""
    judged = Judged(
        10, 90.0, 99.0, Interval(80, 95), 3e6, Interval(2e6, 4e6), (0.5, 0.5), (90.0, None), 1.0,
        Interval(-1, 2),
    )  # fmt: skip
    plain = Cascade(
        ('s12', 's20'), (-0.1, -1e8), 'last', (1.0, 1.0), '3M', 'MAdds', 'run/model-1', 'abc',
        's12', judged, judged,
    )  # fmt: skip
    return dataclasses.replace(plain, **changes)


def test_a_file_of_a_cascade(tmp_path):
    path = tmp_path / 'one.json'
    cascades.write(path, made())
    assert cascades.read(path) == made()
    assert made().name == 's12+s20'
    made().check_identity('abc', '')
    with pytest.raises(UsageError, match=r'--cascade x: .*another checkpoint \(run/model-1, abc'):
        made().check_identity('abd', '--cascade x')


@pytest.mark.parametrize(
    'changes, part',
    [
        ({'thresholds': [0.0]}, '1 thresholds and 2 temperatures for 2 points'),
        ({'points': []}, '0 points'),
        ({'points': ['s12', '20']}, "operating point '20'"),
        ({'temperatures': [1.0, 0.0]}, 'must be one each'),
        ({'combine': 'first'}, 'combine'),
        ({'unit': 'J'}, 'unit'),
    ],
)
def test_a_file_that_is_none(changes, part, tmp_path):
    path = tmp_path / 'one.json'
    cascades.write(path, made())
    plain = read_json(path, dict[str, object], '')
    write_json(path, plain | changes)
    with pytest.raises(UsageError, match=f'one.json: .*{part}'):
        cascades.read(path)


def test_of_equal_scores_the_lower_class_comes_first():
    labels = np.arange(7)
    logits = {'s12': record.sparse(np.zeros([7, 7]))}
    stages = Replay(Answers(labels, 7, logits), chains.LAST, {}).stages(['s12'])
    assert stages.right[:, 0].tolist() == [True] + [False] * 6
    assert stages.near[:, 0].tolist() == [True] * 5 + [False] * 2


@pytest.mark.parametrize('many, name', [(False, 'sweep-of-mine'), (True, 'curve')])
def test_a_file_of_any_name(many, name, tmp_path):
    """Whether it holds a sweep is told by its content."""
    path = tmp_path / cascades.FOLDER / f'{name}.json'
    path.parent.mkdir()
    one = dataclasses.asdict(made())
    write_json(path, [one, one] if many else one)
    held = cascades.Stored(path, made(), many)
    assert cascades.read_all(tmp_path) == [held] * (1 + many)
