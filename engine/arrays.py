"""Arrays by name in an ``.npz`` file, read so that what was written comes back or is refused.

Numpy checks the checksums of such a file only as far as it happens to read, and makes room for an
array as large as its header says. Here every member is read to its end, and its header must fit.
"""

import io
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from engine.files import Damaged, read_bytes, replacing
from engine.schema import shown

# Bytes of a file: more is none of ours.
LARGEST = 2**32

# The members of a file take so many times its bytes, or so many bytes: ours compress badly.
_EXPANSION, _SMALL = 4, 2**28

_SUFFIX = '.npy'

# The end of an archive: two numbers of disks, two of members, size and place of their list, and the
# length of a comment, of which there is none.
_END, _MARK = struct.Struct('<4s4H2LH'), b'PK\x05\x06'

# What the standard library raises for a file that is no archive, or one of another kind.
FAULTS = (
    ValueError,  # numpy's too
    EOFError,
    KeyError,
    IndexError,
    OverflowError,
    TypeError,
    SyntaxError,
    RuntimeError,  # encrypted
    NotImplementedError,
    OSError,
    MemoryError,
    struct.error,
    tokenize.TokenError,
    zlib.error,
    zipfile.BadZipFile,
)


class Array(NamedTuple):
    """Type, dimensions and range that an array of a file must have.

    Attributes:
        kinds: Letters of numpy's kinds of types, such as ``iu`` for whole numbers.
        ndim: Number of dimensions; None for any.
        low: Smallest value; None for any. With it, values are finite.
        needed: Whether the file must have it.
    """

    kinds: str
    ndim: int | None = None
    low: float | None = None
    needed: bool = True


def write(path: Path, arrays: Mapping[str, Any], *, compressed: bool = False) -> None:
    """Writes arrays by name, see ``replacing``.

    Args:
        path: The file.
        arrays: Arrays or numbers by name.
        compressed: Whether to compress them.
    """
    save = np.savez_compressed if compressed else np.savez
    with replacing(path) as temporary, temporary.open('wb') as stream:
        save(stream, allow_pickle=False, **arrays)


def read(path: Path, wanted: Mapping[str, Array] | None, remedy: str) -> dict[str, np.ndarray]:
    """The arrays in a file.

    Args:
        path: The file.
        wanted: Arrays by name, and what each must be; None for whatever the file has.
        remedy: End of the message if it cannot be read: how to get it right.

    Raises:
        UsageError: The file cannot be read.
        Damaged: It does not hold what was written.
    """
    content = read_bytes(path, remedy, LARGEST)
    try:
        found = members(content)
        if wanted is not None:
            _check(found, wanted)
    except FAULTS as error:
        raise Damaged(f'{path}: damaged ({shown(str(error), 200)}); {remedy}') from None
    return found


def members(content: bytes) -> dict[str, np.ndarray]:
    """The arrays in the bytes of an ``.npz`` file.

    Raises:
        ValueError: It does not hold what was written; or another error of the standard library.
    """
    found: dict[str, np.ndarray] = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        infos = archive.infolist()
        _check_end(content, len(infos))
        if sum(info.file_size for info in infos) > max(_SMALL, _EXPANSION * len(content)):
            raise ValueError('its members would be larger than they can be')
        for info in infos:
            name = info.filename.removesuffix(_SUFFIX)
            if name in found or name == info.filename:
                raise ValueError(f'{info.filename}: is there twice or no array')
            found[name] = _array(name, archive.read(info))
    return found


def _check_end(content: bytes, count: int) -> None:
    """Checks that an archive lists ``count`` members, as its end says, which ``zipfile`` does not.

    Raises:
        ValueError: It does not.
    """
    mark, *_, here, whole, size, offset, comment = _END.unpack(content[-_END.size :])
    ends = offset + size + _END.size + comment
    if mark != _MARK or (here, whole) != (count, count) or ends != len(content):
        raise ValueError('its end is that of another archive')


def _array(name: str, content: bytes) -> np.ndarray:
    """The array in the bytes of an ``.npy`` file.

    Raises:
        ValueError: They hold none, or more or fewer values than they say.
    """
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, by_column, dtype = np.lib.format.read_array_header_1_0(stream)
    else:
        shape, by_column, dtype = np.lib.format.read_array_header_2_0(stream)
    if dtype.hasobject:
        raise ValueError(f'{name}: holds Python objects')
    values = stream.read()
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(values):
        raise ValueError(f'{name}: holds {len(values)} bytes for {dtype} {list(shape)}')
    order: Literal['F', 'C'] = 'F' if by_column else 'C'
    return np.ndarray(shape, dtype, bytearray(values), order=order)


def _check(found: Mapping[str, np.ndarray], wanted: Mapping[str, Array]) -> None:
    """Checks that there are these arrays, whatever others there are.

    Raises:
        ValueError: There are not.
    """
    for name, expected in wanted.items():
        if name in found:
            _check_one(name, found[name], expected)
        elif expected.needed:
            raise ValueError(f'{name}: is missing')


def _check_one(name: str, value: np.ndarray, expected: Array) -> None:
    about = f'{name}: {value.dtype} {list(value.shape)}'
    if value.dtype.kind not in expected.kinds:
        raise ValueError(f'{about}, a type of kind {expected.kinds} expected')
    if expected.ndim not in (None, value.ndim):
        raise ValueError(f'{about}, {expected.ndim} dimensions expected')
    if expected.low is None or not value.size:
        return
    if not np.isfinite(value).all() or value.min() < expected.low:
        raise ValueError(f'{name}: values of at least {expected.low:g} expected')
