"""How a program begins and ends: made by programs, never by importing a module of the library.

A signal must leave neither a traceback nor half a file. While modules are imported, exceptions may
be swallowed or become others, and nothing is at work that could be finished: the process ends
there and then. Within ``interruptible`` an exception ends the work, and a second signal the
process.
"""

import atexit
import contextlib
import io
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from engine import chatter, loading, processor
from engine.errors import Terminated

# Exit status by signal, as shells count it.
STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}

# Starts of the names under which programs of this package are installed.
INSTALLED = ('imagenet-tf', 'switchable-')

# Files and folders that are being written under names of their own, and go when the process ends.
temporaries: set[Path] = set()

# TensorFlow's switch of oneDNN, which is read when it is loaded.
ONEDNN = 'TF_ENABLE_ONEDNN_OPTS'

# Flags with which all messages of the libraries are shown.
ALL_MESSAGES = ('-v', '--verbose')


def quiet(argv: Sequence[str] = ()) -> None:
    """Keeps off the terminal what TensorFlow and tensorpack say about themselves.

    They heed it when they are loaded: where that has happened, or the environment says something
    of its own, nothing changes. What the terminal's character set lacks, such as a name of a file
    that is no text, is printed escaped.

    Args:
        argv: words of a command line; with one of ``ALL_MESSAGES`` everything is shown.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors='backslashreplace')
    if any(word in ALL_MESSAGES for word in argv):
        return
    chatter.silence()
    if 'tensorflow' not in sys.modules:
        os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', chatter.level())


def with_onednn() -> None:
    """Has TensorFlow, once it is loaded, compute with oneDNN where the processor has AVX2.

    By itself it does so on newer ones alone, those with VNNI or bfloat16; what others leave to it
    takes three quarters of the time or less. What the environment says already stays.
    """
    if 'avx2' in processor.features():
        os.environ.setdefault(ONEDNN, '1')


def without_reports() -> None:
    """Keeps ONNX Runtime from reporting its use to its makers, which it does since 1.29.

    What the environment says already stays.
    """
    os.environ.setdefault('ORT_DISABLE_TELEMETRY', '1')


def begin() -> None:
    """Lets a signal end this process without a traceback from now on, if it is one of ours.

    To be called before anything that takes its time is imported. Within a program that only
    imports a script, nothing changes.
    """
    name = os.path.basename(sys.argv[0]) if sys.argv else ''
    # While the package of `python -m package.module` is imported, that is the name.
    ours = name == '-m' or name.startswith(INSTALLED)
    if ours or name == 'imagenet_tf.py':
        _handle(leave)
        loading.without_keras()
        with_onednn()
        without_reports()
        quiet(sys.argv[1:])
        # Run last of all: the work is done, and what is left are destructors.
        atexit.register(_handle, signal.SIG_IGN)


def leave(number: int, _: object = None) -> None:
    """Ends the process at once, without the files that it was writing."""
    with contextlib.suppress(Exception):  # it may be printing just now
        sys.stdout.flush()
    for path in list(temporaries):
        with contextlib.suppress(OSError):
            remove(path)
    word = b'interrupted\n' if number == signal.SIGINT else b'terminated\n'
    os.write(chatter.screen(), word)
    os._exit(STATUS[signal.Signals(number)])


def remove(path: Path) -> None:
    """Deletes a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def stop(number: int, frame: FrameType | None) -> None:
    """Ends the work by an exception; the next signal ends the process.

    Raises:
        KeyboardInterrupt: on SIGINT.
        Terminated: on SIGTERM.
    """
    _handle(leave)
    if _importing(frame):
        leave(number)
    if number == signal.SIGTERM:
        raise Terminated
    raise KeyboardInterrupt


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith('<frozen importlib'):
            return True
        frame = frame.f_back
    return False


def _handle(handler: Any) -> dict[signal.Signals, Any]:
    """Sets the handler of the signals that are not ignored; the handlers before."""
    before: dict[signal.Signals, Any] = {}
    for number in STATUS:
        found = signal.getsignal(number)
        if found != signal.SIG_IGN:
            before[number] = found
            signal.signal(number, handler)
    return before


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """A block of work that SIGINT and SIGTERM end as exceptions, see ``stop``."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = _handle(stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
