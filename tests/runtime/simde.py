"""The library with kernels for AVX-VNNI, AVX512-VNNI and AMX on any machine with AVX2.

Their sources are compiled as they are; the header of instructions that they include is one of ours,
by which SIMDe (``apt-get install libsimde-dev``) and a few loops compute what the processor lacks.
"""

import platform
import subprocess

import pytest

from engine import processor
from engine.deployment import native_build, native_library
from tests.paths import ROOT

KERNELS = ('avxvnni', 'avx512vnni', 'amx')
INSTRUCTIONS = ROOT / 'tests/runtime/instructions'

# gcc 12 fails to optimise vectors further that the processor does not have.
_FLAGS = ('-O1', '-mavx2', '-mfma', '-Wno-psabi', '-isystem', str(INSTRUCTIONS))
_OWN_FLAGS = {
    **native_build.OWN_FLAGS,
    **{(f'{name}.c', 'x86_64'): _FLAGS for name in KERNELS},
    ('cpu.c', 'x86_64'): ('-I', str(ROOT / 'runtime')),
}


def skip_without():
    """Skips a test where these kernels cannot be compiled, or run."""
    if platform.machine() not in ('x86_64', 'AMD64') or 'avx2' not in processor.features():
        pytest.skip('this machine has no AVX2')
    if native_build.compiler() is None:
        pytest.skip(f'no C compiler: {native_build.REMEDY}')
    command = [*native_build.compiler(), '-fsyntax-only', '-x', 'c', '-']
    header = '#include <simde/x86/avx512/dpbusd.h>'
    found = subprocess.run(command, input=header, capture_output=True, text=True)
    if found.returncode:
        pytest.skip('SIMDe is not here: apt-get install libsimde-dev')


def sources():
    """Those of the library, for a processor that has all that is emulated."""
    own = [source for source in native_library.sources() if source.name != 'cpu.c']
    return [*own, INSTRUCTIONS / 'cpu.c']


def link(made, kind='-shared', flags=(), further=()):
    """Compiles it to a file, a library by default, with further sources."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native_build, 'OWN_FLAGS', _OWN_FLAGS)
        native_build.link(native_build.compiler(), [*sources(), *further], made, kind, flags)
    return made
