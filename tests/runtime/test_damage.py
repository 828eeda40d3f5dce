"""Damaged files under the sanitizers: refused or answered, never a crash."""

import subprocess

import numpy as np
import pytest

from engine.deployment import choices, native_build, native_library, native_writer, program
from tests.paths import ROOT
from tests.runtime import simde
from tests.runtime.programs import Built

# Sanitized code takes a while to compile.
pytestmark = pytest.mark.slow

SANITIZED = ('-O1', '-g', '-fsanitize=address,undefined', '-fno-sanitize-recover=all')
# Operations of every kind, and choices, lie in these files.
SIDE = 6


def network():
    """A small network with an exit, of coded, plain and banded constants."""
    built = Built(SIDE)
    shares = np.eye(5, SIDE) + np.eye(5, SIDE, 1)
    built.add(program.Resize, shares=built.part(shares / 2))
    built.activation([0, 1, 2, 3], 8)
    same = {'stride': 1, 'pads': (1, 1, 1, 1), 'same': True, 'groups': 1}
    codes = built.rng.integers(4, size=(3, 3, 8, 12))
    levels = np.float32([-3, -1, 1, 3])[:, None].repeat(12, axis=1)
    first = built.add(program.IntegerConvolution, kernel=built.coded(codes, levels), **same)
    pooled = built.add(program.GlobalPool)
    gate = built.add(program.Activation, function='sigmoid')
    built.add(program.Combine, first, y=gate, function='multiply')
    built.add(program.Pad, pads=(1, 0, 0, 1), channels=2)
    built.add(program.Crop, start=(0, 1, 2), stop=(5, 5, 14), step=(1, 2, 1))
    window = {'window': (2, 2), 'stride': (2, 1), 'pads': (0, 1, 0, 1), 'same': False}
    built.add(program.Pool, function='average', **window)
    last = built.add(program.Pool, function='max', **window)
    built.add(program.Concatenate, last, others=(last,))
    built.add(program.GlobalPool)
    row = built.add(program.ToRows)
    late = built.add(program.Dense, kernel=built.part(built.rng.normal(size=(24, 5))))
    early_row = built.add(program.ToRows, pooled)
    early = built.add(program.Dense, early_row, kernel=built.part(built.rng.normal(size=(12, 5))))
    sure = built.add(choices.Confident, exit=0, threshold=built.part(-0.5))
    numbers = [built.add(choices.Number, early, value=value) for value in (1, 0)]
    branches = ((late, numbers[0]), (early, numbers[1]))
    built.operations.append(choices.Choose('logits', sure, branches, ('exit',)))
    told = (choices.Chosen('exit', 'exit', (0, 1)),)
    assert row != early_row
    point = program.PointProgram('images', SIDE, tuple(built.operations), 'logits', told)
    return program.Program({'dynamic': point}, dict(built.constants))


def linked(link, made):
    """The program that damages files, with the library inside, as a function links it."""
    try:
        link(made, '-pie', SANITIZED, [ROOT / 'tests/runtime/damage.c'])
    except subprocess.CalledProcessError as error:
        if 'sanitize' in error.stderr:
            pytest.skip('the compiler has no sanitizers')
        raise
    return made


@pytest.fixture(scope='module')
def damaging(tmp_path_factory):
    command = native_build.compiler()
    if command is None:
        pytest.skip(f'no C compiler: {native_build.REMEDY}')

    def link(made, kind, flags, further):
        native_build.link(command, [*native_library.sources(), *further], made, kind, flags)

    return linked(link, tmp_path_factory.mktemp('damage') / 'damage')


@pytest.fixture(scope='module')
def damaging_simde(tmp_path_factory):
    simde.skip_without()
    return linked(simde.link, tmp_path_factory.mktemp('damage') / 'damage')


@pytest.mark.parametrize(
    'program, kernels',
    [
        ('damaging', 'portable'),
        ('damaging', ''),
        ('damaging_simde', 'avx512vnni'),
        ('damaging_simde', 'amx'),
    ],
)
def test_damage(request, tmp_path, program, kernels, count=5000):
    damaging = request.getfixturevalue(program)
    path = tmp_path / 'net.lqn'
    path.write_bytes(native_writer.serialized(network(), {'form': '"native"'}))
    found = subprocess.run(
        [str(damaging), str(path), str(count), '1'],
        capture_output=True,
        text=True,
        env={'LQN_KERNELS': kernels},
    )
    assert found.returncode == 0, found.stderr
    damaged, opened, ran = (int(word) for word in found.stdout.split() if word.isdecimal())
    assert damaged == count
    assert 0 < ran <= opened < damaged
