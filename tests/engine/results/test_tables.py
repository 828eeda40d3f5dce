"""Rows of runs: costs, order, curves, and damaged records."""

import json
import shlex
from pathlib import Path

import pytest

from engine.errors import UsageError
from engine.results import accuracy_figure, formats, page, rendering, tables
from engine.results.tables import Row
from tests.engine.results.run_folders import rs_run, score

# 9408 * 112^2 + 36864 * 56^2, and 9408 * 96^2 + 36864 * 48^2.
MADDS = {'s224': 233_619_456, 's192': 171_638_784}
WEIGHT_BYTES = 47_360  # 9408 * 4 + (36864 * 2 bits + 128 * 32 bits) / 8


def test_rows_cost_and_order(rs_net):
    rows = tables.read_run(rs_net, 'rs-kd').rows
    assert [row.label for row in rows] == ['224', '192', '192 (BN 224)', 'ensemble']
    both = MADDS['s224'] + MADDS['s192']
    assert [row.madds for row in rows] == [MADDS['s224'], MADDS['s192'], MADDS['s192'], both]
    assert [row.weight_bytes for row in rows] == [WEIGHT_BYTES] * 4
    assert [row.published and row.published.top1 for row in rows] == [65.8, 64.8, None, None]
    assert [row.difference for row in rows] == [0.3, -0.3, None, None]


def test_a_gate_costs_what_it_was_measured_to(routed):
    known = tables.read_run(routed, 'run').rows[-1]
    assert known.is_dynamic and (known.madds, known.bit_ops) == (1_200_000, 1_200_000 * 32 * 32)
    (routed / 'routes' / 's28.json').unlink()
    unknown = tables.read_run(routed, 'run').rows[-1]
    assert unknown.is_dynamic and (unknown.madds, unknown.bit_ops) == (None, None)
    assert unknown.weight_bytes == known.weight_bytes


def test_points_are_strongest_first():
    points = [('w03', 'w03'), ('ensemble', 'ensemble'), ('w13', 'w13'), ('w03', 'w13')]
    rows = [Row('run', 2, 2, point, bn, None, None, 0.0, 0.0) for point, bn in points]
    found = sorted(rows, key=tables.sort_key)
    assert [(row.point, row.bn) for row in found] == [
        ('w13', 'w13'),
        ('w03', 'w03'),
        ('w03', 'w13'),
        ('ensemble', 'ensemble'),
    ]


def test_same_base_names_are_told_apart(rs_net, tmp_path):
    other = rs_run(tmp_path / 'b' / 'rs-kd', [score('s224', 60.0)])
    runs = tables.read_runs([str(rs_net), str(other), f'{rs_net}/'])
    assert [run.name for run in runs] == [str(rs_net), str(other)]


def test_individual_models_of_one_network_are_one_curve(tmp_path):
    """A model of another quantizer is none of them."""
    for size, changes in ((224, {}), (192, {'quantizer': 'lq'}), (160, {'quantizer': 'lsq'})):
        rs_run(tmp_path / f'at{size}', [score(f's{size}', 60.0)], sizes=[size], **changes)
    runs = tables.read_runs([str(path) for path in sorted(tmp_path.iterdir())])
    found = {label: [row.point for row in rows] for label, rows in tables.curves(runs)}
    assert found == {'at160 (2/2)': ['s160'], 'individual resnet18 (2/2)': ['s224', 's192']}


def test_runs_of_one_name_in_a_table_stay_apart(tmp_path):
    """They stand together, also where no point is in both."""
    rows = []
    for qw, point in ((32, 's28'), (2, 's20')):
        fields = dict.fromkeys(tables.TABLE_FIELDS, 1)
        rows.append({**fields, 'run': 'net', 'qw': qw, 'qa': 32, 'point': point, 'bn': point})
    path = tmp_path / 'table.json'
    path.write_text(json.dumps({'rows': rows}))
    labels = [label for label, _ in tables.curves(tables.read_table(path))]
    assert labels == ['net (32/32)', 'net (2/32)']


@pytest.mark.parametrize(
    ('path', 'text', 'message'),
    [
        ('config.json', None, 'config.json: cannot be read'),
        ('config.json', '{', 'config.json: damaged'),
        ('layers.json', None, '--eval -ec'),
        ('layers.json', '{"s224": [{"name": "x"}]}', '"s224[0].role": is missing'),
        ('layers.json', '{}', 'point ensemble is not in layers.json'),
        ('eval/s224.json', '[]', 's224.json: damaged'),
        (
            'eval/s224.json',
            '{"point": "s224", "top1": NaN, "top5": 1}',
            '"top1": nan, a finite number',
        ),
        ('profile.json', '{"points": {"s224": {}}}', 'profile.json: damaged'),
        ('gates/s224.json', '{}', 's224.json: damaged'),
    ],
)
def test_damaged_run(path, text, message, rs_net):
    (rs_net / path).parent.mkdir(exist_ok=True)
    (rs_net / path).unlink(missing_ok=True)
    if text is not None:
        (rs_net / path).write_text(text)
    with pytest.raises(UsageError) as error:
        tables.read_run(rs_net, 'run')
    assert message in str(error.value) and str(rs_net) in str(error.value)


def two_data_sets(tmp_path):
    """Two runs whose images differ."""
    here = rs_run(tmp_path / 'here', [score('s224', 66.0)])
    there = rs_run(tmp_path / 'there', [score('s224', 99.0)], data='/data/easy', classes=10)
    return [str(here), str(there)]


def test_curves_of_other_data_are_named_apart(tmp_path):
    runs = tables.read_runs(two_data_sets(tmp_path))
    (first, _), (second, _) = tables.curves(runs)
    assert first.startswith('here (2/2), ') and '1000 classes' in first
    assert second.startswith('there (2/2), ') and '10 classes' in second
    assert [label for label, _ in tables.curves(runs[:1])] == ['here (2/2)']


def test_individual_models_of_other_data_are_no_curve(tmp_path):
    folders = []
    for size, inputs in ((224, 'unit_rgb'), (192, 'normalized_bgr')):
        run = rs_run(tmp_path / str(size), [score(f's{size}', 60.0)], sizes=[size], inputs=inputs)
        folders.append(str(run))
    assert len(tables.curves(tables.read_runs(folders))) == 2


def test_every_view_names_other_data(tmp_path):
    runs = tables.read_runs(two_data_sets(tmp_path))
    for style in formats.FORMATS:
        for compare in (False, True):
            text = rendering.render(runs, style, compare)
            # Of a text, cells may have several lines.
            shown = ' '.join(text.split()) if style != 'text' else text.replace('classes', '')
            parts = ('10 classes', '1000 classes') if style != 'text' else ('10', '1000')
            assert all(part in shown for part in parts), style
    for style in ('markdown', 'latex', 'csv'):
        assert 'classes' not in rendering.render(runs[:1], style, False)


def test_a_table_knows_what_it_was_measured_on(tmp_path):
    runs = tables.read_runs(two_data_sets(tmp_path))
    files = []
    for run in runs:
        files.append(tmp_path / f'{run.name}.json')
        files[-1].write_text(rendering.render([run], 'json', False))
    known = tables.read_table(files[0]) + tables.read_table(files[1])
    assert [label for label, _ in tables.curves(known)] == [
        label for label, _ in tables.curves(runs)
    ]


def fronts(curves):
    """The lines behind all others."""
    lines = accuracy_figure.draw(curves).axes[0].lines
    return [line for line in lines if line.get_zorder() == 0]


def test_the_front_and_the_page_are_of_comparable_runs(tmp_path):
    folders = two_data_sets(tmp_path)
    curves = tables.curves(tables.read_runs(folders))
    assert len(fronts(curves)) == 0
    again = rs_run(tmp_path / 'again', [score('s224', 65.0)])
    assert len(fronts(tables.curves(tables.read_runs([folders[0], str(again)])))) == 1
    text = page.page(folders)
    assert text.count('<h3>imagenet; ') + text.count('<h3>folder; ') == 2
    (tmp_path / 'there' / 'model-5.index').unlink()
    again = page.page(folders)
    assert f'-ec {folders[0]}' in again and f'-ec {folders[1]}' not in again
    assert '<h3>imagenet; ' not in again


@pytest.mark.parametrize('name', ["it's [1]", '-run'])
def test_what_repairs_records_can_be_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rs_run(tmp_path / name, [])
    with pytest.raises(UsageError) as caught:
        tables.read_runs([name])
    command = str(caught.value).split('`')[1]
    assert Path(shlex.split(command)[3]).samefile(name)
