"""Arrays and numbers of NumPy in pickles."""

import math
import re
from collections.abc import Mapping
from pickle import UnpicklingError
from typing import Any

import numpy as np

from engine.pickles.values import Function, Unfinished, ordered

# Whole numbers, floating-point numbers and truth values; no objects, whatever they are hidden in.
_NUMBERS = re.compile('b1|[iu][1248]|f[248]')

_MOST_DIMENSIONS = 32


class Dtype(Unfinished):
    """Type of a NumPy number; its byte order is told as its state.

    No np.dtype, which programs share and a state would alter.
    """

    def __init__(self, code: Any, *_: Any):
        if not isinstance(code, str | bytes):
            raise UnpicklingError('a NumPy value that is no number')
        text = code.decode('latin1') if isinstance(code, bytes) else code
        if not _NUMBERS.fullmatch(text):
            raise UnpicklingError('a NumPy value that is no number')
        self._code = text
        self._order = '<'

    def build(self, state: Any) -> 'Dtype':
        """Sets the byte order.

        Raises:
            UnpicklingError: it is unknown, or the number has parts.
        """
        order = state[1]
        if isinstance(order, bytes):
            order = order.decode('latin1')
        if order not in ('<', '>', '|') or any(part is not None for part in state[2:5]):
            raise UnpicklingError('a NumPy value of unknown byte order')
        self._order = order
        return self

    @property
    def numpy(self) -> np.dtype:
        """The type."""
        return np.dtype(self._order + self._code)


class Array(Unfinished):
    """An array whose shape, type and numbers are told as its state."""

    def build(self, state: Any) -> np.ndarray:
        """The array.

        Raises:
            UnpicklingError: the state is of no array of numbers.
        """
        _, shape, dtype, fortran, raw = state
        order = 'F' if fortran else 'C'
        return _array(raw, dtype, shape, order)


def _array(raw: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
    """Array over its bytes, which are not copied.

    Args:
        raw: the bytes, or a text of as many characters.
        dtype: a ``Dtype``.
        shape: lengths of the dimensions.
        order: ``C``, or ``F`` for the first dimension fastest.

    Raises:
        UnpicklingError: it is no array of numbers, or has another number of them.
    """
    data = raw.encode('latin1') if isinstance(raw, str) else raw
    if not isinstance(data, bytes) or not isinstance(dtype, Dtype) or order not in ('C', 'F'):
        raise UnpicklingError('an array of something that is no number')
    if not isinstance(shape, tuple) or len(shape) > _MOST_DIMENSIONS:
        raise UnpicklingError('an array of impossible shape')
    if not all(type(length) is int and 0 <= length < 2**62 for length in shape):
        raise UnpicklingError('an array of impossible shape')
    kind = dtype.numpy
    if math.prod(shape) * kind.itemsize != len(data):
        raise UnpicklingError(f'an array {list(shape)} of {len(data)} bytes')
    if not data:
        return np.empty(shape, kind)
    flat = np.frombuffer(data, kind)
    if order == 'F':
        return flat.reshape(shape, order='F')
    return flat.reshape(shape)


def _scalar(dtype: Any, raw: Any) -> int | float | bool:
    """A NumPy number from its bytes, which Python 2 wrote as a string."""
    return _array(raw, dtype, (), 'C').item()


def _encoded(text: Any, *_: Any) -> bytes:
    """Bytes as pickles for Python 2 spell them."""
    return text.encode('latin1')


def _plain_bytes(data: Any = b'', *_: Any) -> bytes:
    """Bytes from bytes or from a text.

    Raises:
        UnpicklingError: from something else; a number of zeros could be of any size.
    """
    if not isinstance(data, str | bytes):
        raise UnpicklingError('bytes of something else')
    return _encoded(data) if isinstance(data, str) else data


# What is built for the names in a pickle of numbers and containers.
NUMBERS: Mapping[str, Any] = {
    'collections.OrderedDict': Function(ordered),
    '_codecs.encode': Function(_encoded),
    'numpy.dtype': Function(Dtype),
    'numpy.core.multiarray.scalar': Function(_scalar),
    'numpy._core.multiarray.scalar': Function(_scalar),
}

_RECONSTRUCT = Function(lambda *_: Array())
_FROM_BUFFER = Function(_array)
_BYTES = Function(_plain_bytes)

# The same with arrays.
ARRAYS: Mapping[str, Any] = {
    **NUMBERS,
    'numpy.ndarray': 'numpy.ndarray',
    'numpy.core.multiarray._reconstruct': _RECONSTRUCT,
    'numpy._core.multiarray._reconstruct': _RECONSTRUCT,
    'numpy.core.numeric._frombuffer': _FROM_BUFFER,
    'numpy._core.numeric._frombuffer': _FROM_BUFFER,
    '__builtin__.bytes': _BYTES,
    'builtins.bytes': _BYTES,
    '__builtin__.bytearray': _BYTES,
    'builtins.bytearray': _BYTES,
}
