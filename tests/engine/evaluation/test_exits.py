"""What is written about exits, against the network's own answers image by image.

Answers of several predictors.
"""

import dataclasses
import json
import time

import numpy as np
import pytest

from engine.data import animals28
from engine.data.sources import ArraySource, Subset
from engine.data.spec import Dataset
from engine.errors import UsageError
from engine.evaluation import exit_policy
from engine.evaluation.evaluate import Score, evaluate, score
from engine.evaluation.evaluators import exits
from engine.evaluation.evaluators.evaluator import Evaluation
from engine.evaluation.records import records
from engine.files import read_json
from engine.graph.tower import Model
from engine.results import exit_thresholds
from tests.engine.deployment.test_early_exit import (
    EXITS,
    IMAGES,
    TINY,
    answers,
    network,
    random_thresholds,
)

N = len(IMAGES)
# By a stride, so that both parts have several classes.
VAL, HELD = np.arange(0, N, 2), np.arange(1, N, 2)
CLASSES = tuple('abcdefghij')


@pytest.fixture(scope='module')
def dataset():
    """Every label is that of the deepest exit at 28 pixels, or of the one before.

    Some answers are right.
    """
    labels, _ = answers(network('float')[2], 28)
    train = ArraySource(IMAGES, np.where(np.arange(N) % 3, labels[:, 2], labels[:, 1]))
    return Dataset('few', animals28.SPEC, CLASSES, train, Subset(train, VAL), Subset(train, HELD))


@pytest.fixture(scope='module')
def scored(dataset):
    """Layer records, and the score of the validation images."""
    model, values, _ = network('float')
    (result,) = evaluate(model, values, dataset, threads=0)
    return model.inspect()[1], result


@pytest.fixture(scope='module')
def written(dataset, scored, tmp_path_factory):
    """Folder and text of a report."""
    model, values, _ = network('float')
    folder = tmp_path_factory.mktemp('report')
    evaluation = Evaluation(model, *scored, folder, values, dataset, threads=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exits, 'ROUNDS', 1)
        return folder, exits.Exits().report(evaluation)


def test_answers_are_kept_by_image_and_point(scored, dataset):
    """Columns in the order of the points: strongest first at each size."""
    model, _, logits = network('float')
    assert [str(point) for point in model.net.points] == [
        's28-x2',
        's28-x1',
        's28-x0',
        's20-x2',
        's20-x1',
        's20-x0',
    ]
    confidence, right = scored[1].per_image['confidence'], scored[1].per_image['right']
    for size, part in ((28, slice(3)), (20, slice(3, 6))):
        labels, expected = answers(logits, size)
        np.testing.assert_allclose(confidence[:, part], expected[VAL, ::-1], atol=1e-4)
        np.testing.assert_array_equal(
            right[:, part], labels[VAL, ::-1] == dataset.val.labels[:, None]
        )
    counts = scored[1].correct[:6, 0]
    np.testing.assert_array_equal(counts, right.sum(0))
    assert 0 < right.sum() < right.size


@pytest.mark.parametrize('size', TINY.sizes)
def test_files_hold_the_exits_shallowest_first(size, written, dataset):
    labels, confidence = answers(network('float')[2], size)
    right = labels == dataset.train.labels[:, None]
    with np.load(written[0] / 'exits' / f's{size}.npz') as arrays:
        assert set(arrays) == {'confidence', 'right', 'test_confidence', 'test_right'}
        for start, part in (('', HELD), ('test_', VAL)):
            np.testing.assert_allclose(arrays[f'{start}confidence'], confidence[part], atol=1e-4)
            np.testing.assert_array_equal(arrays[f'{start}right'], right[part])
            assert (arrays[f'{start}confidence'].dtype, arrays[f'{start}right'].dtype) == (
                np.float64,
                bool,
            )
    assert (written[0] / 'exits' / f's{size}.png').read_bytes().startswith(b'\x89PNG')


def test_measured_times(written):
    found = read_json(written[0] / 'exits' / 'latency.json', dict[str, dict[str, float]], '')
    assert set(found) == {f's{size}-x{k}' for size in TINY.sizes for k in range(EXITS)}
    assert all(
        set(row) == {'batch1_ms', 'batch32_ms'} and min(row.values()) > 0 for row in found.values()
    )


@pytest.mark.parametrize('size', TINY.sizes)
def test_tables(size, written, scored, dataset):
    """A row per exit with what all exits up to it cost, and one per budget."""
    model = network('float')[0]
    labels, _ = answers(network('float')[2], size)
    madds = exits.exit_madds(model, scored[0], size)
    assert (np.diff(madds) > 0).all()
    for k in range(EXITS):
        together = {row.name: row.madds for j in range(k + 1) for row in scored[0][f's{size}-x{j}']}
        assert madds[k] == sum(together.values())
        (row,) = (
            line.split() for line in written[1].splitlines() if line.startswith(f's{size}-x{k}')
        )
        top1 = 100 * (labels[VAL, k] == dataset.val.labels).mean()
        assert row[1:3] == [f'{top1:.2f}', f'{madds[k] / 1e6:.2f}'] and len(row) == 5
    assert written[1].count('budget, M') == 2
    assert (
        len(
            [
                line
                for line in written[1].splitlines()
                if len(line.split()) == 3 and line.split()[0][0].isdigit()
            ]
        )
        == 2 * exits.BUDGETS
    )


def test_without_a_holdout_it_says_so(dataset, scored, tmp_path, monkeypatch):
    model, values, _ = network('float')
    monkeypatch.setattr(exits, '_milliseconds', lambda *_: {1: [1.0, 2.0, 3.0]})
    without = dataclasses.replace(dataset, holdout=None)
    evaluation = Evaluation(model, *scored, tmp_path, values, without, threads=0)
    text = exits.Exits().report(evaluation)
    assert text.count('--holdout') == 2 and 'budget, M' not in text
    with np.load(tmp_path / 'exits' / 's28.npz') as arrays:
        assert set(arrays) == {'test_confidence', 'test_right'}


def policy(**changes):
    given = {
        'size': 28,
        'exits': (0, 1, 2),
        'thresholds': (-0.5, -0.5, exit_thresholds.ALWAYS),
        'budget': 2e6,
        'cost': 1.9e6,
        'unit': 'MAdds',
        'source': 'run/model-3',
    }
    return exit_thresholds.ExitPolicy(**{**given, **changes})


@pytest.mark.parametrize('size', TINY.sizes)
def test_a_policy_runs_as_it_was_simulated(size, dataset, scored, tmp_path):
    model, values, logits = network('float')
    labels, confidence = (array[VAL] for array in answers(logits, size))
    thresholds = random_thresholds(confidence, 3)
    policy(size=size, thresholds=tuple(thresholds)).write(tmp_path / 'mine.json')
    read = exit_policy.read_policy(model, str(tmp_path / 'mine.json'))
    text = exit_policy.evaluate_policy(
        model, values, dataset, read, scored[0], tmp_path, name='mine', threads=0
    )
    path, madds = (
        tmp_path / 'exits' / 'mine-measured.json',
        exits.exit_madds(model, scored[0], size),
    )
    found, right = json.loads(path.read_text()), labels == dataset.val.labels[:, None]
    assert str(path) in text and found['images'] == len(VAL) and found['thresholds']['size'] == size
    for name, limits in (
        ('early exit', thresholds),
        ('all exits', [exit_thresholds.NEVER] * 2 + [exit_thresholds.ALWAYS]),
    ):
        top1, spent, shares = exit_thresholds.dynamic(confidence, right, np.array(limits), madds)
        assert found[name].pop('images_per_second') > 0
        assert {key: pytest.approx(value) for key, value in found[name].items()} == {
            'top1': top1,
            'madds': spent,
            'shares': shares.tolist(),
        }
    assert found['early exit']['madds'] < found['all exits']['madds'] == madds[-1]


@pytest.mark.parametrize(
    'changes, parts',
    [
        ({'size': 24}, ('size 24', 'sizes 28 20')),
        ({'exits': (0, 1), 'thresholds': (0, 0)}, ('exits 0 1', '3 exits')),
        ({'exits': (0, 1, 3)}, ('exits 0 1 3', '3 exits')),
    ],
)
def test_a_policy_for_another_network(changes, parts, tmp_path):
    policy(**changes).write(tmp_path / 'other.json')
    with pytest.raises(UsageError) as caught:
        exit_policy.read_policy(network('float')[0], str(tmp_path / 'other.json'))
    for part in (*parts, '--thresholds', 'other.json'):
        assert part in str(caught.value)


def test_a_policy_needs_exits(tmp_path):
    plain = Model(TINY.replacing(net='rsnet', arch='resnet8', kd_type='none'), data_format='NHWC')
    with pytest.raises(UsageError, match='--thresholds .*x.json: --net rsnet has no exits'):
        exit_policy.read_policy(plain, str(tmp_path / 'x.json'))


@pytest.mark.parametrize('predictors', [1, 2, 3])
def test_answers_come_in_the_order_of_the_images(predictors):
    """Whichever predictor is the first to be done."""
    batches = [
        [np.arange(start, min(start + 4, 30)), np.zeros(min(4, 30 - start))]
        for start in range(0, 30, 4)
    ]

    def predictor(delay):
        def run(numbers, labels):
            time.sleep(delay if numbers[0] % 8 else 0)
            return (
                np.array([[len(numbers), 1]], np.int32),
                numbers.astype(np.float32),
                numbers % 2 == 0,
            )

        return run

    class Net:
        accumulator_names = ()
        per_image_names = ('number', 'even')

    delayed = [predictor(0.02 * k) for k in range(predictors)]
    found = score(delayed, batches, len(batches), Net())
    np.testing.assert_array_equal(found.per_image['number'], np.arange(30))
    np.testing.assert_array_equal(found.per_image['even'], np.arange(30) % 2 == 0)
    assert found.correct.tolist() == [[30, 8]] and not found.accumulators and found.images == 30


def test_records_of_a_size_with_borrowed_statistics():
    """Ensembles of exits are of that size too."""
    names = ['s28-x1', 's20-x1', 'ensemble-s28-x1', 'ensemble-s20-x1', 'ensemble']
    result = Score(np.ones((5, 2)), {}, {}, 4, 0.1)
    found = records(names, result, data='few', prefix='run/model-3', lenders={20: 's28'})
    assert [row.bn for row in found] == ['s28-x1', 's28', 'ensemble-s28-x1', 's28', 'ensemble']
    assert [row.file for row in found][1::2] == ['s20-x1@s28.json', 'ensemble-s20-x1@s28.json']
