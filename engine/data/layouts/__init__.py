"""Layouts of labelled images, one file each; a new one has a line in ``LAYOUTS``."""

from pathlib import Path

from engine.data.layouts.array_file import ArrayFile
from engine.data.layouts.class_folders import Kaggle, OneFolder, TinyImageNet, TrainAndVal
from engine.data.layouts.layout import Layout, described
from engine.data.layouts.packs import Packs
from engine.data.layouts.shards import TFRECORDS, WEBDATASET
from engine.data.layouts.table import Table
from engine.errors import UsageError

# In the order in which a folder is offered to them: archives may lie beside what they hold.
LAYOUTS: tuple[Layout, ...] = (
    Packs(),
    TinyImageNet(),
    Kaggle(),
    TrainAndVal(),
    TFRECORDS,
    WEBDATASET,
    Table(),
    ArrayFile(),
    OneFolder(),
)


def recognised(root: Path) -> Layout:
    """The layout of a folder or file.

    Raises:
        UsageError: it is none; the message lists what was looked for, and what is there.
    """
    for layout in LAYOUTS:
        if layout.recognise(root):
            return layout
    looked = '; '.join(f'{layout.name}: {layout.wanted}' for layout in LAYOUTS)
    raise UsageError(
        f'--data {root}: no layout of labelled images is recognised; found {described(root)}, '
        f'looked for {looked}'
    )
