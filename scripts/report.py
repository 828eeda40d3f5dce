"""Writes a web page about run folders: tables, pictures, bits of layers, commands.

    python -m scripts.report RUN... -o report.html

The page holds everything itself and asks no network for anything. Pictures need matplotlib.
"""

import argparse
import sys
from collections.abc import Sequence

from engine.files import output_file
from engine.results.page import page
from scripts import parser, status


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    p = parser('report', __doc__)
    p.add_argument('runs', nargs='+', metavar='RUN', help='run folder with evaluation records')
    p.add_argument(
        '-o', '--output', default='report.html', metavar='FILE', help='page (default %(default)s)'
    )
    return p.parse_args(argv)


def run(args: argparse.Namespace) -> str:
    """Writes the page."""
    with output_file(args.output) as temporary:
        text = page(args.runs)
        temporary.write_text(text, encoding='utf-8', errors='xmlcharrefreplace')
    return f'{args.output}: {len(text) / 1e3:.0f} kB'


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status, see ``scripts.status``."""
    return status('report', run, parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
