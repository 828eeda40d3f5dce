"""Flags made of options: help, lists, guesses, ranges; nothing of it needs TensorFlow."""

import dataclasses
import json
import subprocess
import sys

import pytest

import nets
from engine.config import cli, flags, listing
from engine.config.groups import GROUPS
from engine.errors import UsageError
from quant.options import limits, option
from tests.paths import ROOT

# Command lines, and the status with which each ends.
WITHOUT_TENSORFLOW = {
    '--help': 0,
    '--help aig': 0,
    '--list presets': 0,
    '--list quantizers': 0,
    '--epoch 3': 2,
    '--net dsnet --private_basis': 2,
    '--preset demo --dropout 1.5': 2,
    '--data animals28 --net aig --targets 0.5 0.5': 2,
    '--eval -ec nowhere': 2,
    '--load nowhere': 2,
}

# Status and messages of each command line of one process.
PROGRAM = """
import contextlib, io, json, sys
import imagenet_tf
found = {}
for line in sys.argv[1:]:
    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        try:
            status = imagenet_tf.main(line.split())
        except SystemExit as end:
            status = end.code
    assert 'tensorflow' not in sys.modules, line
    found[line] = status, said.getvalue()
print(json.dumps(found))
"""


def message(line):
    """The message of a command line that the parser refuses."""
    with pytest.raises(UsageError) as caught:
        cli.parse(line.split())
    return str(caught.value)


def printed(line, capsys):
    """Lines that a command line prints before it ends."""
    with pytest.raises(SystemExit) as end:
        cli.parse(line.split())
    assert end.value.code == 0
    return capsys.readouterr().out.splitlines()


def test_tensorflow_is_not_loaded():
    command = [sys.executable, '-c', PROGRAM, *WITHOUT_TENSORFLOW]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, '')
    found = json.loads(done.stdout)
    for line, status in WITHOUT_TENSORFLOW.items():
        ended, said = found[line]
        assert ended == status, said
        assert len(said.splitlines()) == (status != 0), said


def test_help_of_one_family(capsys):
    lines = printed('--help aig', capsys)
    assert any('--targets' in line for line in lines)
    assert not any('--nBlocks' in line or '--epochs' in line for line in lines)


@pytest.mark.parametrize('group', GROUPS)
def test_help_says_every_default(group, capsys):
    text = ' '.join(printed('--help', capsys))
    for field in dataclasses.fields(GROUPS[group]):
        if limits(field).flag:
            assert f'--{field.name}' in text


@pytest.mark.parametrize('what', listing.LISTS)
def test_lists_have_a_line_each(what, capsys):
    lines = printed(f'--list {what}', capsys)
    assert len(lines) >= 2
    assert all(len(line.split()) > 1 for line in lines)


def test_lists_name_what_there_is(capsys):
    assert [line.split()[0] for line in printed('--list nets', capsys)] == nets.names()


def test_a_network_without_a_family_is_listed_by_its_own_words(capsys, monkeypatch):
    monkeypatch.setitem(nets._NETS, 'plain', 'nets.rsnet.RSNet')
    lines = printed('--list nets', capsys)
    assert 'plain   A backbone with one operating point per input size' in lines


@pytest.mark.parametrize(
    ('line', 'guess'),
    [
        ('--epoch 3', '--epoch: unknown flag; did you mean --epochs'),
        ('--net rsnett', '--net rsnett: unknown; did you mean rsnet'),
        ('--resize areaa', 'did you mean area?'),
        ('--help aigg', '--help aigg: unknown; did you mean aig?'),
        ('--list net', '--list net: unknown; did you mean nets?'),
        ('--preset dmo', '--preset dmo: unknown; did you mean demo'),
    ],
)
def test_what_was_probably_meant(line, guess):
    assert guess in message(line)
    assert '\n' not in message(line)


@pytest.mark.parametrize(
    ('line', 'range_text'),
    [
        ('--dropout 1.5', 'at least 0 and below 1'),
        ('--smoothing 2', 'at least 0 and below 1'),
        ('--temperature nan', 'a finite number greater than 0'),
        ('--ema 1', 'at least 0 and below 1'),
        ('--complexity -1', 'at least 0'),
        ('--rate_factor nan', 'a finite number at least 0'),
        ('--image_size 100000', 'at least 1 and at most 4096'),
        ('--seed 100000000000000000000000', 'at least 0 and at most 2147483647'),
        ('--lr inf', 'a finite number greater than 0'),
        ('--grFactor 1 0', 'at least 1 and at most 64'),
        ('--epochs 2.5', 'a whole number at least 1'),
        ('--target_madds many', 'multiply-adds such as 60M'),
    ],
)
def test_ranges(line, range_text):
    flag, *_, value = line.split()
    assert message(line).startswith(f'{flag} {value}: ')
    assert range_text in message(line)


@pytest.mark.parametrize('flag', ['--sizes', '--targets', '--routes', '--milestones'])
def test_empty_lists(flag):
    assert 'expected at least one argument' in message(flag)


def test_every_number_has_a_range():
    owners = [*GROUPS.values(), *(nets.get(net).Options for net in nets.names())]
    without = []
    for options in owners:
        for field in dataclasses.fields(options):
            known = limits(field)
            values = field.default if isinstance(field.default, tuple) else (field.default,)
            number = any(type(value) in (int, float) for value in values)
            if number and known.flag and not known.range_text() and known.parse is None:
                without.append(field.name)
    assert without == ['qw', 'qa', 'stem_bits', 'head_bits']  # 1 to 8, or 32: checked by the policy


def test_options_of_several_owners_have_one_flag():
    @dataclasses.dataclass(frozen=True)
    class First:
        init: str = option('a', 'initial values', choices=('a', 'b'))

    @dataclasses.dataclass(frozen=True)
    class Second:
        init: str = option('c', 'initial values', choices=('c',))

    found = flags.flags([('first', First), ('second', Second)])
    assert found['init'].choices == ['a', 'b', 'c']
    assert flags.help_text(found['init']) == (
        'first: initial values (default a); second: initial values (default c)'
    )
