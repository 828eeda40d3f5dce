"""Says what a training waits for when it makes no step, and ends one that hangs when told to.

Python's own handlers of signals wait for TensorFlow: a step that never ends would keep them out
for ever.
"""

import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

from tensorpack import Callback, DataFlow, ProxyDataFlow

from engine.entry import STATUS, leave
from engine.graph.loaders import KeepsError
from engine.quantities import counted

# Seconds without a step after which it is said what is waited for; doubled every time.
PATIENCE = 120.0

# After a signal, a process hangs that has made no progress for so many seconds: where it takes
# steps, for HANGS and TIMES as long as its longest step took; in any other work, for WORK_HANGS.
HANGS = 30.0
TIMES = 5
WORK_HANGS = 600.0

# Seconds after a signal in which a training may still go on.
GRACE = 10.0

# What the main thread does by the module that it is in, the innermost first.
WORK = {
    'engine.training.saving': 'a checkpoint that is being written or read',
    'engine.training.cluster': 'the other workers',
    'engine.evaluation.evaluate': 'the validation images that are being scored',
    'engine.graph.tower': 'the graph that is being built',
    'engine.training.quantizer_starts': 'the first batch, from which quantizers start',
}


class Watchdog(Callback):
    """Watches the progress of a training from a thread of its own.

    Args:
        flow: its batches.
        towers: that take a step together, on all machines.
    """

    def __init__(self, flow: KeepsError, towers: int):
        self._flow = flow
        self._towers = towers
        self._over = False
        self._longest = 0.0
        self._signals: list[int] = []
        self.mark()

    def mark(self) -> None:
        """Notes that there is progress."""
        self._latest = time.monotonic()

    def _before_train(self) -> None:
        self.mark()

    def _trigger_step(self) -> None:
        self._longest = max(self._longest, time.monotonic() - self._latest)
        self.mark()

    def _before_epoch(self) -> None:
        self.mark()

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """A block that is watched."""
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        main = threading.current_thread() is threading.main_thread()
        before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False) if main else -1
        caller = threading.get_ident()
        thread = threading.Thread(
            target=self._watch, args=(reading, caller), name='watchdog', daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            self._over = True
            if main:
                signal.set_wakeup_fd(before)
            os.close(writing)
            thread.join()
            os.close(reading)

    def _watch(self, reading: int, caller: int) -> None:
        """Looks once per second.

        Args:
            reading: end of a pipe that gets the numbers of signals.
            caller: the thread that trains.
        """
        said = PATIENCE
        signalled = 0.0
        while not self._over:
            ready, _, _ = select.select([reading], [], [], 1.0)
            if ready:
                self._signals += [number for number in os.read(reading, 64) if number in STATUS]
                if self._signals and not signalled:
                    signalled = time.monotonic()
            waited = time.monotonic() - self._latest
            if waited < PATIENCE:
                said = PATIENCE
            if waited >= said:
                said *= 2
                print(f'no step for {waited:.0f} s: waiting for {self._wait(caller)}', flush=True)
            if signalled and time.monotonic() - signalled > GRACE and waited > self._limit(caller):
                self._end(waited, caller)

    def _limit(self, caller: int) -> float:
        """Seconds without progress after which this process hangs."""
        if _work(caller):
            return WORK_HANGS
        return max(HANGS, TIMES * self._longest)

    def _end(self, waited: float, caller: int) -> None:
        text = (
            f'\nno step for {waited:.0f} s: waiting for {self._wait(caller)}; ending without a '
            'checkpoint of this step, those before are kept\n'
        )
        os.write(2, text.encode(errors='backslashreplace'))
        leave(self._signals[0])

    def _wait(self, caller: int) -> str:
        """In words, for what the thread that trains waits."""
        work = _work(caller)
        if work:
            return work
        if self._flow.waiting:
            images = ', '.join(_images())
            return f'training images ({images or "the next batch"})'
        return f'a step of {counted(self._towers, "tower")}'


def _stack(thread: int) -> Iterator[FrameType]:
    """The frames of a thread, the innermost first."""
    frame = sys._current_frames().get(thread)
    while frame is not None:
        yield frame
        frame = frame.f_back


def _work(caller: int) -> str:
    """The work of a thread beside the steps of a training; empty if there is none."""
    for frame in _stack(caller):
        work = WORK.get(frame.f_globals.get('__name__', ''))
        if work:
            return work
    return ''


def _images() -> list[str]:
    """Names of the images that are being read just now."""
    found = []
    for thread in list(sys._current_frames()):
        for frame in _stack(thread):
            if frame.f_globals.get('__name__') != 'engine.data.sources':
                continue
            source, number = frame.f_locals.get('self'), frame.f_locals.get('i')
            if source is not None and number is not None:
                found.append(ascii(source.name(number)))
                break
    return sorted(set(found))


class Noted(ProxyDataFlow):
    """Passes batches through and notes each as progress."""

    def __init__(self, flow: DataFlow, watchdog: Watchdog):
        super().__init__(flow)
        self._watchdog = watchdog

    def __iter__(self) -> Iterator[Any]:
        for batch in self.ds:
            self._watchdog.mark()
            yield batch
