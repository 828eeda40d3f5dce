"""The record of the data that a run trains and is evaluated on: ``data.json``.

The record knows data by their content, not by their place: see ``engine.data.identity``.
"""

import dataclasses
from collections.abc import Iterable
from pathlib import Path

from engine.data.classes import differences
from engine.data.identity import MODULUS, Identity, Part, is_fingerprint, to_hexadecimal
from engine.errors import UsageError
from engine.files import read_json, write_json
from engine.quantities import counted
from engine.schema import Count

FILE = 'data.json'
REMEDY = 'set it aside if --data has not changed'


@dataclasses.dataclass(frozen=True)
class DataRecord:
    """The content of ``data.json``.

    Attributes:
        training_images, crc32, content: the images that are trained on, as ``Part``; not in the
            folder of an evaluation. Earlier runs have no ``content``, and nothing of the following.
        classes: names of the classes, in the order of the class index.
        val: validation images, without those that the skip list named.
        whole_val: with these.
        bad: fingerprints of images that could not be decoded, by name: data in which these are
            repaired are the same.
    """

    training_images: Count | None = None
    crc32: Count | None = None
    content: str = ''
    classes: tuple[str, ...] = ()
    val: Part | None = None
    whole_val: Part | None = None
    bad: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def train(self) -> Part | None:
        """The images that are trained on."""
        if self.training_images is None or self.crc32 is None:
            return None
        return Part(self.training_images, self.crc32, self.content)

    def fault_of_train(self, found: Identity) -> str:
        """How training images differ from those of the record; empty if no difference is known."""
        if self.train is None or found.train is None:
            return ''
        return self._fault('training', [self.train], [found.train], found)

    def fault_of_val(self, found: Identity) -> str:
        """How validation images differ from those of the record; skip lists may differ."""
        if self.val is None:
            return ''
        then = [self.val, self.whole_val or self.val]
        now = [found.val, found.whole_val]
        return self._fault('validation', then, now, found)

    def _fault(self, part: str, then: list[Part], now: list[Part], found: Identity) -> str:
        """Why none of the images now are those of then; empty if some are."""
        why = 'other names or labels'
        for before in then:
            for after in now:
                if (before.images, before.crc32) != (after.images, after.crc32):
                    continue
                if self._same_content(before, after, found):
                    return ''
                why = 'other content under the same names'
        return (
            f'the run began with {counted(then[0].images, f"{part} image")}; --data and '
            f'--skip-list now give {now[0].images} or others ({why})'
        )

    def _same_content(self, then: Part, now: Part, found: Identity) -> bool:
        """Whether two parts are the same but for images that were bad then."""
        if not then.content or then.content == now.content:
            return True
        difference = int(now.content, 16) - int(then.content, 16)
        for name, before in self.bad.items():
            after = found.fingerprint_of(name)
            if after is not None:
                difference -= after - int(before, 16)
        return difference % MODULUS == 0


def of(found: Identity) -> DataRecord:
    """The record of a data set."""
    record = DataRecord(classes=found.classes, val=found.val, whole_val=found.whole_val)
    train = found.train
    if train is None:
        return record
    return dataclasses.replace(
        record, training_images=train.images, crc32=train.crc32, content=train.content
    )


def write(folder: Path, record: DataRecord) -> None:
    """Writes the record of a run folder."""
    write_json(folder / FILE, dataclasses.asdict(record))


def read(folder: Path) -> DataRecord | None:
    """The record of a run folder; None if it has none, as an imported network.

    Raises:
        UsageError: it cannot be read.
    """
    path = folder / FILE
    if not path.exists():
        return None
    found = read_json(path, DataRecord, REMEDY)
    numbers = list(found.bad.values())
    for part in (found.train, found.val, found.whole_val):
        if part is not None and part.content:
            numbers.append(part.content)
    if (found.train or found.val) and all(map(is_fingerprint, numbers)):
        return found
    raise UsageError(f'{path}: damaged (no fingerprints of images); {REMEDY}')


def check(folder: Path, found: Identity) -> None:
    """Checks that a run goes on with the data that it began with, wherever these are now.

    Args:
        folder: of the run.
        found: the data now.

    Raises:
        UsageError: these are others, or the record cannot be read.
    """
    there = read(folder)
    if there is None:
        return
    fault = other(there, found)
    if fault:
        raise UsageError(
            f'--logdir {folder}: {fault}, and the rest would not be of the same run. Give the data '
            'that it began with, from any place, repair the images, or give -a n for a new folder'
        )
    if there.train and not there.content:
        write(folder, of(found))


def other(there: DataRecord, found: Identity) -> str:
    """How data differ from those of a record; empty if they are the same."""
    if there.classes and there.classes != found.classes:
        return f'the run began with other classes ({differences(there.classes, found.classes)})'
    return there.fault_of_train(found) or there.fault_of_val(found)


def note_bad(folder: Path, names: Iterable[str], found: Identity) -> None:
    """Records images that cannot be decoded as they are now, so that they may be repaired.

    Args:
        folder: of the run.
        names: of the images.
        found: the data.
    """
    there = read(folder)
    if there is None:
        return
    bad = dict(there.bad)
    for name in names:
        value = found.fingerprint_of(name)
        if value is not None:
            bad.setdefault(name, to_hexadecimal(value))
    if bad != there.bad:
        write(folder, dataclasses.replace(there, bad=bad))
