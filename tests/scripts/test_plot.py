"""scripts.plot over run folders built by hand."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.results import tables
from nets import cost
from scripts import accuracy_table, plot
from tests.paths import ROOT

ACCURACY = {
    224: (66.1, 65.8),
    160: (63.2, 62.9),
    96: (52.0, 52.5),
}  # own, published by RS-Nets (ResNet-18, W2A2)
MADDS = {224: 115.605504, 160: 58.9824, 96: 21.233664}  # 9*64*64*(size/4)^2 / 1e6


def make_run(
    folder: Path, extra: tuple[dict[str, Any], ...] = (), data: str = '/data/imagenet'
) -> Path:
    (folder / 'eval').mkdir(parents=True)
    config = {
        'net': 'rsnet',
        'mode': 'preact',
        'arch': 'resnet18',
        'width': 1.0,
        'qw': 2,
        'qa': 2,
        'kd': True,
        'sizes': list(ACCURACY),
        'data': data,
        'classes': 1000,
    }
    (folder / 'config.json').write_text(json.dumps(config))
    layers = {
        f's{size}': [cost.LayerRecord('conv', 'body', (3, 3, 64, 64), (size // 4, size // 4))]
        for size in ACCURACY
    }
    (folder / 'layers.json').write_text(json.dumps(cost.to_json(layers)))
    evals = [
        {'point': f's{size}', 'bn': f's{size}', 'top1': own, 'top5': 85.0}
        for size, (own, _) in ACCURACY.items()
    ]
    for i, row in enumerate([*evals, *extra]):
        (folder / 'eval' / f'{i}.json').write_text(json.dumps(row))
    return folder


def axes_of(*folders: Path) -> Any:
    return plot.draw(tables.curves(tables.read_runs([str(folder) for folder in folders]))).axes[0]


def texts(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_lines_and_labels(tmp_path: Path) -> None:
    axes = axes_of(make_run(tmp_path / 'rs'))
    own, published = axes.lines
    assert list(own.get_xdata()) == pytest.approx(list(MADDS.values()))
    assert list(own.get_ydata()) == [66.1, 63.2, 52.0]
    assert list(published.get_xdata()) == pytest.approx(list(MADDS.values()))
    assert list(published.get_ydata()) == [65.8, 62.9, 52.5]
    assert published.get_linestyle() == '--' and published.get_color() == own.get_color()
    assert sorted(texts(axes)) == ['160', '224', '96', 'RS-Nets published (2/2)', 'rs (2/2)']


def test_lone_points_are_not_on_the_line(tmp_path: Path) -> None:
    axes = axes_of(
        make_run(tmp_path / 'rs', ({'point': 's96', 'bn': 's224', 'top1': 30.0, 'top5': 50.0},))
    )
    points = [
        (line.get_xdata()[0], line.get_ydata()[0])
        for line in axes.lines
        if len(line.get_xdata()) == 1
    ]
    assert points == [(pytest.approx(MADDS[96]), 30.0)]
    assert '96 (BN 224)' in texts(axes)


ENSEMBLE = {'point': 'ensemble', 'bn': 'ensemble', 'top1': 67.0, 'top5': 87.0}


def test_the_ensemble_is_not_drawn(tmp_path: Path) -> None:
    plain, axes = (
        axes_of(make_run(tmp_path / 'a' / 'rs')),
        axes_of(make_run(tmp_path / 'b' / 'rs', (ENSEMBLE,))),
    )
    assert texts(axes) == texts(plain)
    assert [list(line.get_ydata()) for line in axes.lines] == [
        list(line.get_ydata()) for line in plain.lines
    ]
    assert (axes.get_xlim(), axes.get_ylim()) == (plain.get_xlim(), plain.get_ylim())


def test_a_run_of_the_ensemble_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / 'rs', (ENSEMBLE,))
    for i in range(len(ACCURACY)):
        (run / 'eval' / f'{i}.json').unlink()
    assert plot.main([str(run), '-o', str(tmp_path / 'x.png')]) == 2
    assert 'evaluate a size' in capsys.readouterr().err
    assert not (tmp_path / 'x.png').exists()


def test_unmatched_run_has_no_published_line(tmp_path: Path) -> None:
    assert len(axes_of(make_run(tmp_path / 'rs', data='animals28')).lines) == 1


def test_two_runs_have_two_colours_and_each_size_once(tmp_path: Path) -> None:
    axes = axes_of(make_run(tmp_path / 'a', data='fake'), make_run(tmp_path / 'b', data='fake'))
    front, *lines = axes.lines
    assert len({line.get_color() for line in lines}) == 2
    assert list(front.get_ydata()) == [52.0, 63.2, 66.1]
    assert sorted(texts(axes)) == ['160', '224', '96', 'a (2/2)', 'b (2/2)']
    heights = sorted(text.xyann[1] for text in axes.texts if '2/2' in text.get_text())
    assert heights[1] > heights[0] == 66.1  # the same end: the names are moved apart


@pytest.mark.parametrize(
    'wanted, expected',
    [
        ([], []),
        ([1.0, 5.0], [1.0, 5.0]),
        ([1.0, 1.0, 1.0], [1.0, 3.0, 5.0]),
        ([7.0, 8.0, 9.0], [5.0, 7.0, 9.0]),
        ([0.0, 8.0, 8.0], [0.0, 7.0, 9.0]),
    ],
)
def test_names_are_moved_apart_but_stay_below_the_top(
    wanted: list[float], expected: list[float]
) -> None:
    assert plot.apart(wanted, gap=2.0, top=9.0) == expected


def test_points_without_room_have_no_label_and_ends_come_first() -> None:
    rows = [
        tables.Row('run', 2, 2, f's{size}', f's{size}', madds * 10**6, 1, 90.0, 95.0)
        for size, madds in ((28, 100), (27, 99), (20, 50), (12, 1))
    ]
    axes = plot.draw([('run', rows)]).axes[0]
    assert sorted(texts(axes)) == ['12', '20', '28', 'run']


def test_shared_published_curve_is_drawn_once(tmp_path: Path) -> None:
    axes = axes_of(make_run(tmp_path / 'a'), make_run(tmp_path / 'b'))
    assert [line.get_linestyle() for line in axes.lines].count('--') == 1


def test_writes_a_png(tmp_path: Path) -> None:
    output = tmp_path / 'accuracy.png'
    assert plot.main([str(make_run(tmp_path / 'rs')), '-o', str(output)]) == 0
    assert output.read_bytes().startswith(b'\x89PNG')
    assert sorted(path.name for path in tmp_path.iterdir()) == ['accuracy.png', 'rs']


def test_unknown_ending(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert plot.main([str(make_run(tmp_path / 'rs')), '-o', str(tmp_path / 'x.doc')]) == 2
    assert 'end it with one of' in capsys.readouterr().err


def test_missing_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert plot.main([str(tmp_path / 'none')]) == 2
    assert 'no such run folder' in capsys.readouterr().err


def test_without_matplotlib(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, 'matplotlib.backends.backend_agg', None)
    assert plot.main([str(make_run(tmp_path / 'rs')), '-o', str(tmp_path / 'x.png')]) == 2
    assert 'pip install .[plots]' in capsys.readouterr().err


def test_a_table_is_drawn_as_the_runs_are(tmp_path: Path) -> None:
    """What accuracy_table has written, without published curves; runs of one name and other bits are two lines."""
    runs, table = (
        [make_run(tmp_path / name, data='fake') for name in ('a', 'b')],
        tmp_path / 'table.json',
    )
    assert accuracy_table.main([*map(str, runs), '--format', 'json', '--output', str(table)]) == 0
    known, found = tables.read_runs(list(map(str, runs))), tables.read_table(table)
    assert [(run.name, run.bits) for run in found] == [(run.name, run.bits) for run in known]
    for ours, theirs in zip(
        (row for run in found for row in run.rows), (row for run in known for row in run.rows)
    ):
        assert all(getattr(ours, name) == getattr(theirs, name) for name in tables.TABLE_FIELDS)
    lines, others = (
        [line.get_xydata().tolist() for line in axes.lines]
        for axes in (axes_of(*runs), plot.draw(tables.curves(found)).axes[0])
    )
    assert lines == others
    assert plot.main([str(table), '-o', str(tmp_path / 'x.svg')]) == 0


def test_the_table_of_the_readme() -> None:
    found = tables.read_table(ROOT / 'docs' / 'measured.json')
    assert {run.name.split()[0] for run in found} >= {
        'RS-Net',
        'SAN',
        'ConvNet-AIG',
        'MSDNet',
        'DS-Net',
    }
    assert all(row.madds and row.weight_bytes for run in found for row in run.rows)
    # Two epochs are few for the narrow widths at 2 bits.
    assert all(
        (50 if (run.name, run.bits) == ('DS-Net', '2/2') else 80) < row.top1 < 100
        for run in found
        for row in run.rows
    )


@pytest.mark.parametrize('text', ['[]', '{}', '{"rows": [1]}', '{"rows": [{"run": "x"}]}', '{'])
def test_what_is_no_table(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / 'table.json').write_text(text)
    assert plot.main([str(tmp_path / 'table.json'), '-o', str(tmp_path / 'x.png')]) == 2
    error = capsys.readouterr().err
    assert (
        str(tmp_path / 'table.json') in error and '--format json --output FILE writes it' in error
    )
