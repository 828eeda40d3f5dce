"""Confusion of classes: tables and pictures beside the records of evaluation."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from engine import figures
from engine.evaluation.evaluate import Score
from engine.evaluation.records import Record
from engine.files import write_text
from engine.results.formats import render_csv

CLASSES, MATRIX, PICTURE = 'classes.csv', 'confusion.csv', 'confusion.png'
HEADERS = ('class', 'images', 'right', 'top-1', 'most often taken for', 'times')
# Classes of a picture that has room for their names, and rows of a printed table.
LEGIBLE, SHOWN = 40, 10
DPI = 120


def matrix(labels: np.ndarray, answers: np.ndarray, classes: int) -> np.ndarray:
    """Numbers of images by class and answer, int64 [classes, classes].

    Args:
        labels: [images].
        answers: [images].
        classes: number of them.

    >>> matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), 2)
    array([[1, 1],
           [0, 1]])
    """
    pairs = np.bincount(labels * classes + answers, minlength=classes**2)
    return pairs.reshape(classes, classes)


def rows(counts: np.ndarray, names: Sequence[str]) -> list[tuple[str, int, int, float, str, int]]:
    """A row for every class that has images, see ``HEADERS``.

    Args:
        counts: see ``matrix``.
        names: of the classes.
    """
    found = []
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    for k, name in enumerate(names):
        images = int(counts[k].sum())
        if not images:
            continue
        other = int(wrong[k].argmax())
        times = int(wrong[k, other])
        taken_for = names[other] if times else ''
        right = int(counts[k, k])
        found.append((name, images, right, 100 * right / images, taken_for, times))
    return found


def report(folder: Path, found: Sequence[Record], score: Score, names: Sequence[str]) -> str:
    """Writes the tables and pictures of every operating point; the worst classes as text.

    Args:
        folder: where the records are.
        found: the records, in the order of the columns of answers.
        score: of a pass over all images.
        names: of the classes.
    """
    assert score.answers is not None and score.labels is not None
    text = ''
    for column, record in enumerate(found):
        counts = matrix(score.labels, score.answers[:, column], len(names))
        table = rows(counts, names)
        stem = folder / Path(record.file).stem
        write_text(Path(f'{stem}.{CLASSES}'), render_csv(HEADERS, table))
        lines = ([name, *row] for name, row in zip(names, counts.tolist()))
        write_text(Path(f'{stem}.{MATRIX}'), render_csv(('class', *names), lines))
        _draw(Path(f'{stem}.{PICTURE}'), counts, names, record)
        if not text:
            text = _worst(table, record)
    return f'{text}\ntables of {len(names)} classes: {folder}/*.{CLASSES}, *.{MATRIX}'


def _worst(table: Sequence[tuple[str, int, int, float, str, int]], record: Record) -> str:
    """The worst classes of an operating point, as text."""
    worst = sorted(table, key=lambda row: row[3])[:SHOWN]
    mean = np.mean([row[3] for row in table])
    title = f'{record.label}: mean over the classes {mean:.2f}; the worst of {len(table)} classes'
    return f'{title}\n{tabulate(worst, headers=HEADERS, floatfmt=".2f")}'


def _draw(path: Path, counts: np.ndarray, names: Sequence[str], record: Record) -> None:
    """Draws shares of the answers in each class; of many classes those with most wrong answers.

    Args:
        path: of the picture; there is none without matplotlib.
        counts: see ``matrix``.
        names: of the classes.
        record: of the operating point.
    """
    if not figures.available():
        return
    wrong = counts.sum(1) - counts.diagonal()
    shown = np.sort(np.argsort(-wrong, kind='stable')[:LEGIBLE])
    title = f'{record.label}: answers in percent of each class'
    if len(shown) < len(names):
        title += f'; the {len(shown)} of {len(names)} classes with most wrong answers'
    shares = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)  # [classes, classes]
    part = shares[np.ix_(shown, shown)]
    edge = 3.0 + 0.28 * len(shown)
    picture = figures.new_figure(edge + 1, edge)
    axes = picture.subplots()
    image = axes.imshow(part, vmin=0, vmax=100, cmap='viridis', interpolation='nearest')
    picture.colorbar(image, ax=axes, shrink=0.8)
    labels = [names[k][:24].replace('$', r'\$') for k in shown]
    axes.set_xticks(range(len(shown)), labels, rotation=90, fontsize='small')
    axes.set_yticks(range(len(shown)), labels, fontsize='small')
    axes.set(xlabel='answer', ylabel='class')
    picture.suptitle(title, fontsize='small', wrap=True)
    _write_numbers(axes, part)
    picture.savefig(path, dpi=DPI)


def _write_numbers(axes: Any, part: np.ndarray) -> None:
    """Writes shares of one percent and more into their squares."""
    for y, x in zip(*np.nonzero(part >= 1)):
        share = part[y, x]
        colour = 'black' if share > 50 else 'white'
        text = f'{share:.0f}'
        axes.text(x, y, text, ha='center', va='center', color=colour, fontsize=6)
