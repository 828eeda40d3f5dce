"""Table and figure of a study of quantizers, from records that are written here."""

import dataclasses

import numpy as np
import pytest

from engine.errors import UsageError
from engine.results import quantizer_study, study_records
from engine.results.study_records import HOLDOUT, TEST, Result, Study

# Top-1 at two sizes, by method and seed.
SCORES = {
    ('lq', 'lq', 2): [(90.0, 80.0), (91.0, 82.0), (89.0, 79.0)],
    ('sawb', 'pact', 2): [(92.0, 81.0), (91.0, 83.0), (90.5, 80.0)],
    ('lsq', 'lsq', 4): [(93.0, 90.0)],
}


def result(method, seed, top1, **values):
    weight, activation, bits = method
    own = {
        'task': f'{weight}-{activation}-{bits}-{seed}',
        'rate': 0.02,
        'steps': 5,
        'scored': TEST,
        'top1': dict(zip(('s28', 's12'), top1)),
        'step_ms': 70.0 + seed,
        'weight_bytes': 12340,
        **values,
    }
    return Result(weight=weight, activation=activation, bits=bits, seed=seed, **own)


@pytest.fixture
def study():
    results = []
    for method, scores in SCORES.items():
        for seed, top1 in enumerate(scores):
            results.append(result(method, seed, top1))
    results.append(result(('lq', 'lq', 2), 0, (99.0, 99.0), task='choice', scored=HOLDOUT))
    results.append(
        result(('lq', 'lq', 2), 0, (), task='file', scored='', file_bytes=45600, step_ms=None)
    )
    results.append(result(('ewgs', 'ewgs', 2), 0, (), task='bad', scored='', failed='no number'))
    results.append(result(('float', 'float', 32), 0, (95.0, 93.0)))
    return Study({'seeds': 3}, results)


def cells_of(study):
    text = quantizer_study.table(study, 'lq').shown('markdown')
    lines = [line for line in text.splitlines() if line.startswith('|')]
    header, _, *rows = ([cell.strip() for cell in line.split('|')[1:-1]] for line in lines)
    return [dict(zip(header, row)) for row in rows]


def test_table(study):
    found = cells_of(study)
    assert [(row['bits'], row['weights + activations']) for row in found] == [
        ('float', '-'),
        ('W4A4', 'lsq'),
        ('W2A2', 'sawb + pact'),
        ('W2A2', 'lq'),
    ]
    own = np.mean(SCORES['sawb', 'pact', 2], axis=1)  # [3]
    default = np.mean(SCORES['lq', 'lq', 2], axis=1)
    pairs = own - default
    assert found[2]['top-1'] == f'{own.mean():.2f} ±{own.std(ddof=1):.2f}'
    assert (
        found[2]['minus default (sd of pairs)'] == f'{pairs.mean():+.2f} ({pairs.std(ddof=1):.2f})'
    )
    assert found[2]['by size'] == '91.2 / 81.3'
    assert found[3]['minus default (sd of pairs)'] == '-'
    assert (found[3]['CPU ms / step'], found[3]['weights kB']) == ('70', '12.3')
    assert [row['file kB'] for row in found] == ['-', '-', '-', '45.6']
    assert (found[1]['top-1'], found[1]['minus default (sd of pairs)']) == ('91.50', '-')
    assert study_records.failures(study) == ['* bad: no number']
    without = [one for one in study.results if one.file_bytes is None]
    few = cells_of(dataclasses.replace(study, results=without))
    assert list(few[0]) == [name for name in found[0] if name != 'file kB']


def test_differences_are_of_the_same_seed(study):
    kept = [one for one in study.results if one.task != 'lq-lq-2-0']
    rows = quantizer_study.rows(dataclasses.replace(study, results=kept), 'lq')
    (row,) = [row for row in rows if row.results[0].method.label == 'sawb + pact']
    assert row.differences == [87.0 - 86.5, 85.25 - 84.0]


def test_figure(study):
    figure = quantizer_study.draw(study, 'lq')
    panels = figure.axes
    assert [panel.get_title(loc='left') for panel in panels] == ['W4A4', 'W2A2']
    labels = [label.get_text() for label in panels[1].get_yticklabels()]
    assert labels == ['sawb + pact', 'lq']
    dots = [line.get_xdata() for line in panels[1].lines if line.get_marker() == 'o']
    expected = [np.mean(SCORES[key], axis=1).tolist() for key in list(SCORES)[1::-1]]
    assert [list(dot) for dot in dots] == expected


def test_a_method_far_below_stands_at_the_edge(study):
    far = result(('ewgs', 'ewgs', 2), 1, (30.0, 20.0))
    figure = quantizer_study.draw(dataclasses.replace(study, results=[*study.results, far]), 'lq')
    panel = figure.axes[1]
    assert [text.get_text() for text in panel.texts] == [
        '\N{BLACK LEFT-POINTING SMALL TRIANGLE} 25.0'
    ]
    best = np.mean(SCORES['sawb', 'pact', 2])
    assert panel.get_xlim()[0] == pytest.approx(best - quantizer_study.SHOWN - 0.3)


def test_a_figure_of_nothing(study):
    assert not quantizer_study.table(Study({}, []), 'lq').rows
    with pytest.raises(UsageError, match='nothing is scored yet'):
        quantizer_study.draw(dataclasses.replace(study, results=study.results[-1:]), 'lq')


def test_records_come_back(study, tmp_path):
    study_records.write(tmp_path, study)
    assert study_records.read(tmp_path) == study
    assert study_records.read(tmp_path / study_records.RECORDS) == study
    with pytest.raises(UsageError, match='no such file; give the folder of a study'):
        study_records.read(tmp_path / 'other')
