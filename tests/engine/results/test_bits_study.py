"""Tables and figure of a study of bits, from records that are written here."""

import dataclasses

import numpy as np
import pytest

from engine.errors import UsageError
from engine.results import bits_study
from engine.results.bits_study import BITS, INDIVIDUAL, NESTED, OWN
from engine.results.study_records import HOLDOUT, TEST, Result, Study

# Top-1 by kind, seed, bits and size (28, 12): [2, 3, 2].
SCORES = {
    INDIVIDUAL: [[[94, 92], [93, 91], [90, 88]], [[95, 92], [93, 92], [91, 88]]],
    OWN: [[[94, 91], [93, 90], [90, 87]], [[94, 92], [93, 91], [90, 88]]],
    NESTED: [[[93, 92], [92, 91], [89, 88]], [[95, 93], [94, 92], [90, 89]]],
}
WEIGHTS = 8000  # of quantized layers


def result(recipe, seed, bits, top1, **values):
    own = {
        'task': f'{recipe}-{bits}-{seed}',
        'rate': 0.02,
        'steps': 100,
        'scored': TEST,
        'step_ms': 50.0 * (seed + 1),
        'weight_bytes': WEIGHTS,
        **values,
    }
    return Result(
        weight='lq', activation='lq', bits=bits, seed=seed, top1=top1, recipe=recipe, **own
    )


def networks(recipe, seed):
    """Those of one seed: of a network of one precision three files."""
    scores = dict(zip(BITS, SCORES[recipe][seed]))
    if recipe == INDIVIDUAL:
        found = []
        for bits, top1 in scores.items():
            points = dict(zip(('s28', 's12'), top1))
            found.append(result(recipe, seed, bits, points, code_bytes=WEIGHTS * bits // 8))
        return found
    points = {}
    for bits, top1 in scores.items():
        points |= {f's28-b{bits}': top1[0], f's12-b{bits}': top1[1]}
    stored = max(BITS) if recipe == NESTED else sum(BITS)
    return [result(recipe, seed, max(BITS), points, code_bytes=WEIGHTS * stored // 8)]


@pytest.fixture
def study():
    results = []
    for seed in (0, 1):
        for recipe in SCORES:
            results += networks(recipe, seed)
        for way, top1 in (('mean-labels', 90.0), ('sum-next', 91.0 - 3 * seed)):
            points = {f's28-b{bits}': top1 + bits for bits in BITS}
            results.append(result(way, seed, max(BITS), points, scored=HOLDOUT))
    parent = result('', 0, 32, {'s28': 99.0})
    return Study({'seeds': 2}, [parent, *results])


def cells_of(table):
    lines = [line for line in table.shown('markdown').splitlines() if line.startswith('|')]
    header, _, *found = ([cell.strip() for cell in line.split('|')[1:-1]] for line in lines)
    return [dict(zip(header, row)) for row in found]


def test_table(study):
    methods, ways = map(cells_of, bits_study.tables(study))
    assert [row['trained'] for row in methods] == [bits_study.LABELS[recipe] for recipe in SCORES]
    assert [row['trained'] for row in ways] == ['mean, labels', 'sum, next']
    alone, nested = (np.mean(SCORES[recipe], axis=2) for recipe in (INDIVIDUAL, NESTED))  # [2, 3]
    differences = nested - alone
    texts = []
    for place, bits in enumerate(BITS):
        values = nested[:, place]
        expected = f'{values.mean():.2f} ±{values.std(ddof=1):.2f}'
        assert methods[2][f'W{bits}A{bits}'] == expected
        pairs = differences[:, place]
        texts.append(f'{pairs.mean():+.2f} ({pairs.std(ddof=1):.2f})')
    compared = 'at 4 / 3 / 2 bits (sd of pairs)'
    assert methods[2][f'minus three networks {compared}'] == ' / '.join(texts)
    assert methods[0][f'minus three networks {compared}'] == '-'
    whole = nested.mean(axis=1)
    assert methods[2]['mean'] == f'{whole.mean():.2f} ±{whole.std(ddof=1):.2f}'
    assert ways[1][f'minus the first {compared}'] == ' / '.join(['-0.50 (2.12)'] * 3)


def test_bytes_and_times_are_of_all_files(study):
    methods, _ = bits_study.tables(study)
    alone, own, nested = methods.data()
    assert alone['code_bytes'] == own['code_bytes'] == WEIGHTS * 9 / 8
    assert nested['code_bytes'] == WEIGHTS / 2
    assert (alone['weight_bytes'], nested['weight_bytes']) == (3 * WEIGHTS, WEIGHTS)
    # The median of 100 steps at 50 ms and at 100 ms, of three networks and of one.
    assert (alone['cpu_seconds'], nested['cpu_seconds']) == (22.5, 7.5)
    assert (alone['seeds'], alone['minus_b4'], nested['sd_mean']) == (
        2,
        None,
        pytest.approx(0.943, abs=1e-3),
    )


def test_all_rows_have_the_same_seeds(study):
    """A seed that is not done counts nowhere; one whose training failed does where it has not."""
    begun = result(INDIVIDUAL, 2, 4, {'s28': 10.0})
    more = dataclasses.replace(study, results=[*study.results, begun])
    assert bits_study.tables(more)[0].rows == bits_study.tables(study)[0].rows
    changed = []
    for one in study.results:
        if (one.recipe, one.seed) == (NESTED, 1):
            one = dataclasses.replace(one, top1={}, scored='', failed='no number')
        changed.append(one)
    alone, _, nested = bits_study.tables(dataclasses.replace(study, results=changed))[0].data()
    assert (alone['seeds'], nested['seeds']) == (2, 1)
    assert nested['minus_b3'] == np.mean(SCORES[NESTED][0][1]) - np.mean(SCORES[INDIVIDUAL][0][1])


def test_a_row_needs_every_precision(study):
    kept = [one for one in study.results if (one.recipe, one.bits) != (INDIVIDUAL, 2)]
    found = bits_study.tables(dataclasses.replace(study, results=kept))[0].data()
    assert [row['recipe'] for row in found] == [OWN, NESTED]
    assert all(row['minus_b4'] is None for row in found)


def test_ways_are_chosen_by_what_was_set_aside(study):
    # Means 93 and 93; 93 and 94 - 3.
    assert bits_study.chosen(study.results, 4) == 'mean-labels'
    first = [one for one in study.results if one.seed == 0]
    assert bits_study.chosen(first, 2) == 'sum-next'
    assert bits_study.chosen(first, 4) == ''
    failed = [
        dataclasses.replace(one, top1={}) if one.recipe == 'sum-next' else one for one in first
    ]
    assert bits_study.chosen(failed, 2) == 'mean-labels'


def test_figure(study):
    axes = bits_study.draw(study).axes[0]
    lines = {bar.get_label(): bar.lines[0] for bar in axes.containers}
    assert list(lines) == ['three networks', 'one network, lq', 'one network, lq(nested=True)']
    apart, _, nested = (line.get_xdata().tolist() for line in lines.values())
    assert apart == [2.0, 5.0, 9.0] and nested == [2.0, 3.0, 4.0]
    heights = lines['one network, lq(nested=True)'].get_ydata().astype(float)
    np.testing.assert_allclose(heights, np.mean(SCORES[NESTED], axis=(0, 2))[::-1])


def test_a_figure_of_nothing():
    assert not any(table.rows for table in bits_study.tables(Study({}, [])))
    with pytest.raises(UsageError, match='nothing is scored yet'):
        bits_study.draw(Study({}, []))
