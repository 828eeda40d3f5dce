"""Tests of the library run with every set of kernels that the machine has, or an emulator."""

import platform

import pytest

from engine import processor
from engine.deployment import native_build, native_library
from tests.runtime import emulated, simde

# What Linux calls the instructions of kernels.
WORDS = {'avxvnni': 'avx_vnni', 'avx512vnni': 'avx512_vnni', 'amx': 'amx_int8'}
HERE = [name for name, word in WORDS.items() if word in processor.features()]
ARM = ('portable', 'neon', 'neon-dot')
KERNELS = {
    'x86_64': ('portable', 'avx2', *HERE),
    'aarch64': ARM,
    'arm64': ARM,
}
# Every file is a process of its own on an emulated processor.
EMULATED = [f'emulated {name}' for name in emulated.PROCESSORS]
EMULATED += [f'simde {name}' for name in simde.KERNELS]
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in EMULATED]


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


@pytest.fixture(scope='session')
def simde_library(tmp_path_factory):
    """The library whose kernels call instructions that SIMDe emulates."""
    simde.skip_without()
    return simde.link(tmp_path_factory.mktemp('simde') / native_library.path().name)


@pytest.fixture(params=[*KERNELS.get(platform.machine(), ('portable',)), *SLOW])
def opened(request, library, monkeypatch, tmp_path):
    """A function that opens the content of a file with one set of kernels."""
    way, _, kernels = request.param.rpartition(' ')
    program = None
    if way == 'emulated':
        program = request.getfixturevalue('emulated_program')
    elif way == 'simde':
        library = request.getfixturevalue('simde_library')
    monkeypatch.setenv('LQN_KERNELS', 'portable' if program else kernels)

    def open_network(content, threads=1):
        if program:
            return emulated.EmulatedNetwork(content, threads, library, program, kernels, tmp_path)
        try:
            network = native_library.NativeNetwork(content, 'net.lqn', threads, library)
        except native_library.CannotRun as error:
            if not way and 'this machine has no such kernels' in str(error):
                pytest.skip(str(error))
            raise
        assert network.kernels == kernels
        return network

    return open_network
