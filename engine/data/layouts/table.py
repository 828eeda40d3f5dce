"""Layout of image files that a table lists with their labels: CSV or TSV."""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from engine.data.layouts.layout import (
    SUFFIXES,
    TRAIN,
    VAL,
    Parts,
    classes_of,
    entries,
    is_image,
    numbered,
    part_of,
    validation,
)
from engine.data.sources import FileSource, some
from engine.errors import UsageError
from engine.files import read_text
from engine.quantities import counted

TABLES = ('.csv', '.tsv')

# Titles of columns, in small letters.
PATHS = ['path', 'file', 'filename', 'file_name', 'filepath', 'filepaths', 'image', 'image_path']
PATHS += ['image_name', 'image_id', 'imageid', 'img', 'id', 'name']
LABELS = ['label', 'labels', 'class', 'class_name', 'classname', 'category', 'target', 'species']
LABELS += ['breed', 'class_id', 'classid', 'label_name', 'y']
SPLITS = ['split', 'subset', 'partition', 'set', 'part', 'data set']


class Row(NamedTuple):
    """An image of a table: its file, label and part (empty without one), and the line."""

    file: str
    label: str
    part: str
    line: int


class Table:
    """Tables of paths and labels: one for each part, or one with a column that tells the part."""

    name = 'a table of paths and labels'
    wanted = (
        'one .csv or .tsv with columns path,label or path,label,split (or --data TABLE itself), or '
        'train.csv and val.csv'
    )

    def recognise(self, root: Path) -> bool:
        """Whether there is such a table."""
        return bool(_tables(root))

    def read(self, root: Path) -> Parts:
        """List the files of the tables.

        Raises:
            UsageError: a table has no such columns, files are missing, or labels of classes that
                training images lack.
        """
        tables = _tables(root)
        rows: dict[str, list[Row]] = {'train': [], 'val': [], 'test': []}
        folder = root
        for path, part in tables:
            folder = path.parent
            for row in _rows(path):
                rows[part or row.part or 'train'].append(row)
        path = tables[0][0]
        if not rows['train']:
            raise UsageError(f'--data: {path} lists no training images')
        classes, index = classes_of((row.label for row in rows['train']), path)
        files = _Files(folder)
        train = files.source(path, rows['train'], index, 'train')
        part, note = validation(rows, 'images')
        if not part:
            return Parts(classes, train, None)
        val = files.source(tables[-1][0], rows[part], index, 'val')
        _check_apart(path, train.files, val.files)
        return Parts(classes, train, val, note)


def _tables(root: Path) -> list[tuple[Path, str]]:
    """Tables and the parts that they are of; empty for one that may tell the part itself."""
    if root.is_file():
        return [(root, '')] if root.suffix.lower() in TABLES else []
    names = [name for name in entries(root) if name.lower().endswith(TABLES)]
    by_part = {Path(name).stem.lower(): name for name in names}
    train = [by_part[word] for word in TRAIN if word in by_part]
    val = [by_part[word] for word in VAL if word in by_part]
    if train and val:
        part = part_of(Path(val[0]).stem)
        return [(root / train[0], 'train'), (root / val[0], part)]
    if len(names) == 1 or train:
        only = train[0] if train else names[0]
        return [(root / only, '')]
    return []


def _rows(path: Path) -> list[Row]:
    """The images of a table.

    Raises:
        UsageError: it cannot be read, or has no such columns.
    """
    text = read_text(path, 'give a table as a text', errors='surrogateescape')
    first = text.partition('\n')[0]
    separator = max('\t,;', key=first.count)
    reader = csv.reader(io.StringIO(text), delimiter=separator, strict=True)
    try:
        cells = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise UsageError(
            f'--data: {path}, line {reader.line_num}: {error}; a quote may be left open'
        ) from None
    first_row = cells[0][1] if cells else []
    columns, start = _columns(path, first_row)
    found = []
    for number, row in cells[start:]:
        if not any(map(str.strip, row)):
            continue
        values = _cells(path, number, row, columns)
        part = ''
        if len(values) > 2:
            part = part_of(values[2])
            if not part:
                raise UsageError(
                    f'--data: {path}, line {number}: split {values[2]!r} is unknown; expected '
                    f'{", ".join((*TRAIN, *VAL))}'
                )
        file = str(PurePosixPath(values[0]))  # ./a.png is a.png
        found.append(Row(file, values[1], part, number))
    return found


def _columns(path: Path, line: Sequence[str]) -> tuple[list[int], int]:
    """Columns of path, label and, where there is one, split; and the first row of images.

    Args:
        path: of the table, for messages.
        line: cells of its first line.

    Raises:
        UsageError: they cannot be told.
    """
    first = [cell.strip().lower() for cell in line]
    titled = []
    for titles in (PATHS, LABELS, SPLITS):
        here = [first.index(title) for title in titles if title in first]
        titled.append(here[0] if here else -1)
    if min(titled[:2]) >= 0:
        return [column for column in titled if column >= 0], 1
    if len(first) in (2, 3) and is_image(first[0]):
        return list(range(len(first))), 0
    raise UsageError(
        f'--data: {path}: no columns of images and labels; its first line is '
        f'{",".join(first)[:200]!r}. Expected titles such as path,label or path,label,split '
        f'(known: {" ".join(PATHS)}; {" ".join(LABELS)}; {" ".join(SPLITS)}), or without titles '
        'a path and a label'
    )


def _cells(path: Path, number: int, row: Sequence[str], columns: Sequence[int]) -> list[str]:
    """The cells of a row that are used.

    Raises:
        UsageError: it is too short, or one is empty.
    """
    if len(row) <= max(columns):
        raise UsageError(f'--data: {path}, line {number}: has only {counted(len(row), "column")}')
    values = [row[column].strip() for column in columns]
    if not all(values):
        raise UsageError(f'--data: {path}, line {number}: a path, label or split is empty')
    return values


class _Files:
    """Finds the files that a table names.

    Args:
        root: folder of the table.
    """

    def __init__(self, root: Path):
        self._root = root
        self._known: dict[str, frozenset[str]] = {}

    def source(
        self, table: Path, rows: Sequence[Row], index: dict[str, int], part: str
    ) -> FileSource:
        """The images of rows.

        Args:
            table: they are of, for messages.
            rows: of one part.
            index: class index by name.
            part: ``train`` or ``val``.

        Raises:
            UsageError: a file is not there or listed twice, or a label is unknown.
        """
        place = self._place(rows[0].file, part)
        files = []
        missing = []
        lines: dict[str, int] = {}
        for row in rows:
            found = self._found(os.path.join(place, row.file))
            if not found:
                missing.append(row.file)
                continue
            if found in lines:
                raise UsageError(
                    f'--data: {table}: {row.file} is listed twice, in lines {lines[found]} and '
                    f'{row.line}'
                )
            lines[found] = row.line
            files.append(found)
        if missing:
            raise UsageError(
                f'--data: {table}: {len(missing)} of {counted(len(rows), "image")} not found in '
                f'{self._root}: {some(missing)}'
            )
        labels = numbered([row.label for row in rows], index, table)
        return FileSource(self._root, files, labels)

    def _place(self, name: str, part: str) -> str:
        """The folder that paths are relative to: that of the table, or one in it."""
        for place in ('', part, 'images', f'images/{part}', 'train_images', 'data'):
            if self._found(os.path.join(place, name)):
                return place
        return ''

    def _found(self, name: str) -> str:
        """The path of a file, to which a suffix may be added; empty if it is not there."""
        folder, file = os.path.split(name)
        if folder not in self._known:
            self._known[folder] = frozenset(entries(self._root / folder))
        there = self._known[folder]
        for suffix in ('', *SUFFIXES, '.JPEG', '.JPG'):
            if file + suffix in there:
                return os.path.join(folder, file + suffix)
        return ''


def _check_apart(path: Path, train: Sequence[str], val: Sequence[str]) -> None:
    """Checks that no file is in both parts.

    Raises:
        UsageError: some are.
    """
    both = set(train).intersection(val)
    if both:
        raise UsageError(
            f'--data: {path}: {counted(len(both), "file")} listed for training and for validation: '
            f'{some(both)}'
        )
