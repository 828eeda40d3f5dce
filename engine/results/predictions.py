"""Predictions of many images in a CSV file that grows, and that an interruption does not harm."""

import csv
import dataclasses
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TextIO

from engine.errors import UsageError
from engine.files import read_json, read_text, replacing, write_json
from engine.quantities import counted

# Columns in front of those of the classes.
FIRST = ('number', 'image', 'point', 'ms', 'error')

# End of the names of what is being written, and of the settings that it was begun with.
PART, SETTINGS = '.part', '.part.json'

# Bytes of a file of predictions: a row takes about a hundred.
LARGEST = 2**32

_REMEDY = 'give a file that scripts.predict wrote'


@dataclasses.dataclass(frozen=True)
class Row:
    """The answer about one image.

    Attributes:
        number: of the image among all, whatever the part of a job is.
        image: its path.
        point: the operating point that answered; empty where nothing did.
        ms: milliseconds of the image.
        error: why the image cannot be read; empty if it can.
        classes: label, name and probability of the most probable classes, the first one first.
    """

    number: int
    image: str
    point: str = ''
    ms: float = 0.0
    error: str = ''
    classes: tuple[tuple[int, str, float], ...] = ()

    def cells(self, top: int) -> list[str]:
        """Its cells, with those of ``top`` classes."""
        found = [str(self.number), self.image, self.point, f'{self.ms:.3f}', self.error]
        for label, name, score in self.classes[:top]:
            found += [str(label), name, f'{score:.6f}']
        return found + [''] * (len(FIRST) + 3 * top - len(found))


def columns(top: int) -> list[str]:
    """Names of the columns, with those of ``top`` classes."""
    found = list(FIRST)
    for place in range(1, top + 1):
        found += [f'label{place}', f'name{place}', f'score{place}']
    return found


def parse(text: str, source: str) -> tuple[list[Row], int]:
    """The complete rows of a file, and how many classes each has.

    Args:
        text: of the file; what follows its last line end is left out.
        source: of it, for messages.

    Raises:
        UsageError: it has other columns, or a row is none.
    """
    whole, _, _ = text.rpartition('\n')
    # A line end within quotes is no end of a row.
    while whole.count('"') % 2:
        whole, _, _ = whole.rpartition('\n')
    try:
        lines = list(csv.reader(io.StringIO(whole, newline='')))
    except csv.Error as error:
        raise UsageError(f'{source}: has no rows of cells ({error}); {_REMEDY}') from error
    header, *body = lines or [[]]
    top = (len(header) - len(FIRST)) // 3
    if header != columns(max(top, 0)):
        raise UsageError(f'{source}: has other columns than predictions; {_REMEDY}')
    rows = []
    for cells in body:
        try:
            rows.append(_row(cells, top))
        except (ValueError, IndexError) as error:
            raise UsageError(f'{source}: row {len(rows) + 2} is none ({error})') from error
    return rows, top


def _row(cells: Sequence[str], top: int) -> Row:
    number, image, point, ms, error = cells[: len(FIRST)]
    classes = []
    for place in range(top):
        label, name, score = cells[len(FIRST) + 3 * place :][:3]
        if label:
            classes.append((int(label), name, float(score)))
    return Row(int(number), image, point, float(ms), error, tuple(classes))


def _read(path: Path) -> tuple[list[Row], int]:
    """The complete rows in a file, and how many classes each has.

    Raises:
        UsageError: it cannot be read, or holds something else.
    """
    text = read_text(path, _REMEDY, errors='surrogateescape', largest=LARGEST)
    return parse(text, str(path))


def check_new(path: Path) -> None:
    """Checks that there is no such file yet.

    Raises:
        UsageError: there is one.
    """
    if path.exists():
        raise UsageError(f'--csv {path}: exists; choose another file, or delete it')


def write(path: Path, rows: Iterable[Row], top: int) -> None:
    """Writes a whole file at once, its rows in the order of the images.

    Args:
        path: of the file.
        rows: in any order.
        top: classes of each.
    """
    ordered = sorted(rows, key=lambda row: row.number)
    with replacing(path) as temporary, _opened(temporary, 'w') as stream:
        _written(stream, [columns(top), *(row.cells(top) for row in ordered)])


class Growing:
    """A CSV file that rows are added to as they come.

    What is written lies beside it under another name until it is complete, so that the same command
    goes on after an interruption.

    Args:
        path: of the file.
        settings: what the rows depend on.
        top: classes of each row.

    Attributes:
        rows: that are there.

    Raises:
        UsageError: the file exists, or was begun with other settings.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], top: int):
        self._path = path
        self._part = path.with_name(f'{path.name}{PART}')
        self._settings = path.with_name(f'{path.name}{SETTINGS}')
        self._top = top
        check_new(path)
        self.rows: list[Row] = []
        if self._settings.exists() and self._part.exists():
            self._check(settings)
            self.rows, _ = _read(self._part)
        write(self._part, self.rows, top)
        write_json(self._settings, dict(settings))
        self._stream = _opened(self._part, 'a')

    def _check(self, settings: Mapping[str, Any]) -> None:
        """Checks that rows that are there have the same settings.

        Raises:
            UsageError: they have not.
        """
        there = read_json(self._settings, dict[str, Any], f'delete {self._part} to begin anew')
        for name, value in settings.items():
            if there.get(name) != value:
                raise UsageError(
                    f'--csv {self._path}: was begun with {name} {there.get(name)}, not {value}; '
                    f'give that, or delete {self._part} to begin anew'
                )

    def add(self, row: Row) -> None:
        """Adds a row, which a process that dies afterwards leaves."""
        self.rows.append(row)
        _written(self._stream, [row.cells(self._top)])
        self._stream.flush()

    def close(self) -> None:
        """Ends the writing; what is there stays for the same command to go on with."""
        self._stream.close()

    def complete(self) -> None:
        """Gives the file its name, its rows in the order of the images."""
        self.close()
        write(self._path, self.rows, self._top)
        self._part.unlink()
        self._settings.unlink()


def join(parts: Sequence[Path]) -> tuple[list[Row], int]:
    """The rows of files that ``--shard`` made, and how many classes each has.

    Raises:
        UsageError: a file is none, an image is in two of them, or some are missing in between.
    """
    found: dict[int, Row] = {}
    tops = set()
    for part in parts:
        rows, top = _read(part)
        tops.add(top)
        for row in rows:
            if row.number in found:
                raise UsageError(f'{part}: image {row.number} ({row.image}) is in another part too')
            found[row.number] = row
    if len(tops) > 1:
        raise UsageError(f'--join: the parts have {sorted(tops)} classes by image; give one --top')
    missing = sorted(set(range(max(found, default=-1) + 1)) - found.keys())
    if missing:
        raise UsageError(
            f'--join: no part has {counted(len(missing), "image")}, such as number {missing[0]}; '
            'give all parts, each complete'
        )
    return list(found.values()), max(tops, default=0)


def _opened(path: Path, mode: Literal['w', 'a']) -> TextIO:
    return path.open(mode, encoding='utf-8', errors='surrogateescape', newline='')


def _written(stream: TextIO, rows: Iterable[Sequence[str]]) -> None:
    csv.writer(stream, lineterminator='\n').writerows(rows)


def numbered(images: Sequence[str], shard: tuple[int, int]) -> Iterator[tuple[int, str]]:
    """The images of one of several jobs, with their numbers among all.

    Args:
        images: paths, of all jobs.
        shard: number of the job from 1, and how many there are.
    """
    index, count = shard
    for number in range(index - 1, len(images), count):
        yield number, images[number]
