"""What a person sees of a training: the line of an epoch, and the curves of all."""

import json

import pytest
from tensorpack.utils import logger

from engine.errors import UsageError, reason
from engine.training.monitors import Events, line
from quant.backend import tf
from scripts import curves

LATEST = {
    'loss': 1.25,
    'val/s28/top1': 80.125,
    'val/s20/top1': 75.0,
    'val/s12/top1': 60.5,
    'val/ensemble/top1': 82.0,
}


@pytest.mark.parametrize(
    'names, points',
    [(['s28', 's20', 's12', 'ensemble'], 's28 80.12, s12 60.50'), (['s20'], 's20 75.00')],
)
def test_line_of_an_epoch(names, points):
    assert line(LATEST, names, 'epoch 3/60', 412.4, 3723.6) == (
        f'epoch 3/60: loss 1.2500, top-1 {points}; 412 images/s, 1:02:04 left'
    )


def test_no_room_for_events_does_not_end_the_training(tmp_path, monkeypatch):
    lines, seen = [], []
    monkeypatch.setattr(logger, 'warning', lines.append)
    events = Events(str(tmp_path))
    events._setup_graph()

    def full():
        seen.append(1)
        raise RuntimeError('events.out.tfevents.1; No space left on device')

    monkeypatch.setattr(events._writer, 'flush', full)
    monkeypatch.setattr(events._writer, 'close', full)
    events.trigger()
    events._after_train()
    assert len(seen) == 2
    assert (
        lines
        == ['TensorBoard events cannot be written (events.out.tfevents.1; No space left on device)']
        * 2
    )


GRAPH = """Graph execution error:

Detected at node 'save/SaveV2' defined at (most recent call last):
    File "/a.py", line 5, in <module>
Node: 'save/SaveV2'
/run/m.data; No space left on device
\t [[{{node save/SaveV2}}]]
Hint: If you want to see a list of allocated tensors, add report_tensor_allocations_upon_oom.

Original stack trace for 'save/SaveV2':
  File "/a.py", line 5, in <module>"""


@pytest.mark.parametrize(
    'message, expected',
    [
        (GRAPH, '/run/m.data; No space left on device'),
        ('Collective ops is aborted', 'Collective ops is aborted'),
    ],
)
def test_reason_of_an_error(message, expected):
    assert reason(tf.errors.ResourceExhaustedError(None, None, message)) == expected


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
    figure = curves.draw(
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


@pytest.mark.parametrize('text, message', [('[]', 'no epoch'), ('{', 'cannot be read')])
def test_curves_of_no_run(tmp_path, text, message):
    (tmp_path / 'stats.json').write_text(text)
    with pytest.raises(UsageError, match=message):
        curves.draw([str(tmp_path)])
