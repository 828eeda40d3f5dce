"""Packed codes in an ONNX file, and the nodes that unpack them, which runtimes do once."""

from __future__ import annotations

import collections
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from onnx import TensorProto

from engine.deployment.coding import are_pairs
from engine.deployment.packing import pack, packing

if TYPE_CHECKING:
    from engine.deployment.onnx_graph import OnnxGraph

# Codes that are unpacked together: of more, numbers of 32 bits on the way would take memory.
MOST_TOGETHER = 2**17


class Kernels:
    """The packed kernels of a part of a graph that is executed as a whole.

    Small ones are unpacked together: nodes for each would be a good part of a small file.
    """

    def __init__(self) -> None:
        # By what kernels have in common that are unpacked together.
        self._kernels: dict[Any, list[_Kernel]] = collections.defaultdict(list)

    def add(self, codes: np.ndarray, levels: np.ndarray, name: str) -> str:
        """The name of a kernel of packed codes with their levels.

        Args:
            codes: uint8, [out, ...].
            levels: [L, out].
            name: that it is to get.
        """
        opposite = levels.dtype == np.float32 and are_pairs(levels)
        unit = opposite and len(levels) > 2 and bool(np.all(levels[-1] == 1))
        alike = len(levels), levels.dtype.str, codes.ndim, opposite, unit
        self._kernels[alike].append(_Kernel(codes, levels, name))
        return name

    def write(self, w: OnnxGraph) -> None:
        """Adds the nodes that unpack the kernels.

        Args:
            w: the graph.
        """
        for (*_, opposite, unit), kernels in self._kernels.items():
            together: list[_Kernel] = []
            size = 0
            for kernel in kernels:
                size += kernel.codes.size
                if together and size > MOST_TOGETHER:
                    _unpack(w, together, opposite=opposite, unit=unit)
                    together, size = [], kernel.codes.size
                together.append(kernel)
            _unpack(w, together, opposite=opposite, unit=unit)


class _Kernel(NamedTuple):
    """A kernel of packed codes, see ``Kernels.add``."""

    codes: np.ndarray
    levels: np.ndarray
    name: str


def _unpack(w: OnnxGraph, kernels: Sequence[_Kernel], *, opposite: bool, unit: bool) -> None:
    """Adds the nodes that unpack kernels with as many levels and axes.

    Args:
        w: the graph.
        kernels: some.
        opposite: whether levels below zero are those above it with a sign.
        unit: whether the largest of every output is one.
    """
    name = f'{kernels[0].name}/together'
    levels = np.concatenate([one.levels for one in kernels], axis=1)  # [L, outputs]
    codes = np.concatenate([one.codes.reshape(-1) for one in kernels])
    count, outputs = levels.shape
    if opposite:
        # Levels from zero upwards, then those below zero from it downwards.
        codes = np.where(codes < count // 2, count - 1 - codes, codes - count // 2)
        flat = _both_signs(w, levels[count // 2 :].T, name, unit=unit)
    else:
        flat = w.array(levels.T.reshape(-1), f'{name}/levels')
    # Levels of one output after those of the one before.
    places = _multiples(w, count, outputs, f'{name}/firsts')
    column = w.indices(-1, *[1] * (kernels[0].codes.ndim - 1))
    column = w.node('Reshape', [places, column], f'{name}/column')
    offsets = _parts(w, column, [len(one.codes) for one in kernels], f'{name}/offsets')
    found = _codes(w, codes, count, name)
    parts = _parts(w, found, [one.codes.size for one in kernels], f'{name}/parts')
    for kernel, part, offset in zip(kernels, parts, offsets):
        shape = w.indices(*kernel.codes.shape)
        rows = w.node('Reshape', [part, shape], f'{kernel.name}/rows')
        indices = w.node('Add', [rows, offset], f'{kernel.name}/indices')
        w.node('Gather', [flat, indices], kernel.name)


def _both_signs(w: OnnxGraph, upper: np.ndarray, name: str, *, unit: bool) -> str:
    """Levels of each output from zero upwards, then those below zero, one output after the other.

    Args:
        w: the graph.
        upper: levels above zero, [outputs, L / 2].
        name: start of the names of what is made.
        unit: whether the largest of every output is one, which is then not stored.
    """
    if unit:
        most = w.array(upper[:, :-1], f'{name}/most')
        above = w.node('Pad', [most, w.indices(0, 0, 0, 1), w.number(1.0)], f'{name}/above')
    else:
        above = w.array(upper, f'{name}/above')
    below = w.node('Neg', [above], f'{name}/below')
    both = w.node('Concat', [above, below], f'{name}/both', axis=1)
    return w.node('Reshape', [both, w.indices(-1)], f'{name}/levels')


def _multiples(w: OnnxGraph, number: int, count: int, name: str) -> str:
    """Multiples of a number from 0 on, int32 [count].

    Args:
        w: the graph.
        number: whose multiples.
        count: how many.
        name: of the vector.
    """
    ends = []
    for end in (0, number * count, number):
        ends.append(w.array(np.array(end, np.int32), f'int{end}'))
    return w.node('Range', ends, name)


def _parts(w: OnnxGraph, whole: str, sizes: Sequence[int], name: str) -> list[str]:
    """Names of parts of a tensor, one after the other.

    Args:
        w: the graph.
        whole: name of the tensor.
        sizes: of the parts.
        name: start of their names.
    """
    if len(sizes) == 1:
        return [whole]
    names = [f'{name}{number}' for number in range(len(sizes))]
    w.node('Split', [whole], *names, split=list(sizes))
    return names


def _codes(w: OnnxGraph, codes: np.ndarray, levels: int, name: str) -> str:
    """Packed codes, and the nodes that unpack them to int32, [codes].

    Args:
        w: the graph.
        codes: uint8 [codes].
        levels: that a code can stand for.
        name: start of the names of what is made.
    """
    size, count = packing(levels)
    packed = w.array(pack(codes, levels), f'{name}/packed')
    numbers = w.node('Cast', [packed], f'{name}/bytes', to=TensorProto.INT32)
    if size > 1:
        found = _digits(w, _joined(w, numbers, size, name), levels, name)
    else:
        # Looked up: to divide every byte is half of the time that ONNX Runtime takes to load.
        table = w.once(f'codes{levels}', _of_bytes(levels))
        found = w.node('Gather', [table, numbers], f'{name}/codes')
    flat = w.node('Reshape', [found, w.indices(-1)], f'{name}/flat')
    if codes.size % count:
        return w.node('Slice', [flat, w.indices(0), w.indices(codes.size)], f'{name}/whole')
    return flat


def _of_bytes(levels: int) -> Callable[[OnnxGraph, str], str]:
    """A function that adds the codes in every possible byte, [256, codes]."""

    def add(w: OnnxGraph, name: str) -> str:
        numbers = _multiples(w, 1, 256, f'{name}/numbers')
        columns = w.node('Unsqueeze', [numbers], f'{name}/bytes', axes=[1])
        return _digits(w, columns, levels, name)

    return add


def _digits(w: OnnxGraph, numbers: str, levels: int, name: str) -> str:
    """Codes of numbers, [numbers, codes].

    Args:
        w: the graph.
        numbers: name of the numbers, [numbers, 1].
        levels: that a code can stand for.
        name: start of the names of what is made.
    """
    _, count = packing(levels)
    places = w.array(levels ** np.arange(count, dtype=np.int32), f'{name}/places')
    shifted = w.node('Div', [numbers, places], f'{name}/shifted')
    divisor = w.array(np.array(levels, np.int32), f'{name}/base')
    return w.node('Mod', [shifted, divisor], f'{name}/digits')


def _joined(w: OnnxGraph, numbers: str, size: int, name: str) -> str:
    """Bytes [groups, size] as one number for each group, [groups, 1].

    Not by a sum over an axis: behind one, OpenVINO takes kernels of whole numbers for floats.

    Args:
        w: the graph.
        numbers: name of the bytes, the lowest first.
        size: bytes of a group.
        name: start of the names of what is made.
    """
    joined = ''
    for place in reversed(range(size)):
        byte = w.node('Gather', [numbers, w.indices(place)], f'{name}/{place}', axis=1)
        if joined:
            shift = w.array(np.array(256, np.int32), 'byte')
            joined = w.node('Mul', [joined, shift], f'{name}/shifted{place}')
            byte = w.node('Add', [joined, byte], f'{name}/joined{place}')
        joined = byte
    return joined
