"""scripts.plot: pictures of runs and of tables, and what is refused."""

import json
import sys

import pytest

from engine.results import accuracy_figure, tables
from scripts import accuracy_table, plot
from tests.engine.results.run_folders import RS_NET, layer, plotted_run, score, write_run
from tests.paths import ROOT


def test_writes_a_png(tmp_path):
    output = tmp_path / 'accuracy.png'
    assert plot.main([str(plotted_run(tmp_path / 'rs')), '-o', str(output)]) == 0
    assert output.read_bytes().startswith(b'\x89PNG')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['accuracy.png', 'rs']


def test_a_run_of_the_ensemble_alone(tmp_path, capsys):
    layers = {'s224': [layer('conv', 1000)]}
    config = {**RS_NET, 'sizes': [224]}
    run = write_run(tmp_path / 'rs', config, layers, [score('ensemble', 67.0)])
    assert plot.main([str(run), '-o', str(tmp_path / 'x.png')]) == 2
    assert 'evaluate a size' in capsys.readouterr().err
    assert not (tmp_path / 'x.png').exists()


def test_unknown_ending(tmp_path, capsys):
    run = plotted_run(tmp_path / 'rs')
    assert plot.main([str(run), '-o', str(tmp_path / 'x.doc')]) == 2
    assert 'end it with one of' in capsys.readouterr().err


def test_missing_run(tmp_path, capsys):
    assert plot.main([str(tmp_path / 'none')]) == 2
    assert 'no such run folder' in capsys.readouterr().err


def test_without_matplotlib(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, 'matplotlib.backends.backend_agg', None)
    run = plotted_run(tmp_path / 'rs')
    assert plot.main([str(run), '-o', str(tmp_path / 'x.png')]) == 2
    assert 'pip install .[plots]' in capsys.readouterr().err


@pytest.fixture
def history(tmp_path):
    """A run of two epochs, and of one more operating point than is drawn."""
    run = tmp_path / 'run'
    run.mkdir()
    rows = []
    for epoch in (1, 2):
        tops = {f'val/{point}/top1': 10.0 * epoch for point in ('s28', 's20', 's12', 'mean')}
        dead = {'quant/a/dead_levels': 0.25, 'quant/b/dead_levels': 0.75}
        rows.append({'epoch_num': epoch, 'loss': 1.0 / epoch, **tops, **dead})
    (run / 'stats.json').write_text(json.dumps(rows))
    return run


def test_curves(history, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(plot.figures, 'save', lambda figure, _: drawn.append(figure))
    assert plot.main([str(history), '--curves', '-o', str(tmp_path / 'x.png')]) == 0
    loss, top1, dead = drawn[0].axes
    assert [list(line.get_ydata()) for line in loss.lines] == [[1.0, 0.5]]
    assert [line.get_label() for line in top1.lines] == ['run s28', 'run s12']
    assert [list(line.get_ydata()) for line in top1.lines] == [[10.0, 20.0]] * 2
    assert [list(line.get_ydata()) for line in dead.lines] == [[50.0, 50.0]]


@pytest.mark.parametrize('text', [None, '{', '[]'])
def test_no_curves(text, history, tmp_path, capsys):
    (history / 'stats.json').unlink()
    if text is not None:
        (history / 'stats.json').write_text(text)
    assert plot.main([str(history), '--curves', '-o', str(tmp_path / 'x.png')]) == 2
    assert str(history) in capsys.readouterr().err


def points_of(curves):
    axes = accuracy_figure.draw(curves).axes[0]
    return [line.get_xydata().tolist() for line in axes.lines]


def test_a_table_is_drawn_as_the_runs_are(tmp_path):
    """What accuracy_table has written, without published curves."""
    folders = [str(plotted_run(tmp_path / name, data='fake')) for name in ('a', 'b')]
    table = tmp_path / 'table.json'
    assert accuracy_table.main([*folders, '--format', 'json', '--output', str(table)]) == 0
    known = tables.read_runs(folders)
    found = tables.read_table(table)
    assert [(run.name, run.bits) for run in found] == [(run.name, run.bits) for run in known]
    for theirs, ours in zip(known, found, strict=True):
        for row, again in zip(theirs.rows, ours.rows, strict=True):
            for name in tables.TABLE_FIELDS:
                assert getattr(again, name) == getattr(row, name)
    assert points_of(tables.curves(known)) == points_of(tables.curves(found))
    assert plot.main([str(table), '-o', str(tmp_path / 'x.svg')]) == 0


def test_the_table_of_the_readme():
    found = []
    for path in sorted((ROOT / 'docs' / 'measured').glob('demo*.json')):
        found += tables.read_table(path)
    families = {run.name.split()[0] for run in found}
    assert families >= {'RS-Net', 'SAN', 'ConvNet-AIG', 'MSDNet', 'DS-Net'}
    for run in found:
        # Two epochs are few for the narrow widths at 2 bits.
        least = 50 if (run.name, run.bits) == ('DS-Net', '2/2') else 80
        for row in run.rows:
            assert row.madds and row.weight_bytes
            assert least < row.top1 < 100


@pytest.mark.parametrize('text', ['[]', '{}', '{"rows": [1]}', '{"rows": [{"run": "x"}]}', '{'])
def test_no_table(text, tmp_path, capsys):
    table = tmp_path / 'table.json'
    table.write_text(text)
    assert plot.main([str(table), '-o', str(tmp_path / 'x.png')]) == 2
    error = capsys.readouterr().err
    assert str(table) in error and '--format json --output FILE writes it' in error
