"""Packed codes in an ONNX file, and the nodes that unpack them, which runtimes do once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from engine.deployment.packing import pack, packing

if TYPE_CHECKING:
    from engine.deployment.onnx_graph import OnnxGraph


def unpacked(w: OnnxGraph, codes: np.ndarray, levels: np.ndarray, name: str) -> str:
    """A kernel of packed codes with their levels.

    Args:
        w: the graph.
        codes: uint8, [out, ...].
        levels: [L, out].
        name: start of the names of what is made.
    """
    count, outputs = levels.shape
    half, rest = np.split(levels, [count // 2])
    opposite = count % 2 == 0 and levels.dtype == np.float32 and np.array_equal(half, -rest[::-1])
    if opposite:
        # Levels from zero upwards, then those below zero from it downwards.
        codes = np.where(codes < count // 2, count - 1 - codes, codes - count // 2)
        stored = w.array(rest.T, f'{name}/half')  # [out, L / 2]
        below = w.node('Neg', [stored], f'{name}/below')
        both = w.node('Concat', [stored, below], f'{name}/both', axis=1)
        flat = w.node('Reshape', [both, w.indices(-1)], f'{name}/levels')
    else:
        flat = w.array(levels.T.reshape(-1), f'{name}/levels')
    # Levels of one output after those of the one before.
    first = count * np.arange(outputs, dtype=np.int32)
    offsets = w.array(first.reshape(-1, *[1] * (codes.ndim - 1)), f'{name}/offsets')
    places = w.node('Add', [_codes(w, codes, count, name), offsets], f'{name}/indices')
    return w.node('Gather', [flat, places], name)


def _codes(w: OnnxGraph, codes: np.ndarray, levels: int, name: str) -> str:
    """Packed codes, and the nodes that unpack them to int32.

    Args:
        w: the graph.
        codes: as of ``unpacked``.
        levels: that a code can stand for.
        name: start of the names of what is made.
    """
    size, count = packing(levels)
    packed = w.array(pack(codes.reshape(-1), levels), f'{name}/packed')
    numbers = w.node('Cast', [packed], f'{name}/bytes', to=TensorProto.INT32)
    if size > 1:
        found = _digits(w, _joined(w, numbers, size, name), levels, name)
    else:
        # Looked up: to divide every byte is half of the time that ONNX Runtime takes to load.
        found = w.node(
            'Gather', [w.once(f'codes{levels}', _of_bytes(levels)), numbers], f'{name}/codes'
        )
    if codes.size % count:
        flat = w.node('Reshape', [found, w.indices(-1)], f'{name}/flat')
        found = w.node('Slice', [flat, w.indices(0), w.indices(codes.size)], f'{name}/whole')
    return w.node('Reshape', [found, w.indices(*codes.shape)], f'{name}/rows')


def _of_bytes(levels: int) -> Callable[[OnnxGraph, str], str]:
    """A function that adds the codes in every possible byte, [256, codes]."""

    def add(w: OnnxGraph, name: str) -> str:
        ends = [w.array(np.array(number, np.int32), f'int{number}') for number in (0, 256, 1)]
        numbers = w.node('Range', ends, f'{name}/numbers')
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
