"""Reference of the command line as a page of Markdown, from the parsers themselves."""

import argparse
import contextlib
import importlib
import io
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from engine.config import cli
from engine.files import write_text
from scripts.measured import ROOT

WIDTH = '100'


def write(folder: Path) -> None:
    """Writes the pages of the reference that are made of parsers into a folder."""
    folder.mkdir(exist_ok=True)
    write_text(folder / 'cli.md', command_line())


def command_line() -> str:
    """The page: flags of imagenet_tf.py by group, and what every script says of itself."""
    parts = [
        '# Command line',
        'Made of the parsers when the site is built; `--help` of every program prints the same. '
        'Dashes and underscores in flags are the same.',
        '## imagenet_tf.py',
        *groups(),
        '## Scripts',
        '`python -m scripts.NAME`, or `switchable-NAME` where the package is installed.',
    ]
    for name in scripts():
        parts += [f'### {name.partition(".")[0]}', f'```text\n{help_of(name)}\n```']
    return '\n\n'.join(parts) + '\n'


def groups() -> Iterator[str]:
    """A heading and a table for each group of flags of imagenet_tf.py."""
    for group in cli.parser()._action_groups:
        actions = group._group_actions
        if actions:
            yield f'### {group.title}'
            lines = ['| flag | what it is |', '| --- | --- |', *map(row, actions)]
            yield '\n'.join(lines)


def row(action: argparse.Action) -> str:
    """A line of a table: the spellings of a flag with what it takes, and its help."""
    value = action.metavar
    if value is None and action.choices is not None:
        value = '{' + ','.join(map(str, action.choices)) + '}'
    if value is None and action.nargs != 0 and action.type is not None:
        value = action.dest.upper()
    spelling = ', '.join(map(dashed, action.option_strings))
    if value:
        words = value if isinstance(value, str) else ' '.join(value)
        spelling += f' {words}'
    text = action.help or ''
    return f'| `{escaped(spelling)}` | {escaped(text)} |'


def dashed(flag: str) -> str:
    """A flag with dashes in its name, as the pages have it."""
    return flag[:2] + flag[2:].replace('_', '-')


def escaped(text: str) -> str:
    """Text within a cell of a table."""
    return ' '.join(text.replace('%%', '%').replace('|', '\\|').split())


def scripts() -> list[str]:
    """Names of the scripts."""
    found = []
    for path in sorted((ROOT / 'scripts').glob('*.py')):
        if '\ndef main(' in path.read_text(encoding='utf-8'):
            found.append(path.stem)
    return [*found, 'bench.__main__']


def help_of(name: str) -> str:
    """What ``--help`` of a script prints."""
    module = importlib.import_module(f'scripts.{name}')
    printed = io.StringIO()
    wide = mock.patch.dict('os.environ', COLUMNS=WIDTH)
    with wide, contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        module.main(['--help'])
    return printed.getvalue().rstrip()
