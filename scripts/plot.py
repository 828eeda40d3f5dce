"""Draws accuracy over cost: a line per run, published numbers dashed, the Pareto front grey.

    python -m scripts.plot RUN... -o accuracy.png
    python -m scripts.plot RUN... --cost bitops -o bitops.svg      # or ms, memory
    python -m scripts.plot RUN... --curves -o curves.png           # how the training went
    python -m scripts.plot docs/measured/demo*.json -o all.svg     # tables in json

Individual models of one network are one line. A published curve that several runs share is drawn
once. Points that ran with another point's BN statistics stand alone. The ensemble is left out: it
runs every size, so that it is no operating point, and its cost would stretch the axis. Published
points sit at the cost of the run's own points, since most sources print none. Milliseconds need
scripts.profile before, and are of this device, or of --device.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from engine import figures
from engine.files import check_output
from engine.results import accuracy_figure, cascade_records, history_figure, tables
from scripts import parser, status


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    p = parser('plot', __doc__)
    p.add_argument(
        'runs',
        nargs='+',
        metavar='RUN',
        help='run folder with evaluation records, or a table of some',
    )
    p.add_argument(
        '-o', '--output', metavar='FILE', help='picture (default accuracy.png or curves.png)'
    )
    p.add_argument(
        '--cost',
        choices=tuple(accuracy_figure.COSTS),
        default='madds',
        help='horizontal axis (default %(default)s)',
    )
    p.add_argument(
        '--device', default='', metavar='NAME', help='of --cost ms: part of the name of a device'
    )
    p.add_argument(
        '--curves', action='store_true', help='instead: loss, top-1 and dead levels over the epochs'
    )
    return p.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    """Draws the picture."""
    output = args.output
    if output is None:
        output = 'curves.png' if args.curves else 'accuracy.png'
    check_output(output)
    if args.curves:
        figures.save(history_figure.draw(args.runs), output)
        return
    folders, files = [], []
    for path in args.runs:
        if Path(path).is_file():
            files.append(Path(path))
        else:
            folders.append(path)
    runs = tables.read_runs(folders, args.device)
    runs += cascade_records.of_runs(runs, folders, args.device)
    for file in files:
        runs += tables.read_table(file)
    figure = accuracy_figure.draw(tables.curves(runs), args.cost)
    figures.save(figure, output)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status, see ``scripts.status``."""
    return status('plot', run, parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
