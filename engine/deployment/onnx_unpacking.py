"""Packed codes in an ONNX file, and the nodes that unpack them, which runtimes do once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from engine.deployment.packing import pack, packing

if TYPE_CHECKING:
    from engine.deployment.onnx_graph import OnnxGraph


def unpacked(w: OnnxGraph, codes: np.ndarray, levels: int, name: str) -> str:
    """Packed codes, and the nodes that unpack them: int32 [out, weights of an output].

    Args:
        w: the graph.
        codes: of that shape.
        levels: that a code can stand for.
        name: start of the names of what is made.
    """
    size, count = packing(levels)
    packed = w.array(pack(codes.reshape(-1), levels), f'{name}/packed')
    numbers = w.node('Cast', [packed], f'{name}/bytes', to=TensorProto.INT32)
    if size > 1:
        numbers = _joined(w, numbers, size, name)
    places = w.array(levels ** np.arange(count, dtype=np.int32), f'{name}/places')
    shifted = w.node('Div', [numbers, places], f'{name}/shifted')  # [groups, codes]
    divisor = w.array(np.array(levels, np.int32), f'{name}/base')
    found = w.node('Mod', [shifted, divisor], f'{name}/codes')
    flat = w.node('Reshape', [found, w.indices(-1)], f'{name}/flat')
    if codes.size % count:
        ends = [w.indices(0), w.indices(codes.size)]
        flat = w.node('Slice', [flat, *ends], f'{name}/whole')
    return w.node('Reshape', [flat, w.indices(len(codes), -1)], f'{name}/rows')


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
