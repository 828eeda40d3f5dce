"""The environment of a run: ``environment.json``, an entry for every start of its training."""

import dataclasses
import datetime
import functools
import importlib.metadata
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from engine import processor
from engine.files import derived, read_json, write_json
from engine.schema import Count
from engine.version import __version__
from quant.backend import tf

FILE = 'environment.json'

# Distributions whose versions decide what is computed.
PACKAGES = ('tensorflow', 'tensorpack', 'numpy', 'opencv-python-headless', 'pillow')

# The checkout, if this is one.
ROOT = Path(__file__).resolve().parent.parent.parent

# Seconds that git may take.
PATIENCE = 10


@dataclasses.dataclass(frozen=True)
class Environment:
    """A start of a training.

    Attributes:
        began: when, in UTC.
        step: at which the training began or went on.
        command: line that started it.
        suite: version of this package.
        commit: of the checkout; empty where this is none.
        changed: whether files of it differed from that commit.
        python: version.
        packages: versions by name.
        system: name and version.
        processor: its name.
        features: what it can do, see ``engine.processor``.
        cores: that the process could use.
        memory: bytes of the machine.
        gpus: names of those that TensorFlow found.
    """

    began: str
    step: Count
    command: str
    suite: str
    commit: str
    changed: bool
    python: str
    packages: dict[str, str]
    system: str
    processor: str
    features: tuple[str, ...]
    cores: Count
    memory: Count
    gpus: tuple[str, ...]


def read(folder: Path) -> tuple[Environment, ...]:
    """The starts of a run, the first one first; none of an earlier version's.

    A damaged file, which is said, is set aside.
    """
    return derived(folder / FILE, functools.partial(parsed, folder)) or ()


def parsed(folder: Path, remedy: str) -> tuple[Environment, ...]:
    """The starts of a run, from a file that is there.

    Args:
        folder: of the run.
        remedy: what can be done where it is damaged.

    Raises:
        UsageError: it is.
    """
    return read_json(folder / FILE, tuple[Environment, ...], remedy)


def record(folder: Path, step: int) -> None:
    """Adds this start to those of a run.

    Args:
        folder: of the run.
        step: that it is at.
    """
    entries = [*read(folder), here(step)]
    write_json(folder / FILE, list(map(dataclasses.asdict, entries)))


def here(step: int = 0) -> Environment:
    """This process and its machine; TensorFlow is asked for GPUs."""
    commit, changed = checkout()
    return Environment(
        began=f'{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%dT%H:%M:%SZ}',
        step=step,
        command=shlex.join([Path(sys.executable).name, *sys.argv]),
        suite=__version__,
        commit=commit,
        changed=changed,
        python=platform.python_version(),
        packages=versions(),
        system=platform.platform(),
        processor=processor.name(),
        features=processor.features(),
        cores=processor.cores(),
        memory=processor.memory_bytes(),
        gpus=gpus(),
    )


def versions(names: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Versions of those packages that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def gpus() -> tuple[str, ...]:
    """Names of the GPUs that TensorFlow finds."""
    names = []
    for device in tf.config.list_physical_devices('GPU'):
        details = tf.config.experimental.get_device_details(device)
        names.append(str(details.get('device_name', device.name)))
    return tuple(names)


def checkout(root: Path = ROOT, besides: str = '') -> tuple[str, bool]:
    """Commit of a checkout, and whether files of it were changed; empty where git knows of none.

    Args:
        root: Of the checkout.
        besides: Folder whose files may be changed.
    """
    if not (root / '.git').exists():
        return '', False
    commit = _git(root, 'rev-parse', 'HEAD')
    words = ['status', '--porcelain', '--untracked-files=no']
    if besides:
        words += ['--', '.', f':!{besides}']
    return commit, bool(commit and _git(root, *words))


def _git(root: Path, *words: str) -> str:
    """Answer of git; empty where there is none or it fails."""
    command = ['git', '-C', str(root), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    except (OSError, subprocess.SubprocessError):
        return ''
    return done.stdout.strip() if done.returncode == 0 else ''
