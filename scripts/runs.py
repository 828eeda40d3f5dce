"""Lists runs: how far each is, what it has reached, what it trains; the latest first.

    python -m scripts.runs                         # those in train_log
    python -m scripts.runs train_log/demo /other --state running failed
    python -m scripts.runs --format json

A run is `running` while a process holds its folder, `finished` after its last epoch, `failed` where
a fault ended it, which is told below, and else `interrupted`: the same command resumes it.
`imported` networks were not trained here, an `evaluation` has records alone. The best top-1 is that
of one operating point after any epoch. Folders below are searched, too.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from engine.results import formats, run_list
from scripts import add_format, parser, status

STATES = (
    run_list.RUNNING,
    run_list.FINISHED,
    run_list.INTERRUPTED,
    run_list.FAILED,
    run_list.IMPORTED,
    run_list.EVALUATION,
    run_list.DAMAGED,
)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    p = parser('runs', __doc__)
    p.add_argument(
        'folders',
        type=Path,
        nargs='*',
        default=[Path('train_log')],
        metavar='FOLDER',
        help='of runs (default train_log)',
    )
    p.add_argument('--state', nargs='+', choices=STATES, default=STATES, help='only those')
    add_format(p)
    return p.parse_args(argv)


def run(args: argparse.Namespace) -> str:
    """The table."""
    found = run_list.found(args.folders)
    kept = [one for one in found if one.state in args.state]
    if not kept and args.format not in formats.DATA:
        places = ' '.join(map(str, args.folders))
        return f'{places}: no runs'
    root = args.folders[0] if len(args.folders) == 1 else Path()
    return formats.render([run_list.table(kept, root)], args.format)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status, see ``scripts.status``."""
    return status('runs', run, parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
