"""Draws the tables, figures and pictures of README.md and docs/*.md from what owns their numbers.

    python -m scripts.pages            # after docs/measured/*.json or a preset has changed
    python -m scripts.pages --check    # names what is stale; exit status 1 if anything is

What is drawn stands between ``<!-- drawn: NAME -->`` and ``<!-- end -->``, as a block of its own or
within a line. ``scripts.page_tables`` has the names of tables; a figure is ``EXPERIMENT: FIGURE``,
as its file names it, and ``EXPERIMENT: origin`` says how it was measured. A checksum in a
picture tells which numbers it shows.
"""

import argparse
import re
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path

from engine import figures
from engine.errors import UsageError, prefixed
from engine.files import read_text, write_text
from engine.results import accuracy_figure, tables
from scripts import measured, page_tables, parser, status
from scripts.measured import ROOT

_DRAWN = re.compile(r'(<!-- drawn: ([^>]+?) -->)(\n?)(.*?)\n?<!-- end -->', re.DOTALL)
PICTURE = ROOT / 'docs' / 'accuracy.svg'
# Of the measured cascades, the start of the name of those that are shown, and their label.
CASCADE, LABEL = 'W2A2, cascades, calibrated mean', 'RS-Net cascade (2/2)'


def pages() -> list[Path]:
    """All pages."""
    return [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))]


def drawn(text: str, page: str) -> str:
    """A page with all that is drawn in it drawn anew.

    Args:
        text: Of the page.
        page: Its name, for messages.

    Raises:
        UsageError: Something is to be drawn that nobody knows.
    """

    def again(found: re.Match[str]) -> str:
        """Draws one block anew.

        Raises:
            UsageError: nobody knows it.
        """
        start, name, gap, _ = found.groups()
        with prefixed(f'{page}: drawn: {name}: '):
            content = page_tables.drawn(name)
        return f'{start}{gap}{content}{gap}<!-- end -->'

    return _DRAWN.sub(again, text)


def curves() -> list[tables.Curve]:
    """Curves of the picture: each family at its fewest bits, RS-Nets in float, and a cascade."""
    runs = []
    for demo in page_tables.DEMOS:
        found = tables.read_table(measured.path_of(demo.name))
        fewest = min(run.config['qw'] + run.config['qa'] for run in found)
        for run in found:
            if run.config['qw'] + run.config['qa'] == fewest or demo.name == 'demo':
                runs.append(run)
    shown = []
    for label, rows in tables.curves(runs):
        shown.append((label, [row for row in rows if row.point != 'dynamic']))
    for label, rows in tables.curves(tables.read_table(measured.path_of('cascade'))):
        if label.startswith(CASCADE):
            shown.append((LABEL, rows))
    return shown


def checksum() -> str:
    """Of what the picture shows."""
    found = []
    for label, rows in curves():
        dots = [(row.madds, row.top1) for row in rows]
        found.append((label, dots))
    return f'drawn from rows of checksum {zlib.crc32(repr(found).encode()):08x}'


def is_stale(picture: Path) -> bool:
    """Whether a picture shows other numbers than are measured."""
    return not picture.exists() or checksum() not in picture.read_text(encoding='utf-8')


def run(args: argparse.Namespace) -> str | None:
    """Draws, or checks.

    Raises:
        UsageError: This is no checkout, or a page names something to draw that nobody knows.
        SystemExit: Something is stale.
    """
    if not measured.FOLDER.is_dir():
        raise UsageError(f'{measured.FOLDER}: no such folder; run this in a checkout')
    stale = []
    for page in pages():
        name = str(page.relative_to(ROOT))
        text = read_text(page, 'restore it')
        found = drawn(text, name)
        if found != text:
            stale.append(name)
            if not args.check:
                write_text(page, found)
    if is_stale(PICTURE):
        stale.append(str(PICTURE.relative_to(ROOT)))
        if not args.check:
            figures.save(accuracy_figure.draw(curves()), str(PICTURE), checksum())
    if args.check and stale:
        sys.exit(f'stale: {" ".join(stale)}; python -m scripts.pages draws them')
    return '\n'.join(f'{name}: drawn' for name in stale) or None


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    p = parser('pages', __doc__)
    p.add_argument('--check', action='store_true', help='write nothing; name what is stale')
    return p.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status, see ``scripts.status``."""
    return status('pages', run, parse_args(argv))


if __name__ == '__main__':
    sys.exit(main())
