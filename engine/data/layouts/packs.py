"""Layout of the two large files that ``scripts.pack_data`` writes."""

from pathlib import Path

from engine.data.layouts.layout import Parts
from engine.data.packed import PACKS, Pack, PackedSource
from engine.errors import UsageError


class Packs:
    """A file of training and one of validation images, see ``engine.data.packed``."""

    name = 'packs'
    wanted = f'{" and ".join(PACKS)}, as scripts.pack_data writes them'

    def recognise(self, root: Path) -> bool:
        """Whether one of them is there."""
        return any((root / part).exists() for part in PACKS)

    def read(self, root: Path) -> Parts:
        """Open both.

        Raises:
            UsageError: one of the two is not complete, or they have other classes.
        """
        train, val = (Pack(root / part) for part in PACKS)
        if train.classes != val.classes:
            raise UsageError(
                f'--data {root}: {PACKS[0]} and {PACKS[1]} have other classes; pack them again'
            )
        return Parts(train.classes, PackedSource(train), PackedSource(val))
