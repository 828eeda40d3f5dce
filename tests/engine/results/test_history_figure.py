"""Curves of a training over its epochs."""

import json

import pytest

from engine.errors import UsageError
from engine.results import history_figure


def history(folder, rows):
    folder.mkdir()
    (folder / 'stats.json').write_text(json.dumps(rows))
    return str(folder)


def test_curves_show_the_metrics(tmp_path):
    rows = [
        {
            'epoch_num': n,
            'loss': 4.0 / n,
            'val/s28/top1': 50.0 + n,
            'val/s20/top1': 45.0 + n,
            'val/s12/top1': 40.0 + n,
            'val/mean/top1': 1.0,
            'a/dead_levels': 0.5,
            'b/dead_levels': 0.25,
        }
        for n in (1, 2)
    ]
    figure = history_figure.draw(
        [
            history(tmp_path / 'low', rows),
            history(tmp_path / 'float', [{'epoch_num': 1, 'loss': 3.0, 'val/s28/top1': 70.0}]),
        ]
    )
    loss, top1, dead = (
        [
            (drawn.get_label(), list(drawn.get_xdata()), list(drawn.get_ydata()))
            for drawn in axes.lines
        ]
        for axes in figure.axes
    )
    assert loss == [('low', [1, 2], [4.0, 2.0]), ('float', [1], [3.0])]
    assert top1 == [
        ('low s28', [1, 2], [51.0, 52.0]),
        ('low s12', [1, 2], [41.0, 42.0]),
        ('float s28', [1], [70.0]),
    ]
    assert dead == [('low', [1, 2], [37.5, 37.5])]


def test_losses_that_are_compared_are_of_the_same_point(tmp_path):
    """The loss that is trained, with terms of all points, has an axis of its own."""
    rows = []
    for n in (1, 2):
        rows.append(
            {
                'epoch_num': n,
                'loss': 20.0 / n,
                'loss/s28': 1.0 / n,
                'loss/s12': 3.0 / n,
                'val/s28/top1': 50.0,
                'val/s12/top1': 40.0,
                'val/loss/s28': 1.5 / n,
                'val/loss/s12': 4.0 / n,
            }
        )
    skipped = [{'epoch_num': 1, 'loss': 3.0}, {'epoch_num': 2, 'loss': 2.0, 'val/top1/s28': 9.0}]
    runs = [history(tmp_path / 'new', rows), history(tmp_path / 'old', skipped)]
    titles = history_figure.titles(runs)
    assert titles == ['training loss', 'loss of the strongest point', 'top-1 (%)']
    drawn = {}
    for axes in history_figure.draw(runs, titles[:2]).axes:
        lines = [(line.get_label(), list(line.get_ydata())) for line in axes.lines]
        drawn[axes.get_title()] = lines
    assert drawn == {
        'training loss': [('new', [20.0, 10.0]), ('old', [3.0, 2.0])],
        'loss of the strongest point': [
            ('new s28, training', [1.0, 0.5]),
            ('new s28, validation', [1.5, 0.75]),
        ],
    }


def test_panels_that_would_be_empty_are_left_out(tmp_path):
    """Of float networks there are no levels; a training without validation has no top-1."""
    rows = [{'epoch_num': 1, 'loss': 3.0, 'val/s28/top1': 70.0}]
    scored = history(tmp_path / 'scored', rows)
    bare = history(tmp_path / 'bare', [{'epoch_num': 1, 'loss': 3.0}])
    for runs, expected in (([scored, bare], 2), ([bare], 1)):
        axes = history_figure.draw(runs).axes
        assert len(axes) == expected and all(panel.lines for panel in axes)
    assert history_figure.titles([scored], least=2) == []


def test_legends_hide_no_line_and_one_epoch_is_seen(tmp_path):
    rows = [{'epoch_num': 1, 'loss': 3.0, 'val/s28/top1': 70.0}]
    figure = history_figure.draw([history(tmp_path / name, rows) for name in 'abcdef'])
    figure.draw_without_rendering()
    for axes in figure.axes:
        legend = axes.get_legend().get_window_extent()
        assert not legend.overlaps(axes.get_window_extent())
        assert legend.y0 >= 0
        assert all(line.get_marker() == '.' for line in axes.lines)


@pytest.mark.parametrize('text, message', [('[]', 'no epoch'), ('{', 'curves need a run folder')])
def test_curves_of_no_run(tmp_path, text, message):
    (tmp_path / 'stats.json').write_text(text)
    with pytest.raises(UsageError, match=message):
        history_figure.draw([str(tmp_path)])


def test_runs_of_other_data_are_named_apart(tmp_path):
    runs = []
    for name, data in (('here', 'cifar10'), ('there', 'animals28')):
        run = history(tmp_path / name, [{'epoch_num': 1, 'loss': 3.0, 'val/s28/top1': 70.0}])
        config = {'net': 'rsnet', 'dataset': data, 'data': data, 'augmentation': 'shift'}
        (tmp_path / name / 'config.json').write_text(json.dumps(config))
        runs.append(run)
    loss = history_figure.draw(runs).axes[0]
    assert [drawn.get_label() for drawn in loss.lines] == ['here, cifar10', 'there, animals28']
    alone = history_figure.draw(runs[:1]).axes[0]
    assert [drawn.get_label() for drawn in alone.lines] == ['here']
