"""Folders and files of labelled images in any layout, see ``engine.data.layouts``."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

from engine.data import cifar, fitted, layouts
from engine.data.sources import ArraySource, Subset
from engine.data.spec import Dataset, DatasetSpec

HELP = (
    'a folder with train/ and val/, one of class folders (with --val-split), a table, shards, an '
    '.npz, or packs'
)

ILSVRC_CLASSES = 1000


def is_ilsvrc(classes: Sequence[str]) -> bool:
    """Whether class folders are those of ILSVRC2012: a thousand that bear numbers of WordNet."""
    return len(classes) == ILSVRC_CLASSES and all(re.fullmatch(r'n\d{8}', c) for c in classes)


def spec_of(classes: Sequence[str], edge: int = 0) -> DatasetSpec:
    """Which data set images of these classes are: ImageNet, or any other, with their recipe.

    Args:
        classes: names.
        edge: median of the shortest edges of images, pixels; 0: not known.
    """
    named = IMAGENET if is_ilsvrc(classes) and not 0 < edge <= fitted.SMALL else FOLDER
    return fitted.fitted(named, edge, cifar.SPECS['cifar10'])


def _open(data: str, image_size: int) -> Dataset:
    root = Path(data).expanduser()
    layout = layouts.recognised(root)
    parts = layout.read(root)
    edges = fitted.edges(parts.train)
    spec = spec_of(parts.classes, edges.median)
    if isinstance(parts.train, ArraySource):
        spec = dataclasses.replace(spec, in_memory=True)
    val = parts.val
    if val is None:
        val = Subset(parts.train, parts.train.labels[:0])
    name = root.resolve().stem if root.is_file() else root.resolve().name
    return Dataset(
        name,
        spec,
        parts.classes,
        parts.train,
        val,
        layout=layout.name,
        edges=edges,
        note=parts.note,
    )


FOLDER = DatasetSpec(name='folder', open=_open, help=HELP)
IMAGENET = dataclasses.replace(FOLDER, name='imagenet')
