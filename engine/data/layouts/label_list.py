"""Lists of labels beside a flat folder of images."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from engine.data.layouts.layout import is_number, normal
from engine.data.sources import some
from engine.errors import UsageError
from engine.files import read_names
from engine.quantities import counted

NAMES = ('val.txt', 'val_map.txt', 'val_labels.txt')


def find(root: Path, part: str) -> Path:
    """The first label list that there is.

    Raises:
        UsageError: there is none.
    """
    places = []
    for folder in (Path(), Path('meta')):
        places += [folder / name for name in NAMES]
    for place in places:
        if (root / place).is_file():
            return root / place
    looked = ', '.join(map(str, places))
    raise UsageError(
        f'--data: {root / part} holds neither class folders nor is there a label list; '
        f'looked for {looked}'
    )


def read(path: Path, names: list[str], index: dict[str, int], part: str, first: str) -> list[int]:
    """Class index of each file of `names`.

    Lines are 'file label', or 'label' in the sorted order of the files.

    Args:
        path: of the list.
        names: of the files.
        index: class index by name.
        part: folder of the files.
        first: the folder that has all classes, for messages.

    Raises:
        UsageError: files and lines do not match one to one, or a label is unknown.
    """
    listed_lines = read_names(path, 'give the list as a text')
    lines = [line.rsplit(None, 1) for line in listed_lines if line.strip()]
    if all(len(fields) == 1 for fields in lines):
        labels = [fields[0] for fields in lines]
        _check_count(path, len(lines), names, part)
    else:
        rows = [(PurePosixPath(fields[0]).name, fields[-1]) for fields in lines]
        labels = one_to_one(path, names, rows, part)
    return _indices(path, labels, index, first)


def pairs(path: Path, separator: str) -> list[tuple[str, str]]:
    """Names of files and labels, of lines that begin with both.

    Args:
        path: of the list.
        separator: between them.

    Raises:
        UsageError: a line has no label.
    """
    found = []
    for number, line in enumerate(read_names(path, 'give the list as a text'), 1):
        if not line.strip():
            continue
        fields = line.rstrip('\r').split(separator)
        if len(fields) < 2 or not fields[1].strip():
            raise UsageError(f'--data: {path}, line {number}: expected a file and its label')
        found.append((fields[0].strip(), fields[1].strip()))
    return found


def one_to_one(
    path: Path, names: Sequence[str], rows: Sequence[tuple[str, str]], part: str = 'val'
) -> list[str]:
    """The label of each file.

    Args:
        path: of the list.
        names: of the files.
        rows: names and labels of the list.
        part: folder of the files, for messages.

    Raises:
        UsageError: a line or an image is missing, or a file is listed twice.
    """
    known = dict(rows)
    without_line = set(names).difference(known)
    if without_line:
        raise UsageError(
            f'--data: {path} has no line for these images of {part}/: {some(without_line)}'
        )
    without_image = set(known).difference(names)
    if without_image:
        raise UsageError(f'--data: {path} lists images that {part}/ lacks: {some(without_image)}')
    _check_count(path, len(rows), names, part)
    return [known[name] for name in names]


def _check_count(path: Path, count: int, names: Sequence[str], part: str) -> None:
    """Checks that a list has a line for each file.

    Raises:
        UsageError: it has more or fewer.
    """
    if count != len(names):
        lines, images = counted(count, 'line'), counted(len(names), 'image')
        raise UsageError(f'--data: {path} has {lines} for the {images} of {part}/')


def _indices(path: Path, labels: list[str], index: dict[str, int], first: str) -> list[int]:
    """Class indices of labels that are names of class folders, or else all decimal numbers.

    Args:
        path: of the list, for messages.
        labels: of the images.
        index: class index by name.
        first: the folder that has all classes, for messages.

    Raises:
        UsageError: a label is neither, they are mixed, or numbers count from 1.
    """
    if all(normal(label) in index for label in labels):
        return [index[normal(label)] for label in labels]
    last = len(index) - 1
    numbers = [int(label) if is_number(label) else -1 for label in labels]
    if min(numbers) > 0 and max(numbers) == last + 1:
        raise UsageError(
            f'--data: {path}: labels count from 1 to {last + 1}, expected 0..{last} in the sorted '
            f'order of the classes of {first}/; names of classes are safer, as other lists number '
            'them in another order'
        )
    for label, number in zip(labels, numbers):
        if normal(label) not in index and not 0 <= number <= last:
            raise UsageError(
                f'--data: {path}: label {label} is neither a class of {first}/ nor 0..{last}'
            )
    for label, number in zip(labels, numbers):
        if not 0 <= number <= last:
            raise UsageError(
                f'--data: {path}: label {label} is a class of {first}/, others are numbers; give '
                'names for all'
            )
    return numbers
