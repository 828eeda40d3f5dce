"""Damaged files for the library: refused or answered, as by the interpreter, never a crash."""

import subprocess

import numpy as np
import pytest

from engine.deployment import (
    interpreter,
    native_build,
    native_library,
    native_writer,
    program,
)
from engine.deployment.native_reader import NativeFile
from engine.errors import UsageError
from tests.engine.deployment import small_programs
from tests.engine.deployment.test_native_file import TEXTS, changed, closed
from tests.paths import ROOT
from tests.runtime import simde
from tests.runtime.programs import Built

# A number that becomes a whole one where it has no such value is found as well.
SANITIZERS = '-fsanitize=address,undefined,float-cast-overflow'
SANITIZED = ('-O1', '-g', SANITIZERS, '-fno-sanitize-recover=all')
# Larger images take the interpreter long.
LARGEST_SIDE = 60


@pytest.fixture(scope='module')
def content():
    """A file of three sections, with every operation."""
    return native_writer.serialized(small_programs.everything((4, 3, 2)), TEXTS)


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


# Sanitized code takes a while to compile.
@pytest.mark.slow
@pytest.mark.parametrize(
    'name, kernels',
    [
        ('damaging', 'portable'),
        ('damaging', ''),
        ('damaging_simde', 'avx512vnni'),
        ('damaging_simde', 'amx'),
    ],
)
def test_damage(request, content, tmp_path, name, kernels, count=5000):
    """Points run alone and by threads, timed, and of a file that comes in two parts: all alike."""
    damaging = request.getfixturevalue(name)
    path = tmp_path / 'net.lqn'
    path.write_bytes(content)
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


def answers_of_file(content, place, views):
    """Logits and choices of a point by the interpreter.

    None where it refuses the file, or computes with NaN, of which nothing is said.
    """
    try:
        whole = NativeFile(content, 'net.lqn').program()
        with np.errstate(all='ignore', invalid='raise'):
            return interpreter.answers(whole, list(whole.points)[place], *views)
    except (UsageError, FloatingPointError):
        return None


def check_answers(network, content, rng):
    """Gives how many points of a network answer as the interpreter does."""
    equal = 0
    for place, point in enumerate(network.points):
        if max(point.sides) > LARGEST_SIDE:
            continue
        shapes = [(2, side, side, point.channels) for side in point.sides]
        views = [rng.integers(256, size=shape, dtype=np.uint8) for shape in shapes]
        try:
            logits, executed = network.run(place, *views)
        except UsageError:
            continue
        expected = answers_of_file(content, place, views)
        if expected is None:
            continue
        finite = expected[0][np.isfinite(expected[0])]
        scale = finite.std() if finite.size else 0
        np.testing.assert_allclose(logits, expected[0], rtol=1e-4, atol=1e-4 * scale)
        np.testing.assert_array_equal(executed, expected[1])
        equal += 1
    return equal


@pytest.mark.parametrize('count', [20, pytest.param(1500, marks=pytest.mark.slow)])
def test_both_readers_make_the_same_of_a_damaged_file(count, content, library):
    """Which of them refuses more may differ; a file that both take has one answer."""
    rng = np.random.default_rng(count)
    equal = 0
    for _ in range(count):
        damaged = changed(content, rng)
        try:
            network = native_library.NativeNetwork(damaged, 'net.lqn', 1, library)
            equal += check_answers(network, damaged, rng)
        except UsageError as error:
            assert str(error).startswith('net.lqn: ')
    assert equal > count / 2


def with_a_number(constant, number):
    """A file in which a constant ends with a number."""
    built = Built(6)
    values = {'scale': np.ones(3), 'levels': np.ones((4, 3)), 'kernel': np.ones((3, 5))}
    values[constant].flat[-1] = number
    built.add(program.Arithmetic, function='multiply', y=built.part(values['scale']))
    coded = built.coded(np.full((1, 1, 3, 3), 3), values['levels'])
    window = {'stride': 1, 'pads': (0, 0, 0, 0), 'same': False, 'groups': 1}
    built.add(program.Convolution, kernel=coded, **window)
    built.add(program.GlobalPool)
    built.add(program.ToRows)
    built.add(program.Dense, kernel=built.part(values['kernel']))
    point = program.PointProgram('images', 6, tuple(built.operations), built.last)
    return native_writer.serialized(program.Program({'s1': point}, dict(built.constants)), {})


@pytest.mark.parametrize('constant', ['scale', 'levels', 'kernel'])
def test_a_constant_that_is_nan_is_refused(constant, library):
    """By both readers: what a quantizer makes of it, say, nobody defines."""
    good, bad = (with_a_number(constant, number) for number in (1.0, np.nan))
    images = np.ones((1, 6, 6, 3), np.uint8)
    logits, _ = native_library.NativeNetwork(good, 'net.lqn', 1, library).run(0, images)
    np.testing.assert_array_equal(logits, np.full((1, 5), 9, np.float32))
    with pytest.raises(UsageError, match=r'net\.lqn: damaged .* NaN'):
        NativeFile(bad, 'net.lqn').program()
    with pytest.raises(native_library.CannotRun, match=r'net\.lqn: .* numbers of constant \d'):
        native_library.NativeNetwork(bad, 'net.lqn', 1, library).run(0, images)


@pytest.mark.parametrize(
    'string, ask',
    [
        (b's9-b4', lambda network: network.points),
        (TEXTS['points'].encode(), lambda network: network.text('points')),
        (b'stem', lambda network: network.times(0, *small_programs.images())),
    ],
)
def test_a_string_that_is_no_text_is_told(string, ask, content, library):
    """As every other damage, with the file."""
    start = content.index(b'\0' + string + b'\0') + 1
    good = native_library.NativeNetwork(content, 'net.lqn', 1, library)
    assert ask(good)
    damaged = closed(content[:start] + b'\xff' + content[start + 1 :])
    network = native_library.NativeNetwork(damaged, 'net.lqn', 1, library)
    with pytest.raises(native_library.CannotRun, match=r'^net\.lqn: is damaged: .* no UTF-8'):
        ask(network)
