"""What a person sees of a training: the line of an epoch, and the reasons of errors."""

from types import SimpleNamespace

import pytest
from tensorpack.utils import logger

from engine.config.config import Config
from engine.errors import reason
from engine.training import monitors
from engine.training.events import Events
from engine.training.monitors import line
from quant.backend import tf

LATEST = {
    'train/loss': 1.25,
    'val/top1/s28': 80.125,
    'val/top1/s20': 75.0,
    'val/top1/s12': 60.5,
    'val/top1/ensemble': 82.0,
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
    model = SimpleNamespace(losses=[{'loss': tf.constant(1.0)}])
    events = Events(model, str(tmp_path))
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


@pytest.fixture
def epochs(monkeypatch):
    """The monitor of a training of 2 epochs of 4 steps, at the end of a step; seconds so far."""
    now = [0.0]
    monkeypatch.setattr(monitors.time, 'perf_counter', lambda: now[0])
    config = Config.from_values(batch_size=100, epochs=2, steps_per_epoch=4)
    losses = [{'loss': tf.constant(1.0)}]
    model = SimpleNamespace(config=config, names=['s28'], losses=losses, errors=[tf.constant(0.5)])
    monitor = monitors.EpochLine(model, cost=False)
    monitor.trainer = SimpleNamespace(
        steps_per_epoch=4, max_epoch=2, epoch_num=1, global_step=0, local_step=-1
    )
    return monitor, now


def test_progress_within_an_epoch(epochs, capsys):
    """The first step, which takes long, is not counted; scoring is, once it was seen."""
    monitor, now = epochs
    shown = []
    monitor._before_train()
    monitor._before_epoch()
    monitor._progress.note = lambda *texts: shown.append(texts)
    for seconds, loss in ((30, 4.0), (2, 2.0), (2, 2.0), (2, 2.0)):
        now[0] += seconds
        monitor._after_run(None, SimpleNamespace(results={'loss': loss, 'error': 0.25}))
        monitor.trainer.global_step += 1
        monitor._trigger_step()
    assert [texts[-1] for texts in shown] == ['50 images/s'] * 3
    assert shown[0] == (
        'loss 3.9000',
        'run 0:00:12 left',
        'top-1 s28 75.0 %',
        'epoch 0:00:04 left',
        '50 images/s',
    )
    monitor._after_epoch()
    now[0] += 10
    monitor.process_scalar('loss', 2.0)
    monitor.process_scalar('val/top1/s28', 50.0)
    monitor.process_scalar('val/top1/mean', 50.0)
    monitor._trigger_epoch()
    said = capsys.readouterr().out
    assert said == 'epoch 1/2: loss 2.0000, top-1 s28 50.00; 50 images/s, 0:00:18 left\n'


def test_the_first_step_of_a_resumed_training_is_not_counted(epochs, capsys):
    monitor, now = epochs
    monitor.trainer.global_step, monitor.trainer.epoch_num = 4, 2
    monitor._before_train()
    monitor._before_epoch()
    for seconds in (30, 2, 2, 2):
        now[0] += seconds
        monitor._after_run(None, SimpleNamespace(results={'loss': 2.0, 'error': 0.25}))
        monitor.trainer.global_step += 1
        monitor._trigger_step()
    monitor._after_epoch()
    monitor.process_scalar('loss', 2.0)
    monitor._trigger_epoch()
    assert '; 50 images/s, ' in capsys.readouterr().out
