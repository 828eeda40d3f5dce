"""Layouts of labelled images, and what they share: names of parts and classes, lists of files."""

import os
import unicodedata
from collections.abc import Iterable, Mapping, Sequence, Sized
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from engine.data.sources import Source, some
from engine.errors import UsageError
from engine.quantities import counted

# Formats of files, by suffix.
FORMATS = {
    '.jpeg': 'JPEG',
    '.jpg': 'JPEG',
    '.png': 'PNG',
    '.bmp': 'BMP',
    '.webp': 'WEBP',
    '.gif': 'GIF',
    '.tif': 'TIFF',
    '.tiff': 'TIFF',
}
SUFFIXES = tuple(FORMATS)

# Names that a part goes by, the ones that are looked for first in front. What is called a test set
# is validated on where nothing else is.
TRAIN = ('train', 'training')
VAL = ('val', 'validation', 'valid', 'test')

SHOWN = 10  # names in a message
# Digits of a class number, with room to spare.
DIGITS = 9


class Parts(NamedTuple):
    """Images of the parts of a data set that has a layout.

    Attributes:
        classes: names, in the order of the class index.
        train: training images, or all of them.
        val: validation images; None: there are none beside the others.
        note: what else is there to say, such as what was left out.
    """

    classes: tuple[str, ...]
    train: Source
    val: Source | None
    note: str = ''


class Layout(Protocol):
    """A way in which labelled images lie in a folder or a file.

    Attributes:
        name: for the line that says what was recognised.
        wanted: what it looks for, for the message where nothing was.
    """

    name: str
    wanted: str

    def recognise(self, root: Path) -> bool:
        """Whether images lie so; must be quick, and open no image."""

    def read(self, root: Path) -> Parts:
        """The images, listed but not opened.

        Raises:
            UsageError: files and labels do not fit together.
        """


def entries(folder: Path) -> list[str]:
    """Sorted names of what is in a folder, without hidden ones; none of what is no folder.

    Raises:
        UsageError: it cannot be listed.
    """
    try:
        if not folder.is_dir():
            return []
        names = os.listdir(folder)
    except OSError as error:
        raise UsageError(f'--data: {folder} cannot be listed: {error.strerror}') from error
    return sorted(name for name in names if not name.startswith('.'))


def folders(folder: Path) -> list[str]:
    """Sorted names of the folders in it, without hidden ones.

    Raises:
        UsageError: it cannot be listed, or has a link that leads nowhere or in a circle.
    """
    found = []
    for name in entries(folder):
        path = folder / name
        if path.is_dir():
            found.append(name)
        elif path.is_symlink() and not os.path.exists(path):
            raise UsageError(f'--data: {path} is a link that leads nowhere, or in a circle')
    return found


def is_image(name: str) -> bool:
    """Whether a file is called like an image."""
    return name.lower().endswith(SUFFIXES)


def images(folder: Path) -> list[str]:
    """Sorted names of the image files in it, without hidden ones."""
    # Names, not Path objects: those would take half a gigabyte for ImageNet.
    return [name for name in entries(folder) if is_image(name)]


def part_folder(root: Path, names: Iterable[str]) -> str:
    """The first of these folders that is there; empty without any."""
    for name in names:
        if (root / name).is_dir():
            return name
    return ''


def part_of(name: str) -> str:
    """``train``, ``val`` or ``test``: the part that a word stands for; empty for another word."""
    word = name.strip().lower()
    if word in TRAIN:
        return 'train'
    if word == 'test':
        return word
    return 'val' if word in VAL else ''


def validation(parts: Mapping[str, Sized], things: str) -> tuple[str, str]:
    """The part that is validated on, empty without one; and what to say of one that is left alone.

    Args:
        parts: images or shards by part, see ``part_of``; empty ones are none.
        things: how they are called.
    """
    found = [part for part in ('val', 'test') if parts.get(part)]
    if len(found) < 2:
        return ''.join(found), ''
    return 'val', f'{len(parts["test"])} {things} called test are left alone'


def normal(name: str) -> str:
    """A name in the form in which equal texts have equal characters: systems store accents apart.

    A name that is no text stays as it is.
    """
    return unicodedata.normalize('NFC', name)


def by_name(classes: Sequence[str], where: object) -> dict[str, int]:
    """Class index by name.

    Args:
        classes: names, in the order of the index.
        where: they are, for messages.

    Raises:
        UsageError: two of them look the same.
    """
    index: dict[str, int] = {}
    for number, name in enumerate(classes):
        if normal(name) in index:
            raise UsageError(
                f'--data: {where} has two classes {name}, whose letters are stored in two ways; '
                'put their images into one'
            )
        index[normal(name)] = number
    return index


def is_number(label: str) -> bool:
    """Whether a label is a number of a class."""
    return label.isdecimal() and len(label) <= DIGITS


def class_order(labels: Iterable[str]) -> tuple[str, ...]:
    """Labels once each, in order: by value where all are numbers, else by name."""
    names = sorted(set(labels))
    if all(map(is_number, names)):
        names.sort(key=int)
    return tuple(names)


def classes_of(labels: Iterable[str], where: object) -> tuple[tuple[str, ...], dict[str, int]]:
    """Classes that labels name, see ``class_order``, and their indices, see ``by_name``.

    Raises:
        UsageError: two of them look the same.
    """
    classes = class_order(labels)
    return classes, by_name(classes, where)


def numbered(labels: Sequence[str], index: dict[str, int], where: object) -> np.ndarray:
    """Class indices int64 [N] of labels.

    Args:
        labels: N names of classes.
        index: see ``by_name``.
        where: the labels are, for messages.

    Raises:
        UsageError: a label is none of the classes.
    """
    unknown = {label for label in labels if normal(label) not in index}
    if unknown:
        raise UsageError(
            f'--data: {where}: these labels are of no class of the {len(index)} that training '
            f'images have: {some(unknown)}'
        )
    return np.array([index[normal(label)] for label in labels], np.int64)


def described(root: Path) -> str:
    """The content of a folder, for a message: folders, and files by suffix."""
    if root.is_file():
        return f'a file of {counted(root.stat().st_size, "byte")}'
    names = entries(root)
    inner = [name for name in names if (root / name).is_dir()]
    counts: dict[str, int] = {}
    for name in names:
        if name not in inner:
            suffix = Path(name).suffix.lower() or name
            counts[suffix] = counts.get(suffix, 0) + 1
    texts = []
    if inner:
        more = f' and {len(inner) - SHOWN} more' if len(inner) > SHOWN else ''
        listed = ', '.join(f'{name}/' for name in inner[:SHOWN])
        texts.append(f'{counted(len(inner), "folder")} ({listed}{more})')
    for suffix in sorted(counts)[:SHOWN]:
        texts.append(f'{counted(counts[suffix], "file")} {suffix}')
    for name in inner:
        if part_of(name):
            texts.append(f'in {name}/ {described(root / name)}')
    return ', '.join(texts) or 'nothing'
