"""The library on a 64-bit Arm processor that qemu emulates, in a program of its own.

What it takes: ``apt-get install gcc-aarch64-linux-gnu qemu-user``; the package ziglang serves as
compiler, too.
"""

import importlib.util
import platform
import shutil
import subprocess
import sys

import numpy as np
import pytest

from engine.deployment import native_build, native_library
from tests.paths import ROOT

EMULATOR = 'qemu-aarch64'
# Processors without dot products, and with everything, and the kernels that are their best.
PROCESSORS = {'neon': 'cortex-a53', 'neon-dot': 'max'}


def compiler():
    """The command of a compiler for 64-bit Arm; None without one."""
    if shutil.which('aarch64-linux-gnu-gcc'):
        return ['aarch64-linux-gnu-gcc']
    if importlib.util.find_spec('ziglang'):
        return [sys.executable, '-m', 'ziglang', 'cc', '-target', 'aarch64-linux-musl']
    return None


def skip_without():
    """Skips a test where the compiler or the emulator is not here, or not needed."""
    if platform.machine() in ('aarch64', 'arm64'):
        pytest.skip('no emulator is needed: this processor is tested itself')
    if compiler() is None:
        pytest.skip('no compiler for aarch64: apt-get install gcc-aarch64-linux-gnu')
    if not shutil.which(EMULATOR):
        pytest.skip(f'no {EMULATOR}: apt-get install qemu-user')


def build(made, flags=()):
    """Compiles the program that answers, for 64-bit Arm and without libraries of a system."""
    sources = [*native_library.sources(), ROOT / 'tests/runtime/answer.c']
    native_build.link(compiler(), sources, made, '-static', flags, 'aarch64')
    return made


def answers(program, processor, arguments, kernels=''):
    """Runs the program on an emulated processor, or on this one.

    Args:
        program: that was built.
        processor: as the emulator calls it; empty for this one.
        arguments: of the program.
        kernels: what LQN_KERNELS says.

    Returns:
        The kernels that computed, one for each file.
    """
    emulator = [EMULATOR, '-cpu', processor] if processor else []
    ran = subprocess.run(
        [*emulator, str(program), *map(str, arguments)],
        capture_output=True,
        text=True,
        env={'LQN_KERNELS': kernels},
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split()


class EmulatedNetwork(native_library.NativeNetwork):
    """A network that an emulated processor runs, and this machine describes.

    Args:
        content: of the file.
        threads: that share the work of an image.
        library: of this machine.
        program: of the emulated one.
        name: of its kernels.
        folder: for files.
    """

    def __init__(self, content, threads, library, program, name, folder):
        super().__init__(content, 'net.lqn', threads, library)
        self._content = content
        self._program = program
        self._name = name
        self._threads = threads
        self._folder = folder

    @property
    def kernels(self):
        return self._name

    def append(self, content):
        super().append(content)
        self._content += content

    def run(self, place, *views):
        logits, executed = super().run(place, *views)
        paths = [self._folder / name for name in ('net.lqn', 'images', 'answers')]
        paths[0].write_bytes(self._content)
        paths[1].write_bytes(b''.join(view.tobytes() for view in views))
        arguments = [place, self._threads, len(logits), *paths]
        names = answers(self._program, PROCESSORS[self._name], arguments, self._name)
        assert names == [self._name]
        found = paths[2].read_bytes()
        logits = np.frombuffer(found, logits.dtype, logits.size).reshape(logits.shape)
        told = np.frombuffer(found, executed.dtype, offset=logits.nbytes)
        return logits, told.reshape(executed.shape)
