"""The constants of an ONNX file in the making, each stored once."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import helper, numpy_helper


class OnnxConstants:
    """The constants of one file.

    Attributes:
        initializers: messages by name.
    """

    def __init__(self) -> None:
        self.initializers: dict[str, Any] = {}
        self._made: dict[Any, str] = {}

    def array(self, value: np.ndarray, name: str) -> str:
        """The name of an initializer with a value; equal ones are stored once."""
        key = value.dtype.str, value.shape, value.tobytes()
        if key not in self._made:
            self.initializers[name] = _tensor(value, name)
            self._made[key] = name
        return self._made[key]

    def indices(self, *numbers: int) -> str:
        """A vector of whole numbers of the file, int64."""
        spelled = '_'.join(map(str, numbers))
        return self.array(np.array(numbers, np.int64), f'indices_{spelled}')

    def number(self, value: float) -> str:
        """A scalar of the file."""
        return self.array(np.array(value, np.float32), f'number_{value}')

    def zero(self, kind: Any) -> str:
        """A scalar 0 of the file."""
        return self.array(np.zeros([], kind), f'zero_{np.dtype(kind).name}')


def _tensor(value: np.ndarray, name: str) -> Any:
    """A constant as a message: small whole numbers take a byte each where there is a choice.

    Args:
        value: of the constant.
        name: in the file.
    """
    whole = np.ascontiguousarray(value).reshape(value.shape)  # else numbers are vectors
    plain = numpy_helper.from_array(whole, name)
    if value.dtype not in (np.int32, np.int64):
        return plain
    listed = helper.make_tensor(name, plain.data_type, value.shape, value.reshape(-1).tolist())
    return min(plain, listed, key=lambda one: one.ByteSize())
