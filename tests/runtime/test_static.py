"""Static programs that the package ziglang makes: they need nothing of the system they run on."""

import importlib.util
import platform
import shutil
import sys

import numpy as np
import pytest

from engine.deployment import interpreter, native_build, native_library, native_writer
from tests.engine.deployment import small_programs
from tests.paths import ROOT
from tests.runtime import emulated

# The first program for a machine takes minutes: its C library is compiled, too.
pytestmark = pytest.mark.slow

PROGRAM = [*native_library.sources(), ROOT / 'tests/runtime/answer.c']
COUNT = 3


# Machines, and the processor that the emulator makes of another one.
PROCESSORS = {'x86_64': '', 'aarch64': 'max'}


@pytest.fixture(scope='module', params=PROCESSORS)
def machine(request):
    """A machine whose programs run here, or in the emulator."""
    here = native_build.NAMES.get(platform.machine(), platform.machine())
    if request.param == 'x86_64' and here != 'x86_64':
        pytest.skip('this machine is no x86_64')
    if request.param == 'aarch64' and not shutil.which(emulated.EMULATOR):
        pytest.skip(f'no {emulated.EMULATOR}: apt-get install qemu-user')
    return request.param


@pytest.fixture(scope='module')
def static_program(machine, tmp_path_factory):
    """The program that answers, for a machine, with a C library inside."""
    if not importlib.util.find_spec('ziglang'):
        pytest.skip('the package ziglang is not installed')
    made = tmp_path_factory.mktemp('static') / 'answer'
    command = [sys.executable, '-m', 'ziglang', 'cc', '-target', f'{machine}-linux-musl']
    native_build.link(command, PROGRAM, made, '-static', (), machine)
    return made


@pytest.mark.parametrize('threads', [1, 2])
def test_answers_are_those_of_the_interpreter(threads, static_program, machine, tmp_path):
    """At every point, of a network with every operation."""
    whole = small_programs.everything()
    views = small_programs.images(COUNT)
    paths = [tmp_path / name for name in ('net.lqn', 'images', 'answers')]
    paths[0].write_bytes(native_writer.serialized(whole, {}))
    paths[1].write_bytes(b''.join(view.tobytes() for view in views))
    for place, point in enumerate(whole.points):
        arguments = [place, threads, COUNT, *paths]
        (kernels,) = emulated.answers(static_program, PROCESSORS[machine], arguments)
        assert kernels != 'portable'
        expected, chosen = interpreter.answers(whole, point, *views)
        answers = paths[2].read_bytes()
        logits = np.frombuffer(answers, np.float32, expected.size).reshape(expected.shape)
        executed = np.frombuffer(answers, np.int32, offset=expected.nbytes).reshape(chosen.shape)
        np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5 * expected.std())
        np.testing.assert_array_equal(executed, chosen)
