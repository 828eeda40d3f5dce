"""Progress: a bar on a terminal, a line a minute in a log; our own lines, which the log keeps."""

import io
import logging

import pytest

from engine import console
from engine.console import Progress, followed, say


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    """The seconds that have passed, in a list of one."""
    now = [0.0]
    monkeypatch.setattr(console.time, 'monotonic', lambda: now[0])
    return now


def test_a_log_gets_a_line_a_minute(clock):
    log = io.StringIO()
    with Progress('evaluating', 1000, 'images', stream=log) as progress:
        for _ in range(10):
            clock[0] += 25
            progress.note(f'top-1 s28 {progress.n / 10:.2f} %')
            progress.update(100)
    assert log.getvalue().splitlines() == [
        'evaluating: 300/1000 images, 30 %, top-1 s28 20.00 %, 0:02:55 left, 4 images/s',
        'evaluating: 600/1000 images, 60 %, top-1 s28 50.00 %, 0:01:40 left, 4 images/s',
        'evaluating: 900/1000 images, 90 %, top-1 s28 80.00 %, 0:00:25 left, 4 images/s',
        'evaluating: 1000/1000 images, 100 %, top-1 s28 90.00 %, 0:00:00 left, 4 images/s',
    ]
    assert '\r' not in log.getvalue()


def test_short_work_leaves_no_line_in_a_log(clock):
    log = io.StringIO()
    with Progress('calibrating', 10, 'images', stream=log) as progress:
        clock[0] = 59
        progress.update(10)
    assert log.getvalue() == ''


def test_work_of_unknown_length_that_was_begun_before(clock):
    log = io.StringIO()
    with Progress('predicting', None, 'images', done=50, stream=log) as progress:
        clock[0] = 100
        progress.to(250)
    assert log.getvalue().splitlines()[0] == 'predicting: 250 images, 2 images/s'


def test_time_left_that_a_note_says(clock):
    log = io.StringIO()
    progress = Progress('epoch 1/2', 10, 'steps', left=False, stream=log)
    progress.note('loss 1.5')
    clock[0] = 61
    progress.update()
    assert log.getvalue() == 'epoch 1/2: 1/10 steps, 10 %, loss 1.5\n'


def test_a_terminal_gets_a_bar(clock):
    terminal = Terminal()
    with Progress('evaluating', 8, 'images', stream=terminal) as progress:
        for _ in range(4):
            clock[0] += 1
            progress.note('top-1 s28 50.00 %')
            progress.update(2)
    shown = terminal.getvalue()
    assert 'evaluating' in shown and '0/8 images' in shown
    # Taken away at the end: what comes after has the line for itself.
    assert shown.rpartition('\r')[2].strip() == ''


def test_the_last_line_of_a_log_is_there_once(clock):
    log = io.StringIO()
    with Progress('epoch 1/2', 2, 'steps', left=False, stream=log) as progress:
        for _ in range(2):
            clock[0] += 61
            progress.update()
    assert log.getvalue() == 'epoch 1/2: 1/2 steps, 50 %\nepoch 1/2: 2/2 steps, 100 %\n'


@pytest.mark.parametrize('columns, shown', [(80, 'loss 1.5, 1 day left'), (200, '9 images/s')])
def test_a_narrow_terminal_gets_what_it_has_room_for(clock, columns, shown):
    terminal = Terminal()
    with Progress('epoch 12/120', 1251, 'steps', left=False, stream=terminal) as progress:
        progress._bar.dynamic_ncols = lambda _: (columns, 25)
        clock[0] += 1
        progress.note('loss 1.5', '1 day left', 'top-1 s224 45.0 %', '9 images/s')
        progress.update(450)
        progress._bar.refresh()
    pictures = terminal.getvalue().split('\r')
    assert any(picture.rstrip().endswith(shown) for picture in pictures)


def test_items_are_passed_on():
    assert list(followed('abc', 'listing', 3, 'shards')) == ['a', 'b', 'c']


def test_lines_reach_the_terminal_and_the_log_of_the_run(tmp_path, capsys):
    logger = logging.getLogger('tensorpack')
    handler = logging.FileHandler(tmp_path / 'log.log')
    logger.addHandler(handler)
    try:
        say('epoch 1/2: loss 1.5')
    finally:
        logger.removeHandler(handler)
        handler.close()
    assert capsys.readouterr().out == 'epoch 1/2: loss 1.5\n'
    assert (tmp_path / 'log.log').read_text() == 'epoch 1/2: loss 1.5\n'
