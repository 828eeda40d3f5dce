"""Prints the accuracy of runs beside published numbers.

    python -m scripts.accuracy_table RUN... [--format markdown|latex|csv|json] [--compare]
    python -m scripts.accuracy_table RUN... --output FILE
    python -m scripts.accuracy_table --published     # all published tables, or those of RS-Nets ...
    python -m scripts.accuracy_table --published --compare quantizers

One row per run and point. Text, markdown and LaTeX begin with a side-by-side block (a column of
top-1 per curve) when several runs are given, or ``--compare``; individual models of one network
share a column. csv holds one table: the rows, or the side-by-side block with ``--compare``. csv and
json hold plain numbers: MAdds and bytes, not M and MB. Published quantizers side by side: methods
by network and bits, with what is float in each, the teacher and the source. A published number
stands beside a run of the same network, data set, quantizer and bits only.
"""

import argparse
import sys
from collections.abc import Sequence

from engine.files import output_file
from engine.results import cascade_records, quantizer_table, rendering, tables
from scripts import add_format, parser, status


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags; exits with status 2 where runs and ``--published`` are given together."""
    p = parser('accuracy_table', __doc__)
    p.add_argument('runs', nargs='*', metavar='RUN', help='run folder with evaluation records')
    add_format(p)
    p.add_argument(
        '--device', default='', metavar='NAME', help='of milliseconds: part of the name of a device'
    )
    p.add_argument(
        '--compare',
        action=argparse.BooleanOptionalAction,
        default=None,
        help='top-1 side by side (default: with more than one run); with --published: --compare '
        'quantizers',
    )
    p.add_argument('--output', metavar='FILE', help='write here instead of to the standard output')
    p.add_argument(
        '--published',
        nargs='?',
        const='',
        metavar='SYSTEM',
        help='without runs: print the published tables, all or those of a system',
    )
    args = p.parse_args(argv)
    if args.published is not None and args.compare:
        if args.runs != ['quantizers']:
            p.error('--published with --compare: give --compare quantizers')
        args.runs = []
    if bool(args.runs) == (args.published is not None):
        p.error('give run folders, or --published without any')
    return args


def run(args: argparse.Namespace) -> str | None:
    """The table, unless ``--output`` takes it."""
    if args.output is None:
        return text_of(args)
    with output_file(args.output) as temporary:
        text = text_of(args)
        temporary.write_text(text + '\n', encoding='utf-8', errors='backslashreplace')
    return None


def text_of(args: argparse.Namespace) -> str:
    """The table."""
    if args.published is not None and args.compare:
        return quantizer_table.render(args.published, args.format)
    if args.published is not None:
        return rendering.render_published(args.published, args.format)
    runs = tables.read_runs(args.runs, args.device)
    compare = args.compare
    if compare is None and len(runs) == 1:
        compare = False
    runs += cascade_records.of_runs(runs, args.runs, args.device)
    return rendering.render(runs, args.format, compare)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status, see ``scripts.status``."""
    return status('accuracy_table', run, parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
