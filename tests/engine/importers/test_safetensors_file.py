"""Files of the safetensors format: what they hold, and what is said of damaged ones."""

import json
import struct

import numpy as np
import pytest

from engine.errors import UsageError
from engine.importers.safetensors_file import read_safetensors


def stored(path, tensors, *, types=None, cut=0):
    """Writes a file by the description of the format."""
    table, data = {'__metadata__': {'format': 'pt'}}, b''
    kinds = {'f4': 'F32', 'f2': 'F16', 'f8': 'F64', 'i8': 'I64', 'u2': 'BF16', 'b1': 'BOOL'}
    for name, value in tensors.items():
        raw = value.tobytes()
        kind = kinds[value.dtype.str[1:]]
        offsets = [len(data), len(data) + len(raw)]
        table[name] = {'dtype': kind, 'shape': list(value.shape), 'data_offsets': offsets}
        data += raw
    table.update(types or {})
    head = json.dumps(table).encode()
    whole = struct.pack('<Q', len(head)) + head + data
    path.write_bytes(whole[: len(whole) - cut])
    return path


def test_numbers_of_every_type(tmp_path):
    tensors = {
        'conv.weight': np.arange(24, dtype='<f4').reshape(2, 3, 2, 2),
        'half': np.array([0.5, -0.0], '<f2'),
        'double': np.array([[1e300]], '<f8'),
        'count': np.array(7, '<i8'),
        'none': np.zeros((0, 3), '<f4'),
        'yes': np.array([True, False]),
    }
    found = read_safetensors(stored(tmp_path / 'x.safetensors', tensors))
    assert set(found) == set(tensors)
    for name, value in tensors.items():
        np.testing.assert_array_equal(found[name], value, strict=True)


def test_bfloat16_becomes_float32(tmp_path):
    halves = np.array([0x3F80, 0xC000, 0x0000, 0x7F80], '<u2')  # 1, -2, 0, infinity
    found = read_safetensors(stored(tmp_path / 'x.safetensors', {'w': halves}))
    np.testing.assert_array_equal(found['w'], np.array([1, -2, 0, np.inf], 'float32'), strict=True)


WRONG = {
    'type': {'w': {'dtype': 'F7', 'shape': [1], 'data_offsets': [0, 4]}},
    'outside': {'w': {'dtype': 'F32', 'shape': [9], 'data_offsets': [0, 36]}},
    'length': {'w': {'dtype': 'F32', 'shape': [2], 'data_offsets': [0, 4]}},
    'negative': {'w': {'dtype': 'F32', 'shape': [-1], 'data_offsets': [0, 4]}},
    'turned': {'w': {'dtype': 'F32', 'shape': [1], 'data_offsets': [4, 0]}},
    'entry': {'w': 3},
}


@pytest.mark.parametrize('wrong', WRONG)
def test_a_wrong_table(wrong, tmp_path):
    path = stored(tmp_path / 'x.safetensors', {'a': np.ones(2, '<f4')}, types=WRONG[wrong])
    with pytest.raises(UsageError, match=r'x\.safetensors: cannot be read as safetensors'):
        read_safetensors(path)


@pytest.mark.parametrize('cut', [1, 9, 100, 10**6])
def test_a_file_that_ends_too_early(cut, tmp_path):
    path = stored(tmp_path / 'x.safetensors', {'a': np.ones(2, '<f4')}, cut=cut)
    with pytest.raises(UsageError, match='give a complete file'):
        read_safetensors(path)


def test_no_file(tmp_path):
    with pytest.raises(UsageError, match='cannot be read'):
        read_safetensors(tmp_path / 'none.safetensors')
