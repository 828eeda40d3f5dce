"""Copies of run folders that are changed without training: flags, folder, accuracy."""

import argparse
import contextlib
from pathlib import Path

from tabulate import tabulate

from engine.errors import UsageError
from engine.files import in_shell
from engine.optimization.averages import WEIGHTS
from engine.results import tables
from engine.results.records import Score, read_score


def flags(p: argparse.ArgumentParser, suffix: str) -> None:
    """Adds the flags of a script that makes a copy.

    Args:
        p: The parser.
        suffix: End of the name of the folder that is made.
    """
    p.add_argument('run', metavar='RUN', help='run folder, or a checkpoint prefix in it')
    p.add_argument(
        '--out', type=Path, metavar='RUN2', help=f'run folder to make; default: RUN{suffix}'
    )
    checkpoint_flags(p)
    p.add_argument('--data', help='where its images are; default: as the run recorded it')


def checkpoint_flags(p: argparse.ArgumentParser) -> None:
    """Adds the flags that choose weights of a run."""
    p.add_argument('-ep', '--epoch', type=int, help='checkpoint of this epoch; default: the last')
    p.add_argument(
        '--weights',
        choices=WEIGHTS,
        default='raw',
        help='those that were trained, or their averages (--model-ema)',
    )


def default(folder: Path, suffix: str) -> Path:
    """The folder beside a run folder that its copy gets."""
    if folder.name in ('', '..'):  # the current folder or one above, whose names these are not
        folder = folder.resolve()
    return folder.with_name(f'{folder.name}{suffix}')


def check_data(prefix: str, data: str | None) -> None:
    """Checks that the images are there by which a copy is going to be evaluated.

    Args:
        prefix: of the checkpoint that is copied.
        data: as of ``--data``.

    Raises:
        UsageError: they are not, or it is the checkpoint of no run.
    """
    from engine.data.datasets import is_gone, open_dataset
    from engine.runs import checkpoint

    config = checkpoint.recorded(prefix).config
    assert config is not None
    if data is not None:
        open_dataset(data, size=config.image_size, split=config.split)
    elif config.data and is_gone(config.data):
        raise UsageError(f'--data {config.data}: is not there; give --data and where it is now')


def evaluate(folder: Path, *, data: str | None) -> None:
    """Evaluates a run folder at the points that it was trained at, and at those calibrated.

    Raises:
        UsageError: Its data are not there.
    """
    from engine.config.cli import parse
    from engine.evaluation.command import run_evaluation
    from engine.runs import checkpoint

    source = checkpoint.read(checkpoint.find(str(folder), None, 'RUN'), flag='RUN')
    if not (data or (source.config and source.config.data)):
        print(f'{folder}: not evaluated, it knows of no data; --data names some')
        return
    flags = ['--eval', '-ec', str(folder)]
    if data:
        flags += ['--data', data]
    run_evaluation(parse(flags))
    calibrated = [str(size) for size in source.sizes if size not in source.trained]
    if calibrated:
        run_evaluation(parse([*flags, '-es', *calibrated]))


def scores(folder: Path) -> list[tuple[str, Score]]:
    """Names and contents of the records of evaluation of a run folder, strongest point first."""
    found = [(path.stem, read_score(path)) for path in (folder / 'eval').glob('*.json')]
    return sorted(found, key=lambda named: tables.sort_key(named[1]))


def accuracies(before: Path, after: Path, weights: str, change: str) -> str:
    """Top-1 of two run folders at every point, as their records have it; empty without any.

    Args:
        before: folder of the run.
        after: of its changed copy.
        weights: of the run that were changed.
        change: what was done to them, for the head of the table.
    """
    own = before / 'eval'
    if weights != 'raw':
        own = own / weights
    rows = []
    for name, score in scores(after):
        trained = None
        with contextlib.suppress(UsageError):
            trained = read_score(own / f'{name}.json').top1
        rows.append([name, trained, score.top1])
    if not rows:
        return ''
    if any(row[1] is None for row in rows):
        print(f'imagenet_tf.py --eval -ec {in_shell(before)} evaluates the run itself')
    headers = ['point', 'top-1, as trained', f'top-1, {change}']
    return tabulate(rows, headers, floatfmt='.2f', missingval='-')
