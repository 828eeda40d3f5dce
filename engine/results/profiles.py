"""Measured times of run folders, kept apart by the device that they were measured on. Pure Python.

``scripts.profile`` writes a file for each device; times of different devices are never compared.
"""

import dataclasses
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from engine import processor
from engine.errors import UsageError
from engine.files import in_shell, read_json
from engine.quantities import counted
from engine.results.records import Times
from engine.schema import Count, Part

# Start and end of the names of the files.
START, END = 'profile', '.json'

# Of files that earlier versions wrote.
UNRECORDED = 'unrecorded device'

# What computes a run folder, and so whose times count where nobody asks for others.
TENSORFLOW = 'tensorflow'


@dataclasses.dataclass(frozen=True)
class Device(Part):
    """A device that a network was timed on.

    Attributes:
        processor: Its model.
        gpu: Model of the GPU that computed; empty where the processor did.
        threads: Of one operation on the processor.
        backend: What computed, such as ``tensorflow``.
    """

    processor: str = ''
    gpu: str = ''
    threads: Count = 0
    backend: str = ''

    @property
    def name(self) -> str:
        """The device in words."""
        if not self.processor:
            return UNRECORDED
        computes = self.gpu or f'{self.processor}, {counted(self.threads, "thread")}'
        return f'{computes}, {self.backend}'

    @property
    def file(self) -> str:
        """Name of the file of its times."""
        slug = re.sub(r'[^a-z0-9]+', '-', self.name.lower()).strip('-')
        return f'{START}-{slug}{END}'


@dataclasses.dataclass(frozen=True)
class Profile(Part):
    """The file that ``scripts.profile`` writes.

    Attributes:
        points: Times by operating point.
        device: That they were measured on.
    """

    points: dict[str, Times]
    device: Device = dataclasses.field(default_factory=Device)


# Milliseconds of one image alone by operating point, by name of the device.
ByDevice = dict[str, dict[str, float]]


def read(folder: Path) -> ByDevice:
    """The times of a run folder.

    Raises:
        UsageError: A record is damaged.
    """
    found: ByDevice = {}
    for record in _records(folder):
        times = {point: measured.batch1_ms for point, measured in record.points.items()}
        found.setdefault(record.device.name, {}).update(times)
    return found


def _records(folder: Path) -> Iterator[Profile]:
    remedy = f'run python -m scripts.profile {in_shell(folder)} again'
    for path in sorted(folder.glob(f'{START}*{END}')):
        yield read_json(path, Profile, remedy)


def device_of(folders: Iterable[Path], asked: str = '', backend: str = '') -> str:
    """Name of the device whose times of several runs are compared; empty if none is.

    Without being asked for one, it is the only one, or else the only one that is this processor,
    or else the only GPU beside such a processor; of other backends than TensorFlow it is none.

    Args:
        folders: Of the runs.
        asked: Part of a name, in upper or lower case.
        backend: What computed; empty is any that was asked for.

    Raises:
        UsageError: No profile, or more than one, is of such a device; or a record is damaged.
    """
    known: dict[str, Device] = {}
    wanted = {backend} if backend else {TENSORFLOW, Device().backend}
    for folder in folders:
        for record in _records(folder):
            if record.device.backend in wanted or (asked and not backend):
                known[record.device.name] = record.device
    names = list(known)
    if asked:
        return _asked_for(asked, names)
    if len(names) == 1:
        return names[0]
    here = [device for device in known.values() if device.processor == processor.name()]
    alone = [device for device in here if not device.gpu]
    chosen = alone or here
    return chosen[0].name if len(chosen) == 1 else ''


def _asked_for(asked: str, names: Sequence[str]) -> str:
    found = [name for name in names if asked.lower() in name.lower()]
    exact = [name for name in found if asked.lower() == name.lower()]
    if len(exact or found) == 1:
        return (exact or found)[0]
    if not names:
        raise UsageError(f'--device {asked}: nothing was profiled; run scripts.profile first')
    what = 'several of the profiles are' if found else 'no profile is'
    raise UsageError(f'--device {asked}: {what} of such a device; {listed(found or names)}')


def listed(names: Sequence[str]) -> str:
    """Names of devices in a message."""
    return f'there are: {"; ".join(names)}'


def times_of(folder: Path, device: str) -> dict[str, float]:
    """Milliseconds of one image alone by operating point; none where the device is empty.

    Raises:
        UsageError: A record is damaged.
    """
    return read(folder).get(device, {})
