"""Commands that pages show: in blocks of a shell, and within text."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.paths import ROOT

PAGES = tuple(sorted([ROOT / 'README.md', *(ROOT / 'docs').glob('*.md')]))

# First words of what is a command, wherever its program lies.
PROGRAM = re.compile(r'(\S*/)?(python3?|pip|make|pytest|imagenet-tf|switchable-[\w-]+)$')
# Other first words of the lines of a shell.
OTHERS = re.compile(r'(apt-get|cp|cd|git|\.|\w+=.*|examples/c/build/\w+)$')

_FENCE = re.compile(r'^```([\w-]*)\n(.*?)^```\n', re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r'`([^`]+)`')
_CONTINUED = re.compile(r'\\\n\s*|\n\s+(?=--)')
# The program within the lines of a script, up to what ends the command.
_OURS = re.compile(r'python imagenet_tf\.py [^&;\'\n]*')


class Command(NamedTuple):
    """A command of a page.

    Attributes:
        page: path from the root of the project.
        text: as the page has it, without its comment.
        inline: whether it stands within a text.
    """

    page: str
    text: str
    inline: bool

    def words(self) -> list[str]:
        """Its words, without those that stand for more: ``...``."""
        words = []
        for word in shlex.split(self.text):
            if word != '...':
                words.append(word.removesuffix('...'))
        return words


def commands(page: Path) -> list[Command]:
    """All commands of a page, in order."""
    text = page.read_text()
    name = str(page.relative_to(ROOT))
    found = []
    last = 0
    for fence in _FENCE.finditer(text):
        found += [Command(name, span, True) for span in _spans(text[last : fence.start()])]
        found += [Command(name, line, False) for line in _lines(fence[1], fence[2])]
        last = fence.end()
    return found + [Command(name, span, True) for span in _spans(text[last:])]


def blocks(page: Path, language: str) -> list[str]:
    """Blocks of a language."""
    return [fence[2] for fence in _FENCE.finditer(page.read_text()) if fence[1] == language]


def spans(page: Path) -> list[str]:
    """Code within the text of a page."""
    outside = _FENCE.sub('', page.read_text())
    return [' '.join(span.split()) for span in _SPAN.findall(outside)]


def _spans(text: str) -> Iterator[str]:
    for span in _SPAN.findall(text):
        words = span.split()
        if len(words) > 1 and PROGRAM.match(words[0]):
            yield ' '.join(words)


def _lines(language: str, content: str) -> Iterator[str]:
    """Commands of a block; of a script, and of another file, those of the program alone."""
    content = _CONTINUED.sub(' ', content)
    if language in ('bash', 'yaml'):
        yield from _OURS.findall(content)
        return
    if language:
        return
    lines = [line for line in content.splitlines() if line.strip()]
    if not any(PROGRAM.match(line.split()[0]) for line in lines):
        return
    for line in lines:
        yield without_comment(line)


def without_comment(line: str) -> str:
    """A line of a shell up to its comment.

    >>> without_comment("python -c 'x # y'   # a comment")
    "python -c 'x # y'"
    """
    parser = shlex.shlex(line, posix=False, punctuation_chars=False)
    parser.whitespace_split = True
    parser.commenters = ''
    end = 0
    for word in parser:
        if word.startswith('#'):
            break
        end = line.index(word, end) + len(word)
    return line[:end]
