"""Layouts of image files in a folder for each class."""

from pathlib import Path

from engine.data.layouts import label_list
from engine.data.layouts.layout import (
    SUFFIXES,
    TRAIN,
    VAL,
    Parts,
    by_name,
    entries,
    folders,
    images,
    normal,
    numbered,
    part_folder,
    part_of,
)
from engine.data.sources import FileSource, some
from engine.errors import UsageError
from engine.quantities import counted

SOLUTION = 'LOC_val_solution.csv'
TITLE = 'ImageId'  # of its first column
# Where Kaggle's archive of ILSVRC has the images.
KAGGLE = Path('ILSVRC', 'Data', 'CLS-LOC')
ANNOTATIONS = 'val_annotations.txt'


class TrainAndVal:
    """A folder of training and one of validation images, each with a folder for each class.

    The latter may be flat, with a list of labels.
    """

    name = 'class folders in train/ and val/'
    wanted = (
        'train/CLASS/* and val/CLASS/* (or validation/, valid/, test/), or a flat val/ with '
        f'{" ".join(label_list.NAMES)}'
    )

    def recognise(self, root: Path) -> bool:
        """Whether there is a folder of training images by class."""
        train = part_folder(root, TRAIN)
        return bool(train) and bool(folders(root / train))

    def read(self, root: Path) -> Parts:
        """List both folders.

        Raises:
            UsageError: a class is empty, or the two do not fit together.
        """
        part = part_folder(root, TRAIN)
        classes = tuple(folders(root / part))
        index = by_name(classes, root / part)
        train = tree(root, part, index, first=part)
        val = _validation(root)
        note = ''
        if val and val != 'test' and (root / 'test').is_dir():
            note = f'test/ is left alone: {val}/ is what is validated on'
        if not val:
            return Parts(classes, train, None)
        return Parts(classes, train, _val(root, val, index, first=part), note)


class OneFolder:
    """A folder for each class, and nothing that says what is for validation."""

    name = 'class folders'
    wanted = 'CLASS/*, at least two of them, with --val-split'

    def recognise(self, root: Path) -> bool:
        """Whether there are folders of images."""
        if part_folder(root, (*TRAIN, *VAL)):
            return False
        found = [name for name in entries(root) if images(root / name)]
        return len(found) > 1

    def read(self, root: Path) -> Parts:
        """List all folders.

        Raises:
            UsageError: a class is empty.
        """
        classes = tuple(folders(root))
        return Parts(classes, tree(root, '', by_name(classes, root)), None)


class TinyImageNet:
    """Tiny ImageNet: the images of a class one folder deeper, those of validation in a list."""

    name = 'Tiny ImageNet'
    wanted = f'train/CLASS/images/* and val/images/* with val/{ANNOTATIONS}'

    def recognise(self, root: Path) -> bool:
        """Whether there is its list."""
        return (root / 'train').is_dir() and (root / 'val' / ANNOTATIONS).is_file()

    def read(self, root: Path) -> Parts:
        """List both folders.

        Raises:
            UsageError: a class is empty, or the list is of other images.
        """
        classes = tuple(folders(root / 'train'))
        index = by_name(classes, root / 'train')
        train = tree(root, 'train', index, inner='images', first='train')
        path = root / 'val' / ANNOTATIONS
        labels = label_list.pairs(path, '\t')
        names = images(root / 'val' / 'images')
        known = label_list.one_to_one(path, names, labels)
        files = [f'val/images/{name}' for name in names]
        return Parts(classes, train, FileSource(root, files, numbered(known, index, path)))


class Kaggle:
    """ILSVRC as Kaggle has it: a flat folder of validation images with a table of solutions."""

    name = "Kaggle's ILSVRC"
    wanted = f'{SOLUTION} beside {KAGGLE}/train/CLASS/* and {KAGGLE}/val/*'

    def recognise(self, root: Path) -> bool:
        """Whether there is its table, in the folder or above that of the images."""
        return _solution(root) is not None and bool(part_folder(_images_of(root), ('train',)))

    def read(self, root: Path) -> Parts:
        """List both folders.

        Raises:
            UsageError: a class is empty, or the table is of other images.
        """
        place = _images_of(root)
        path = _solution(root)
        assert path is not None
        classes = tuple(folders(place / 'train'))
        index = by_name(classes, place / 'train')
        train = tree(place, 'train', index, first='train')
        if folders(place / 'val'):
            return Parts(classes, train, tree(place, 'val', index, first='train'))
        labels = []
        for name, solution in label_list.pairs(path, ','):
            if name != TITLE:
                # The class, and boxes of it.
                labels.append((f'{name}.JPEG', solution.split()[0]))
        names = images(place / 'val')
        known = label_list.one_to_one(path, names, labels)
        files = [f'val/{name}' for name in names]
        return Parts(classes, train, FileSource(place, files, numbered(known, index, path)))


def _solution(root: Path) -> Path | None:
    """The table in a folder, or above it where it is one of those on the way to the images."""
    root = root.absolute()
    above = (root, *root.parents)[: len(KAGGLE.parts) + 1]
    for depth, folder in enumerate(above):
        on_the_way = folder / Path(*KAGGLE.parts[:depth]) == root
        if on_the_way and (folder / SOLUTION).is_file():
            return folder / SOLUTION
    return None


def _images_of(root: Path) -> Path:
    """The folder with train/ and val/."""
    for depth in range(len(KAGGLE.parts)):
        place = root / Path(*KAGGLE.parts[depth:])
        if place.is_dir():
            return place
    return root


def tree(
    root: Path, part: str, index: dict[str, int], *, inner: str = '', first: str = ''
) -> FileSource:
    """List root/part/CLASS/inner/FILE.

    Args:
        root: the data.
        part: folder in it; empty for the folder itself.
        index: class index by name.
        inner: folder in that of a class.
        first: the part that has all classes, for messages.

    Raises:
        UsageError: a class is empty or not in `index`.
    """
    files: list[str] = []
    labels: list[int] = []
    empty: list[str] = []
    for name in folders(root / part):
        folder = root / part / name
        if normal(name) not in index:
            raise UsageError(f'--data: {folder} is no class: there is no {first}/{name}')
        found = images(folder / inner)
        if not found:
            empty.append(name)
        below = Path(part, name, inner).as_posix()
        files += [f'{below}/{file}' for file in found]
        labels += [index[normal(name)]] * len(found)
    if empty:
        suffixes = ' '.join(SUFFIXES)
        raise UsageError(
            f'--data: {root / part}: these classes hold no images ({suffixes}): {some(empty)}'
        )
    return FileSource(root, files, labels)


def _validation(root: Path) -> str:
    """The folder that is validated on; empty without one.

    One that is called a test set counts only with labels: many are published without.
    """
    for name in VAL:
        folder = root / name
        if folder.is_dir() and (part_of(name) == 'val' or folders(folder)):
            return name
    return ''


def _val(root: Path, part: str, index: dict[str, int], *, first: str) -> FileSource:
    """List val/CLASS/FILE, or val/FILE by its label list.

    Args:
        root: the data.
        part: the folder of validation images.
        index: class index by name.
        first: the folder of training images.

    Raises:
        UsageError: they do not fit together.
    """
    val = root / part
    names = images(val)
    found = folders(val)
    if found:
        present = set(map(normal, found))
        lacking = [name for name in index if name not in present]
        if lacking:
            raise UsageError(f'--data: {val} lacks the folders of these classes: {some(lacking)}')
        if names:
            raise UsageError(
                f'--data: {val} holds class folders and beside them '
                f'{counted(len(names), "image")}; put images into their classes: {some(names)}'
            )
        return tree(root, part, index, first=first)
    if not names:
        raise UsageError(f'--data: {val} holds no images ({" ".join(SUFFIXES)})')
    labels = label_list.read(label_list.find(root, part), names, index, part, first)
    return FileSource(root, [f'{part}/{name}' for name in names], labels)
