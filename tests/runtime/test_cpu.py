"""Which kernels a processor and its system allow, from what both say."""

import subprocess

import pytest

from engine.deployment import native_build
from tests.paths import ROOT

# Leaf 1, ecx; leaf 7, ebx, ecx and edx; its second part, eax; state that the system saves.
FMA_SAVES = 1 << 12 | 1 << 27
CARRY_LESS = 1 << 1 | 1 << 19
AVX2 = 1 << 5
AVX512 = AVX2 | 1 << 16 | 1 << 17 | 1 << 30 | 1 << 31
VNNI = 1 << 11
AMX = 1 << 24 | 1 << 25
AVX_VNNI = 1 << 4
YMM, ZMM, TILES = 0x7, 0xE7, 0x602E7
CASES = {
    'a processor without AVX2': ((FMA_SAVES, 0, 0, 0, 0, YMM), ''),
    'a system that saves no vectors': ((FMA_SAVES, AVX2, 0, 0, 0, 0x3), ''),
    'AVX2 without FMA': ((1 << 27, AVX2, 0, 0, 0, YMM), ''),
    'Haswell': ((FMA_SAVES | CARRY_LESS, AVX2, 0, 0, 0, YMM), 'avx2 carryless'),
    'Westmere': ((CARRY_LESS, 0, 0, 0, 0, 0), 'carryless'),
    'carry-less products without SSE4.1': ((1 << 1, 0, 0, 0, 0, 0), ''),
    'Skylake server, AVX-512 without VNNI': ((FMA_SAVES, AVX512, 0, 0, 0, ZMM), 'avx2'),
    'Cascade Lake': ((FMA_SAVES, AVX512, VNNI, 0, 0, ZMM), 'avx2 avx512vnni'),
    'Knights Mill, which lacks BW': ((FMA_SAVES, AVX2 | 1 << 16, VNNI, 0, 0, ZMM), 'avx2'),
    'AVX-512 that the system does not save': ((FMA_SAVES, AVX512, VNNI, 0, 0, YMM), 'avx2'),
    'Alder Lake': ((FMA_SAVES, AVX2, 0, 0, AVX_VNNI, YMM), 'avx2 avxvnni'),
    'Sapphire Rapids': (
        (FMA_SAVES, AVX512, VNNI, AMX, AVX_VNNI, TILES),
        'avx2 avxvnni avx512vnni amx',
    ),
    'tiles that the system does not save': (
        (FMA_SAVES, AVX512, VNNI, AMX, AVX_VNNI, ZMM),
        'avx2 avxvnni avx512vnni',
    ),
    'tiles without products of bytes': (
        (FMA_SAVES, AVX512, VNNI, 1 << 24, AVX_VNNI, TILES),
        'avx2 avxvnni avx512vnni',
    ),
}


@pytest.fixture(scope='module')
def program(tmp_path_factory):
    command = native_build.compiler()
    if command is None:
        pytest.skip(f'no C compiler: {native_build.REMEDY}')
    made = tmp_path_factory.mktemp('cpus') / 'cpus'
    source = ROOT / 'tests/runtime/cpus.c'
    flags = ('-I', str(ROOT / 'runtime'))
    subprocess.run([*command, '-std=c11', *flags, str(source), '-o', str(made)], check=True)
    return made


@pytest.mark.parametrize('case', CASES)
def test_instructions(program, case):
    said, expected = CASES[case]
    words = [f'{number:x}' for number in said]
    found = subprocess.run([str(program), *words], check=True, capture_output=True, text=True)
    assert found.stdout.split() == expected.split()
