"""What the line at a training's start says of the processor."""

import pytest

from engine.config import hardware


@pytest.mark.parametrize(
    'flags, name',
    [
        ('flags : avx512f avx512_bf16 amx_bf16 amx_tile', 'AMX'),
        ('flags : avx512f avx512_bf16', 'AVX512-BF16'),
        ('Features : fp asimd bf16', 'Arm BF16'),
        ('flags : avx512f amx_bf16_not', ''),
    ],
)
def test_what_multiplies_bfloat16(flags, name, tmp_path, monkeypatch):
    path = tmp_path / 'cpuinfo'
    path.write_text(f'processor : 0\n{flags}\n')
    assert hardware.bfloat16(path) == name
    monkeypatch.setattr(hardware, 'bfloat16', lambda: name)
    assert (f'bfloat16 by {name}' in hardware.line()) == bool(name)
    assert ('--bf16 is slower' in hardware.line()) == (not name)


def test_without_the_list_there_is_none(tmp_path):
    assert hardware.bfloat16(tmp_path / 'none') == ''
