"""Reader of .safetensors files: a table in JSON, followed by raw numbers."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import UsageError

SUFFIX = '.safetensors'

# Largest table that the format allows, bytes.
_TABLE = 100_000_000

# What the format calls its types; bfloat16 becomes float32.
_BFLOAT16 = 'BF16'
_TYPES = {
    'F64': '<f8',
    'F32': '<f4',
    'F16': '<f2',
    _BFLOAT16: '<u2',
    'I64': '<i8',
    'I32': '<i4',
    'I16': '<i2',
    'I8': '|i1',
    'U8': '|u1',
    'BOOL': '|b1',
}


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Arrays of the stored shapes and types (bfloat16 as float32) by name.

    Args:
        path: of the file.

    Raises:
        UsageError: it cannot be read, or is no such file.
    """
    try:
        with path.open('rb') as stream:
            length = int.from_bytes(stream.read(8), 'little')
            table = json.loads(stream.read(min(length, _TABLE)))
            data = stream.read()
        found = {}
        for name, entry in table.items():
            if name != '__metadata__':
                found[name] = _tensor(name, entry, data)
        return found
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        why = ' '.join(str(error).split())[:200]
        raise UsageError(
            f'{path}: cannot be read as safetensors ({type(error).__name__}: {why}); give a '
            'complete file'
        ) from error


def _tensor(name: str, entry: Any, data: bytes) -> np.ndarray:
    """One tensor of the file.

    Args:
        name: of the tensor.
        entry: its row of the table.
        data: all that follows the table.

    Raises:
        ValueError: it reaches beyond the file, or has another length than its shape.
    """
    kind, shape = entry['dtype'], tuple(entry['shape'])
    start, end = entry['data_offsets']
    dtype = np.dtype(_TYPES[kind])
    if not all(isinstance(side, int) and side >= 0 for side in shape):
        raise ValueError(f'{name} has shape {list(shape)}')
    size = math.prod(shape) * dtype.itemsize
    if not 0 <= start <= end <= len(data) or end - start != size:
        raise ValueError(f'{name} is at bytes {start} to {end} of {len(data)}, and takes {size}')
    values = np.frombuffer(data[start:end], dtype).reshape(shape)
    if kind == _BFLOAT16:
        return (values.astype('<u4') << 16).view('<f4')
    return values.copy()
