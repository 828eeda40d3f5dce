"""Folders of image files, as ILSVRC2012 comes.

They hold train/CLASS/FILE, and val/CLASS/FILE or val/FILE with a label list. A folder with two
packed files instead (see ``engine.data.packed``) is opened likewise.
"""

import dataclasses
import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from engine.data.packed import PACKS, Pack, PackedSource
from engine.data.sources import FileSource, some
from engine.data.spec import Dataset, DatasetSpec
from engine.errors import UsageError
from engine.files import read_names

SUFFIXES = ('.jpeg', '.jpg', '.png', '.bmp', '.webp')
# Digits of a class number, with room to spare.
DIGITS = 9

LABEL_LISTS = ('val.txt', 'val_map.txt', 'val_labels.txt')
HELP = 'a folder with train/ and val/, or one that pack_data wrote'

ILSVRC_CLASSES = 1000


def is_ilsvrc(classes: Sequence[str]) -> bool:
    """Whether class folders are those of ILSVRC2012: a thousand that bear numbers of WordNet."""
    return len(classes) == ILSVRC_CLASSES and all(re.fullmatch(r'n\d{8}', c) for c in classes)


def spec_of(classes: Sequence[str]) -> DatasetSpec:
    """Which data set a folder with these classes is: ImageNet, or any other."""
    return IMAGENET if is_ilsvrc(classes) else FOLDER


def _open(data: str, image_size: int) -> Dataset:
    root = Path(data).expanduser()
    if any((root / part).exists() for part in PACKS):
        return _open_packed(root)
    for part in ('train', 'val'):
        if not (root / part).is_dir():
            raise UsageError(f'--data {data}: there is no {part}/ in it; give {HELP}')
    classes = tuple(_folders(root / 'train'))
    if not classes:
        raise UsageError(f'--data {data}: train/ holds no class folders')
    index = {name: k for k, name in enumerate(classes)}
    train = _read_tree(root, 'train', index)
    val = _read_val(root, index)
    return Dataset(root.resolve().name, spec_of(classes), classes, train, val)


def _open_packed(root: Path) -> Dataset:
    """Opens a packed data set: a file of training and one of validation images.

    Raises:
        UsageError: one of the two files is not complete, or they have other classes.
    """
    train, val = (Pack(root / part) for part in PACKS)
    if train.classes != val.classes:
        raise UsageError(
            f'--data {root}: {PACKS[0]} and {PACKS[1]} have other classes; pack them again'
        )
    spec = spec_of(train.classes)
    name = root.resolve().name
    return Dataset(name, spec, train.classes, PackedSource(train), PackedSource(val))


def _folders(folder: Path) -> list[str]:
    """Sorted names of the folders in it, without hidden ones."""
    found = []
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.name.startswith('.'):
            found.append(entry.name)
    return sorted(found)


def _images(folder: Path) -> list[str]:
    """Sorted names of the image files in it, without hidden ones."""
    # Names, not Path objects: those would take half a gigabyte for ImageNet.
    found = []
    for name in os.listdir(folder):
        if name.lower().endswith(SUFFIXES) and not name.startswith('.'):
            found.append(name)
    return sorted(found)


def _read_tree(root: Path, part: str, index: dict[str, int]) -> FileSource:
    """List root/part/CLASS/FILE.

    Raises:
        UsageError: a class is empty or not in `index`.
    """
    files: list[str] = []
    labels: list[int] = []
    empty: list[str] = []
    for name in _folders(root / part):
        folder = root / part / name
        if name not in index:
            raise UsageError(f'--data: {folder} is no class: there is no train/{name}')
        found = _images(folder)
        if not found:
            empty.append(name)
        files += [f'{part}/{name}/{file}' for file in found]
        labels += [index[name]] * len(found)
    if empty:
        suffixes = ' '.join(SUFFIXES)
        raise UsageError(
            f'--data: {root / part}: these classes hold no images ({suffixes}): {some(empty)}'
        )
    return FileSource(root, files, labels)


def _read_val(root: Path, index: dict[str, int]) -> FileSource:
    """List val/CLASS/FILE, or val/FILE by its label list.

    Raises:
        UsageError: they do not fit together.
    """
    val = root / 'val'
    names = _images(val)
    folders = _folders(val)
    if folders:
        lacking = set(index).difference(folders)
        if lacking:
            raise UsageError(f'--data: {val} lacks the folders of these classes: {some(lacking)}')
        if names:
            raise UsageError(
                f'--data: {val} holds class folders and beside them {len(names)} images; put '
                f'those into their classes: {some(names)}'
            )
        return _read_tree(root, 'val', index)
    if not names:
        raise UsageError(f'--data: {val} holds no images ({" ".join(SUFFIXES)})')
    labels = _read_labels(_label_list(root), names, index)
    return FileSource(root, [f'val/{name}' for name in names], labels)


def _label_list(root: Path) -> Path:
    """The first label list that there is.

    Raises:
        UsageError: there is none.
    """
    places = []
    for folder in (Path(), Path('meta')):
        places += [folder / name for name in LABEL_LISTS]
    for place in places:
        if (root / place).is_file():
            return root / place
    looked = ', '.join(map(str, places))
    raise UsageError(
        f'--data: {root / "val"} holds neither class folders nor is there a label list; '
        f'looked for {looked}'
    )


def _read_labels(path: Path, names: list[str], index: dict[str, int]) -> list[int]:
    """Class index of each file of `names`.

    Lines are 'file label', or 'label' in the sorted order of the files.

    Raises:
        UsageError: files and lines do not match one to one, or a label is unknown.
    """
    listed_lines = read_names(path, 'give the list as a text')
    lines = [line.rsplit(None, 1) for line in listed_lines if line.strip()]
    if all(len(fields) == 1 for fields in lines):
        listed = names
    else:
        listed = [PurePosixPath(fields[0]).name for fields in lines]
    _check_listed(path, names, listed)
    if len(lines) != len(names):
        raise UsageError(
            f'--data: {path} has {len(lines)} lines for the {len(names)} images of val/'
        )
    labels = _indices(path, [fields[-1] for fields in lines], index)
    known = dict(zip(listed, labels))
    return [known[name] for name in names]


def _check_listed(path: Path, names: list[str], listed: list[str]) -> None:
    """Checks that a label list names the images that there are.

    Raises:
        UsageError: a line or an image is missing.
    """
    without_line = set(names).difference(listed)
    if without_line:
        raise UsageError(
            f'--data: {path} has no line for these images of val/: {some(without_line)}'
        )
    without_image = set(listed).difference(names)
    if without_image:
        raise UsageError(f'--data: {path} lists images that val/ lacks: {some(without_image)}')


def _indices(path: Path, labels: list[str], index: dict[str, int]) -> list[int]:
    """Class indices of labels that are names of class folders, or else all decimal numbers.

    Raises:
        UsageError: a label is neither, they are mixed, or numbers count from 1.
    """
    if all(label in index for label in labels):
        return [index[label] for label in labels]
    last = len(index) - 1
    numbers = [int(label) if _is_number(label) else -1 for label in labels]
    if min(numbers) > 0 and max(numbers) == last + 1:
        raise UsageError(
            f'--data: {path}: labels count from 1 to {last + 1}, expected 0..{last} in the sorted '
            'order of the classes of train/; names of classes are safer, as other lists number '
            'them in another order'
        )
    for label, number in zip(labels, numbers):
        if label not in index and not 0 <= number <= last:
            raise UsageError(
                f'--data: {path}: label {label} is neither a class of train/ nor 0..{last}'
            )
    for label, number in zip(labels, numbers):
        if not 0 <= number <= last:
            raise UsageError(
                f'--data: {path}: label {label} is a class of train/, others are numbers; give '
                'names for all'
            )
    return numbers


def _is_number(label: str) -> bool:
    return label.isdecimal() and len(label) <= DIGITS


FOLDER = DatasetSpec(name='folder', open=_open, help=HELP, claims=Path.is_dir)
IMAGENET = dataclasses.replace(FOLDER, name='imagenet')
