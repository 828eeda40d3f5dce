"""Lines, labels and colours of the figure of accuracy over cost."""

import pytest
from matplotlib.text import Text

from engine.results import accuracy_figure, tables
from tests.engine.results.run_folders import ACCURACY, plotted_run, score

MADDS = {224: 115.605504, 160: 58.9824, 96: 21.233664}  # 9 * 64 * 64 * (size / 4)^2 / 1e6
ENSEMBLE = score('ensemble', 67.0, 87.0)


def axes_of(*folders):
    runs = tables.read_runs([str(folder) for folder in folders])
    return accuracy_figure.draw(tables.curves(runs)).axes[0]


def texts(axes):
    return [text.get_text() for text in axes.texts]


def heights_of(axes):
    return [list(line.get_ydata()) for line in axes.lines]


def test_lines_and_labels(tmp_path):
    axes = axes_of(plotted_run(tmp_path / 'rs'))
    own, published = axes.lines
    assert list(own.get_xdata()) == pytest.approx(list(MADDS.values()))
    assert list(own.get_ydata()) == [mine for mine, _ in ACCURACY.values()]
    assert list(published.get_xdata()) == pytest.approx(list(MADDS.values()))
    assert list(published.get_ydata()) == [theirs for _, theirs in ACCURACY.values()]
    assert published.get_linestyle() == '--' and published.get_color() == own.get_color()
    assert sorted(texts(axes)) == ['160', '224', '96', 'RS-Nets published (2/2)', 'rs (2/2)']


def test_lone_points_are_not_on_the_line(tmp_path):
    axes = axes_of(plotted_run(tmp_path / 'rs', [score('s96', 30.0, bn='s224')]))
    alone = [line for line in axes.lines if len(line.get_xdata()) == 1]
    points = [(line.get_xdata()[0], line.get_ydata()[0]) for line in alone]
    assert points == [(pytest.approx(MADDS[96]), 30.0)]
    assert '96 (BN 224)' in texts(axes)


def test_the_ensemble_is_not_drawn(tmp_path):
    plain = axes_of(plotted_run(tmp_path / 'a' / 'rs'))
    axes = axes_of(plotted_run(tmp_path / 'b' / 'rs', [ENSEMBLE]))
    assert texts(axes) == texts(plain)
    assert heights_of(axes) == heights_of(plain)
    assert (axes.get_xlim(), axes.get_ylim()) == (plain.get_xlim(), plain.get_ylim())


def test_unmatched_run_has_no_published_line(tmp_path):
    assert len(axes_of(plotted_run(tmp_path / 'rs', data='animals28')).lines) == 1


def test_two_runs_have_two_colours_and_each_size_once(tmp_path):
    folders = [plotted_run(tmp_path / name, data='fake') for name in 'ab']
    axes = axes_of(*folders)
    front, *lines = axes.lines
    assert len({line.get_color() for line in lines}) == 2
    assert list(front.get_ydata()) == [52.0, 63.2, 66.1]
    assert sorted(texts(axes)) == ['160', '224', '96', 'a (2/2)', 'b (2/2)']
    heights = sorted(text.xyann[1] for text in axes.texts if '2/2' in text.get_text())
    assert heights[1] > heights[0] == 66.1  # the same end: the names are moved apart


def test_shared_published_curve_is_drawn_once(tmp_path):
    axes = axes_of(plotted_run(tmp_path / 'a'), plotted_run(tmp_path / 'b'))
    assert [line.get_linestyle() for line in axes.lines].count('--') == 1


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
def test_names_are_moved_apart_but_stay_below_the_top(wanted, expected):
    assert accuracy_figure.apart(wanted, gap=2.0, top=9.0) == expected


@pytest.mark.parametrize('points', [3, 15, 60])
@pytest.mark.parametrize('size', [(8.5, 5.2), (6.6, 4.6)])
def test_no_label_lies_on_another_or_on_a_point(points, size):
    """However many lines and points there are; names stand outside of the data."""
    curves = []
    for number in range(6):
        rows = []
        for width in reversed(range(points)):
            name = f'w{width:02}'
            top1 = 70 + 20 * width / points + 0.3 * number + width % 3
            madds = (1 + width + 0.1 * number) * 10**6
            rows.append(tables.Row('run', 2, 2, name, name, madds, 1, top1, 95.0))
        rows.append(tables.Row('run', 2, 2, 'dynamic', 'dynamic', 5e6, 1, 72.0 + number, 95.0))
        curves.append((f'run {number} (2/2), inputs normalized_bgr', rows))
    axes = accuracy_figure.draw(curves, size=size).axes[0]
    axes.figure.draw_without_rendering()
    names, labels = [], []
    for text in axes.texts:
        is_name = text.get_text().startswith('run')
        # Without the line that leads to it.
        box = Text.get_window_extent(text)
        (names if is_name else labels).append(box)
    assert len(names) == 6 and labels
    for group in (names, labels):
        for place, box in enumerate(group):
            assert not any(box.overlaps(other) for other in group[:place])
    frame = axes.get_window_extent()
    assert all(box.x0 > frame.x1 - 1 for box in names)
    dots = [axes.transData.transform(line.get_xydata()) for line in axes.lines]
    for box in labels:
        assert box.x1 < names[0].x0
        if points == 3:
            for line in dots:
                assert not any(box.contains(*dot) for dot in line)


def test_points_without_room_have_no_label_and_ends_come_first():
    rows = []
    for size in range(400, 0, -1):
        point = f's{size}'
        rows.append(tables.Row('run', 2, 2, point, point, size * 10**6, 1, 90.0, 95.0))
    axes = accuracy_figure.draw([('run', rows)]).axes[0]
    found = texts(axes)
    assert {'1', '400', 'run'} <= set(found) and 10 < len(found) < 200


@pytest.mark.parametrize('curves', [10, 11, 20])
def test_colours_differ(curves):
    colours = [accuracy_figure.colour_of(i, curves) for i in range(curves)]
    assert len(set(colours)) == curves


def test_long_names_leave_the_data_their_room(tmp_path):
    """Where runs were measured on different images, names say on which."""
    rows = tables.read_runs([str(plotted_run(tmp_path / 'rs', data='fake'))])[0].rows
    where = 'folder, validation images e2ed6e7308cca9a2, 8 classes, 96 images, resize nearest'
    figure = accuracy_figure.draw([(f'photos-w2a2 (2/2), {where}', rows), ('short', rows)])
    figure.draw_without_rendering()
    axes = figure.axes[0]
    assert axes.bbox.width > 0.5 * figure.bbox.width
    (name,) = [text for text in texts(axes) if text.startswith('photos')]
    assert name.split('\n')[0] == 'photos-w2a2 (2/2)'
    assert ' '.join(name.split('\n')[1:]) == where
