"""The console during long work: our own lines, and progress, on a terminal and in a log file."""

import datetime
import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any, TypeVar

from tqdm import tqdm

T = TypeVar('T')

# Seconds from one line to the next where there is no terminal.
MINUTE = 60.0

# Seconds from one picture of a bar to the next.
BLINK = 0.2

_BAR = '{desc} {percentage:3.0f}% |{bar:12}| {n_fmt}/{total_fmt} {unit}{postfix}'
_COUNT = '{desc} {n_fmt} {unit}{postfix}'


def say(text: str) -> None:
    """Prints lines of ours, which the log of a run keeps too."""
    with tqdm.external_write_mode(file=sys.stdout):
        print(text, flush=True)
    record = logging.LogRecord('tensorpack', logging.INFO, '', 0, text, None, None)
    for handler in logging.getLogger('tensorpack').handlers:
        if isinstance(handler, logging.FileHandler):
            handler.emit(record)


def clock_text(seconds: float) -> str:
    """A span of time.

    >>> clock_text(3723.6)
    '1:02:04'
    """
    return str(datetime.timedelta(seconds=round(seconds)))


class Progress:
    """How far work has come: a bar on a terminal, in a log file a line a minute.

    Short work leaves no line in a log.

    Args:
        what: is done, such as ``evaluating``.
        total: how much there is of it; None: nobody knows.
        unit: what is counted, in the plural.
        done: how much of it is done already.
        delay: seconds before there is anything to be seen on a terminal.
        scaled: whether large numbers are shown as 1.2M.
        left: whether the time that is left follows from the count; else a note says it.
        stream: where; by default standard error.

    Attributes:
        n: how much is done.
    """

    def __init__(
        self,
        what: str,
        total: int | None,
        unit: str,
        *,
        done: int = 0,
        delay: float = 0.0,
        scaled: bool = False,
        left: bool = True,
        stream: IO[str] | None = None,
    ):
        self.n = done
        self._what, self._total, self._unit = what, total, unit
        self._first, self._left = done, left
        self._stream = stream or sys.stderr
        self._notes: tuple[str, ...] = ()
        self._started = self._shown = time.monotonic()
        # How much was done when the last line was printed.
        self._printed: int | None = None
        self._bar: Any = None
        if self._stream.isatty():
            self._bar = tqdm(
                desc=what,
                total=total,
                unit=unit,
                initial=done,
                delay=delay,
                unit_scale=scaled,
                mininterval=BLINK,
                leave=False,
                dynamic_ncols=True,
                file=self._stream,
                bar_format=_BAR if total else _COUNT,
            )

    def __enter__(self) -> 'Progress':
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def note(self, *texts: str) -> None:
        """Sets what is said beside the count.

        Args:
            texts: what matters most comes first; a terminal shows as many as it has room for.
        """
        self._notes = texts

    def to(self, done: int) -> None:
        """Says how much is done in all."""
        self.update(done - self.n)

    def update(self, more: int = 1) -> None:
        """Counts ``more`` as done."""
        self.n += more
        now = time.monotonic()
        if self._bar is not None:
            if now - self._shown >= BLINK:
                self._shown = now
                self._bar.set_postfix_str(self._fitting(self._beside(now)), refresh=False)
            self._bar.update(more)
        elif now - self._shown >= MINUTE:
            self._shown = now
            self._print(now)

    def close(self) -> None:
        """Takes a bar away; the last line of a log says what the work took."""
        if self._bar is not None:
            self._bar.close()
        elif self._printed not in (None, self.n):
            self._print(time.monotonic())
        self._printed = None

    def _fitting(self, texts: Sequence[str]) -> str:
        """The first of these texts, as many as a terminal has room for behind the bar."""
        shape = {**self._bar.format_dict, 'n': self.n, 'postfix': ''}
        columns = shape['ncols'] or sys.maxsize
        used = len(self._bar.format_meter(**shape))
        fitting: list[str] = []
        for text in texts:
            used += len(f', {text}')
            if used > columns:
                break
            fitting.append(text)
        return ', '.join(fitting)

    def _beside(self, now: float) -> list[str]:
        """Texts that are said beside the count, the most important one first."""
        texts = list(self._notes)
        taken = now - self._started
        if self._left and taken > 0 and self.n > self._first:
            speed = (self.n - self._first) / taken
            if self._total:
                texts.append(f'{clock_text((self._total - self.n) / speed)} left')
            texts.append(f'{_number(speed)} {self._unit}/s')
        return texts

    def _print(self, now: float) -> None:
        self._printed = self.n
        count = f'{self.n} {self._unit}'
        if self._total:
            count = f'{self.n}/{self._total} {self._unit}, {100 * self.n // self._total} %'
        text = ', '.join([count, *self._beside(now)])
        print(f'{self._what}: {text}', file=self._stream, flush=True)


def _number(value: float) -> str:
    """A rate with three digits.

    >>> _number(0.4567), _number(3.25), _number(1234.5)
    ('0.457', '3.25', '1234')
    """
    return f'{value:.0f}' if value >= 100 else f'{value:.3g}'


def followed(
    items: Iterable[T], what: str, total: int | None, unit: str, *, delay: float = 0.0
) -> Iterator[T]:
    """Passes items on and shows how many have been dealt with.

    Args:
        items: any.
        what: is done with them.
        total: how many they are; None: nobody knows.
        unit: what they are, in the plural.
        delay: seconds before there is anything to be seen on a terminal.
    """
    with Progress(what, total, unit, delay=delay) as progress:
        for item in items:
            yield item
            progress.update()
