"""Keeps what the libraries say off the console, except their errors and warnings.

TensorFlow's C++ code writes about itself while it is loaded, before anything can tell it not to.
"""

import contextlib
import logging
import os
import platform
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from engine import loading

# Where Linux shows NVIDIA's driver.
DRIVERS = (Path('/proc/driver/nvidia'), Path('/dev/nvidiactl'))

# Lines of TensorFlow's C++ code that inform, or warn of its own build.
_CHATTER = re.compile(
    r'WARNING: All log messages before absl::InitializeLog|[IW]\d{4} \d\d:\d\d:\d\d|'
    r'[IW]\d{4} \d\d:\d\d:\d{10}\.|To enable the following instructions:|'
    r'E\d{4} .*Unable to register cu'
)

# The stream of errors, wherever that is now.
_screen = 2


def screen() -> int:
    """Descriptor of standard error, also while what goes there is held back."""
    return _screen


def has_driver() -> bool:
    """Whether there is a driver of NVIDIA, without which TensorFlow finds no GPU."""
    return any(path.exists() for path in DRIVERS)


def hides_gpus() -> bool:
    """Whether the environment keeps TensorFlow from looking for GPUs."""
    return os.environ.get('CUDA_VISIBLE_DEVICES') in ('', '-1')


def level() -> str:
    """``TF_CPP_MIN_LOG_LEVEL``: errors, and without a GPU, of which all of them are, none."""
    return '2' if has_driver() and not hides_gpus() else '3'


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """A block whose output to standard error is shown when it ends, without chatter."""
    global _screen
    sys.stderr.flush()
    with tempfile.TemporaryFile() as kept:
        before, _screen = _screen, os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(_screen, 2)
            os.close(_screen)
            _screen = before
            kept.seek(0)
            sys.stderr.write(without_chatter(kept.read().decode(errors='replace')))
            sys.stderr.flush()


def without_chatter(text: str) -> str:
    """The lines of a text that are not TensorFlow's about itself.

    >>> without_chatter('I0000 00:00:1795771414.318223 22995 port.cc:153] oneDNN is on.\\nfull\\n')
    'full\\n'
    """
    lines = text.splitlines(keepends=True)
    return ''.join(line for line in lines if not _CHATTER.match(line))


@contextlib.contextmanager
def _loading_tensorflow() -> Iterator[None]:
    """TensorFlow is loaded. What kills the process while it is must be seen at once."""
    if not runs_tensorflow():
        yield
        return
    with held_back():
        yield


def runs_tensorflow(cpuinfo: Path = Path('/proc/cpuinfo')) -> bool:
    """Whether this processor has the instructions (AVX) that TensorFlow is built of on x86."""
    if platform.machine().lower() not in ('x86_64', 'amd64'):
        return True
    try:
        return ' avx ' in cpuinfo.read_text(errors='replace')
    except OSError:
        return True


class Warnings(logging.Handler):
    """Shows warnings and errors of the libraries on standard error, as one line of plain text."""

    def emit(self, record: logging.LogRecord) -> None:
        """Shows a record, above a progress bar if there is one."""
        from tqdm import tqdm  # which an environment of another framework may lack

        text = f'{record.levelname.lower()}: {record.getMessage()}'
        tqdm.write(text, file=sys.stderr)


@contextlib.contextmanager
def _loading_logger() -> Iterator[None]:
    """The logger of tensorpack is made; what it says of itself goes to the log of the run alone."""
    yield
    logger = logging.getLogger('tensorpack')
    for handler in list(logger.handlers):
        if not isinstance(handler, logging.FileHandler):
            logger.removeHandler(handler)
    logger.addHandler(Warnings(logging.WARNING))


def silence() -> None:
    """Keeps from the console what libraries say that are loaded from now on; warnings stay."""
    loading.around('tensorflow', _loading_tensorflow)
    loading.around('tensorpack.utils.logger', _loading_logger)
    logging.getLogger('tensorflow').setLevel(logging.ERROR)
    # Of a home directory that cannot be written, and of fonts.
    logging.getLogger('matplotlib').setLevel(logging.ERROR)
