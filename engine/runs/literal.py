"""Gives TensorFlow names of checkpoints in which it sees no patterns.

It takes ``[ ] * ? \\`` in the name of a checkpoint for a pattern, which may match nothing, or the
files of another one, and cannot be given names that are not UTF-8. An open folder has a name
without any of that.
"""

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Where Linux shows the open folders of this process under their numbers.
OPEN = Path('/proc/self/fd')

# Names of files that are patterns, or cannot be encoded.
PATTERN = re.compile(r'[][*?\\\ud800-\udfff]')


@contextlib.contextmanager
def literal(path: str | Path) -> Iterator[str]:
    """Another name of a file or folder to be, or of the prefix of a checkpoint, while within.

    Its own last part stays, and must be no pattern.

    Raises:
        OSError: there is no folder to hold it.
    """
    path = Path(path)
    if not OPEN.is_dir():
        yield str(path)
        return
    number = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield str(OPEN / str(number) / path.name)
    finally:
        os.close(number)


@contextlib.contextmanager
def readable(prefix: str | Path) -> Iterator[str]:
    """Another name of the prefix of a checkpoint that is there, whatever its name, while within.

    Raises:
        OSError: there is no folder to hold it.
    """
    prefix = Path(prefix)
    if not PATTERN.search(prefix.name):
        with literal(prefix) as name:
            yield name
        return
    with tempfile.TemporaryDirectory() as folder:
        alias = Path(folder) / 'checkpoint'
        for file in prefix.parent.iterdir():
            if file.name.startswith(f'{prefix.name}.'):
                end = file.name.removeprefix(prefix.name)
                Path(f'{alias}{end}').symlink_to(file.absolute())
        with literal(alias) as name:
            yield name
