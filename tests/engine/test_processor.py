"""What the system's description says of a processor."""

import pytest

from engine import processor


@pytest.mark.parametrize(
    'flags, machine, exact',
    [
        ('avx avx2 fma', 'x86_64', False),
        ('avx avx2 fma avx512f avx512bw', 'x86_64', False),
        ('avx2 avx_vnni', 'x86_64', True),
        ('avx512f avx512_vnni', 'AMD64', True),
        ('', 'AMD64', False),
        ('fp asimd', 'aarch64', True),
        ('', 'arm64', True),
    ],
)
def test_which_add_products_of_8_bits_exactly(flags, machine, exact, tmp_path, monkeypatch):
    monkeypatch.setattr(processor.platform, 'machine', lambda: machine)
    path = tmp_path / 'cpuinfo'
    path.write_text(f'flags : {flags}\n')
    assert processor.adds_exactly(path) is exact
