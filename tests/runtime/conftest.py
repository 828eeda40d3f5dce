"""Tests of the library run with every set of kernels that the machine has."""

import platform

import pytest

from engine.deployment import native_build, native_library

KERNELS = {
    'x86_64': ('portable', 'avx2'),
    'aarch64': ('portable',),
}


@pytest.fixture(scope='session')
def library(compiled_library):
    if compiled_library is None:
        pytest.skip(f'no C compiler: {native_build.REMEDY}')
    return compiled_library


@pytest.fixture(params=KERNELS.get(platform.machine(), ('portable',)))
def opened(request, library, monkeypatch):
    """A function that opens the content of a file with one set of kernels."""
    monkeypatch.setenv('LQN_KERNELS', request.param)

    def open_network(content, threads=1):
        try:
            network = native_library.NativeNetwork(content, 'net.lqn', threads, library)
        except native_library.CannotRun as error:
            if 'this machine has no such kernels' in str(error):
                pytest.skip(str(error))
            raise
        assert network.kernels == request.param
        return network

    return open_network
