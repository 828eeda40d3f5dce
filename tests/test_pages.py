"""Commands of README.md and docs/*.md: their programs, targets and flags are there, and they run.

Quick tests parse every command with the parser of its program. Slow ones run the commands of a
page, one after the other, with small networks and few steps (see ``tests.small_commands``).
"""

import argparse
import functools
import importlib
import importlib.util
import re
import shlex
import sys

import pytest

from engine.config import cli
from engine.errors import UsageError
from tests import pages, small_commands
from tests.pages import PAGES, Command
from tests.paths import ROOT

NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
# Flags of other programs.
FOREIGN = {'--signature_def'}
# What stands for a word that its reader chooses, or a shell has.
CHOSEN = {'NAME': 'train', '$SLURM_PROCID': '0', '$JOB_COMPLETION_INDEX': '0'}


class Stopped(Exception):
    """A parser was asked to parse."""


def stopped(self, *args, **kwargs):
    raise Stopped(self)


def parser_of(call, argv=()):
    """The first parser that a function uses."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, 'parse_known_args', stopped)
        with pytest.raises(Stopped) as caught:
            call([*argv])
    return caught.value.args[0]


def options(parser) -> set[str]:
    found = set()
    for action in parser._actions:
        found.update(map(plain, action.option_strings))
    return found


def plain(flag: str) -> str:
    """A flag in one of its spellings: ours take dashes for underscores."""
    return flag[:2] + flag[2:].replace('_', '-')


def parse(words: list[str]) -> None:
    """Parses the words behind ``python``.

    Raises:
        SystemExit, UsageError: a flag or a value is wrong, or lacks.
        FileNotFoundError: there is no such example.
        AssertionError: there is no such program.
    """
    if words[0] == 'imagenet_tf.py':
        cli.parse(words[1:])
        return
    if words[0].startswith('examples/'):
        compile((ROOT / words[0]).read_text(), words[0], 'exec')
        return
    if words[0] == '-c':
        compile(words[1], 'command', 'exec')
        return
    assert words[0] == '-m', f'{words[0]} is no program of ours'
    name, argv = words[1], words[2:]
    assert importlib.util.find_spec(name) is not None, f'there is no module {name}'
    if not name.startswith('scripts.'):
        return
    module = importlib.import_module(name)
    if name == 'scripts.bench':
        module = importlib.import_module(f'{name}.__main__')
        module.parse_args(argv)
        of_benchmark(module.BENCHMARKS[argv[0]], argv[1:])
    elif hasattr(module, 'parse_args'):
        module.parse_args(argv)
    else:
        cli.parse(argv)


def of_benchmark(benchmark, argv: list[str]) -> None:
    """Parses the flags of a benchmark, of which some may be those of the program."""
    parser = parser_of(benchmark, argv)
    _, rest = parser.parse_known_args(argv)
    if '--net' in options(parser) and benchmark.__name__ == 'infer':
        own = importlib.import_module('scripts.bench.infer')
        net = argv[argv.index('--net') + 1]
        family = own.families.get(net).benchmark
        importlib.import_module(f'scripts.bench.{family}').parse_args(net, rest)
    else:
        cli.parse(rest)


def targets(makefile) -> set[str]:
    text = makefile.read_text()
    return set(re.findall(r'^([\w-]+):(?!=)', text, re.MULTILINE))


def fault(command: Command) -> str:
    """What is wrong with a command; empty if nothing is."""
    words = [CHOSEN.get(word, word) for word in command.words()]
    program = words[0].rpartition('/')[2]
    if program == 'make':
        folder = ROOT
        if words[1] == '-C':
            folder, words = ROOT / words[2], words[2:]
        files = [folder / 'Makefile']
        if command.page.startswith('docs/'):
            files += sorted(ROOT.glob('examples/*/Makefile'))
        known = set().union(*map(targets, files))
        wrong = [word for word in words[1:] if '=' not in word and word not in known]
        return f'no target {wrong}' if wrong else ''
    if not pages.PROGRAM.match(words[0]) and not pages.OTHERS.match(words[0]):
        return 'no command: what it prints stands in a block of its own'
    if not program.startswith('python') or len(words) == 1:
        return ''
    if command.inline and words[1] == '-m' and len(words) == 3:
        # Named in passing, without what it may need.
        return '' if importlib.util.find_spec(words[2]) else f'no module {words[2]}'
    try:
        parse(words[1:])
    except SystemExit as end:
        return '' if not end.code else 'wrong flags, see above'
    except (UsageError, AssertionError, FileNotFoundError) as error:
        return str(error)
    return ''


@pytest.mark.parametrize('page', PAGES, ids=NAMES)
def test_commands_parse(page):
    faults = []
    for command in pages.commands(page):
        found = fault(command)
        if found:
            faults.append(f'{command.text}: {found}')
    assert not faults, '\n'.join(faults)


@pytest.mark.parametrize(
    'text, part',
    [
        ('python imagenet_tf.py --qwe 2', '--qwe: unknown flag'),
        ('python imagenet_tf.py --qw 2.5', '--qw 2.5: must be a whole number'),
        ('python imagenet_tf.py --preset demoo', '--preset demoo'),
        ('python examples/first_hour/make_photo.py IN OUT', 'No such file'),
        ('python -m scripts.exprot RUN', 'no module scripts.exprot'),
        ('python -m scripts.choose RUN --budgets 3M', 'wrong flags'),
        ('python -m scripts.export', 'wrong flags'),
        ('python -m scripts.bench train --stepz 3', '--stepz: unknown flag'),
        ('python -m scripts.bench infer --net aig --budgets 0.5', 'wrong flags'),
        ('make demoo', "no target ['demoo']"),
        ('s160: top-1 70 %', 'no command'),
        ("python -c 'import'", 'invalid syntax'),
    ],
)
def test_what_is_wrong_is_seen(text, part, capsys):
    try:
        found = fault(Command('README.md', text, False))
    except SyntaxError as error:
        found = str(error)
    assert part in found


@pytest.mark.parametrize('page', PAGES, ids=NAMES)
def test_python_compiles(page):
    for block in pages.blocks(page, 'python'):
        compile(block, str(page), 'exec')


def known_flags() -> set[str]:
    """All flags of all programs."""
    found = options(cli.parser())
    for path in sorted((ROOT / 'scripts').glob('*.py')):
        if '\ndef parse_args(' in path.read_text():
            module = importlib.import_module(f'scripts.{path.stem}')
            found |= options(parser_of(module.parse_args))
    bench = importlib.import_module('scripts.bench.__main__')
    for benchmark in bench.BENCHMARKS.values():
        found |= options(parser_of(benchmark))
    infer = importlib.import_module('scripts.bench.infer')
    for net in infer.timed():
        family = infer.families.get(net).benchmark
        module = importlib.import_module(f'scripts.bench.{family}')
        found |= options(parser_of(functools.partial(module.parse_args, net)))
    return found


@pytest.fixture(scope='module')
def flags() -> set[str]:
    return known_flags()


@pytest.mark.parametrize('page', PAGES, ids=NAMES)
def test_flags_within_texts_are_there(page, flags):
    wrong = []
    for span in pages.spans(page):
        for flag in re.findall(r'(?<![\w-])--[a-zA-Z][\w-]*', span):
            if plain(flag) not in flags and flag not in FOREIGN:
                wrong.append(f'{flag} in `{span}`')
    assert not wrong, '\n'.join(wrong)


def test_what_is_not_run_is_on_the_pages():
    """No exception stands there for a command that is gone."""
    texts = []
    for page in PAGES:
        texts += [command.text for command in pages.commands(page)]
    for pattern in (*small_commands.NOT_RUN, *small_commands.OWN_SETTINGS):
        assert any(re.search(pattern, text) for text in texts), pattern


@pytest.mark.slow
@pytest.mark.parametrize('page', PAGES, ids=NAMES)
def test_commands_run(page, small_runs, tmp_path, capfd):
    todo = small_commands.runnable(pages.commands(page))
    place = small_commands.place(tmp_path / 'place', small_runs)
    faults = []
    for text in todo:
        status, output = small_commands.run(text, place)
        with capfd.disabled():
            print(f'{status} {text}', file=sys.stderr, flush=True)
        if status:
            faults.append(f'{text}: exit status {status}\n{output[-2000:]}')
    assert not faults, '\n\n'.join(faults)


@pytest.fixture(scope='session')
def small_runs(tmp_path_factory):
    return small_commands.make_runs(tmp_path_factory.mktemp('runs'))


def test_comments_are_left_out():
    line = "python -c 'a # b' --flag   # what it's for"
    assert pages.without_comment(line) == "python -c 'a # b' --flag"
    assert shlex.split(pages.without_comment(line))[-1] == '--flag'
