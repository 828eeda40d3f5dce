"""Reference of the command line as a page of Markdown, from the parsers themselves."""

import contextlib
import importlib
import io
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
        f'```text\n{flags()}\n```',
        '## Scripts',
        '`python -m scripts.NAME`, or `switchable-NAME` where the package is installed.',
    ]
    for name in scripts():
        parts += [f'### {name.partition(".")[0]}', f'```text\n{help_of(name)}\n```']
    return '\n\n'.join(parts) + '\n'


def flags() -> str:
    """All flags of imagenet_tf.py, by group."""
    with mock.patch.dict('os.environ', COLUMNS=WIDTH):
        return cli.parser().format_help().rstrip()


def scripts() -> list[str]:
    """Names of the scripts."""
    found = []
    for path in sorted((ROOT / 'scripts').glob('*.py')):
        if '\ndef main(' in path.read_text(encoding='utf-8'):
            found.append(path.stem)
    return [*found, 'bench.__main__']


def help_of(name: str) -> str:
    """Output of ``--help`` of a script."""
    module = importlib.import_module(f'scripts.{name}')
    printed = io.StringIO()
    wide = mock.patch.dict('os.environ', COLUMNS=WIDTH)
    with wide, contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        module.main(['--help'])
    return printed.getvalue().rstrip()
