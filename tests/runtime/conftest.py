"""Tests of the library run with every set of kernels that the machine has, or an emulator."""

import platform

import pytest

from engine.deployment import native_build, native_library
from tests.runtime import emulated

ARM = ('portable', 'neon', 'neon-dot')
KERNELS = {
    'x86_64': ('portable', 'avx2'),
    'aarch64': ARM,
    'arm64': ARM,
}
# Every file is a process of its own.
EMULATED = [
    pytest.param(f'emulated {name}', marks=pytest.mark.slow) for name in emulated.PROCESSORS
]


@pytest.fixture(scope='session')
def library(compiled_library):
    if compiled_library is None:
        pytest.skip(f'no C compiler: {native_build.REMEDY}')
    return compiled_library


@pytest.fixture(scope='session')
def emulated_program(tmp_path_factory):
    """The program that answers on an emulated processor, compiled as the library is."""
    emulated.skip_without()
    return emulated.build(tmp_path_factory.mktemp('emulated') / 'answer')


@pytest.fixture(params=[*KERNELS.get(platform.machine(), ('portable',)), *EMULATED])
def opened(request, library, monkeypatch, tmp_path):
    """A function that opens the content of a file with one set of kernels."""
    kernels = request.param.removeprefix('emulated ')
    program = None
    if kernels != request.param:
        program = request.getfixturevalue('emulated_program')
    monkeypatch.setenv('LQN_KERNELS', 'portable' if program else kernels)

    def open_network(content, threads=1):
        if program:
            return emulated.EmulatedNetwork(content, threads, library, program, kernels, tmp_path)
        try:
            network = native_library.NativeNetwork(content, 'net.lqn', threads, library)
        except native_library.CannotRun as error:
            if 'this machine has no such kernels' in str(error):
                pytest.skip(str(error))
            raise
        assert network.kernels == kernels
        return network

    return open_network
