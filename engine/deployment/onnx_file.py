"""Writes programs as ONNX: kernels as packed codes with their levels, or as floats.

The images of the file are uint8 [N, side, side, 3] in BGR order, and everything that evaluation
does with them is in the file. Several points share one list of operations: what differs between
them is a table with one row per point, and ``point``, int64 [1], chooses the row.

Codes are unpacked by division and remainder and looked up by a flat ``Gather``, operations on
constants that runtimes do once, when they load the file. Other ways of lookup are done for every
image by some of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from engine.deployment import onnx_choices, program
from engine.deployment.onnx_graph import OnnxGraph, Rule
from engine.deployment.program import Operation, Program
from engine.deployment.resizing import blocks, chosen_pixels
from engine.errors import UsageError

# Up to so many thresholds a quantizer is a chain of comparisons; beyond it is a binary search.
CHAIN = 7

_ARITHMETIC = {'add': 'Add', 'subtract': 'Sub', 'multiply': 'Mul', 'divide': 'Div'}


def save(
    whole: Program,
    path: Path,
    metadata: Mapping[str, str],
    *,
    packed: bool,
    by_height: bool = False,
) -> None:
    """Writes a program to a file, see ``serialized``.

    Args:
        whole: the program.
        path: file to make.
        metadata: texts by name that the file carries.
        packed: kernels as codes; else as floats.
        by_height: whether images are float32 of the point's own size, by which the point is chosen.

    Raises:
        UsageError: it cannot be written.
    """
    content = serialized(whole, metadata, packed=packed, by_height=by_height)
    try:
        path.write_bytes(content)
    except OSError as error:
        place = path.parent
        raise UsageError(f'--out: {place} cannot be written ({error.strerror})') from error


def serialized(
    whole: Program, metadata: Mapping[str, str], *, packed: bool, by_height: bool = False
) -> bytes:
    """A program as the bytes of a file.

    Args:
        whole: the program.
        metadata: as of ``save``.
        packed: as of ``save``.
        by_height: as of ``save``.
    """
    model = OnnxGraph(whole, packed=packed, by_height=by_height).model(_RULES)
    for name, text in sorted(metadata.items()):
        model.metadata_props.add(key=name, value=text)
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


def annotate(path: Path, metadata: Mapping[str, str]) -> None:
    """Adds texts to a file.

    Args:
        path: of the file.
        metadata: texts by name.
    """
    model = onnx.load_model_from_string(path.read_bytes())
    for name, text in sorted(metadata.items()):
        model.metadata_props.add(key=name, value=text)
    path.write_bytes(model.SerializeToString(deterministic=True))


def described(path: Path) -> dict[str, str]:
    """Texts that a file carries, by name.

    Raises:
        UsageError: it is no ONNX file.
    """
    try:
        model = onnx.load_model_from_string(path.read_bytes())
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf and the checker have a class for every fault
        first = (str(error).splitlines() or [''])[0]
        raise UsageError(f'--show {path}: is no ONNX file ({first})') from error
    return {entry.key: entry.value for entry in model.metadata_props}


def _cast(w: OnnxGraph, row: Sequence[Operation]) -> None:
    values = w.node('Cast', [w.x(row)], f'{w.place}/values', to=TensorProto.FLOAT)
    w.add('Transpose', row, [values], perm=[0, 3, 1, 2])


def _arithmetic(w: OnnxGraph, row: Sequence[program.Arithmetic]) -> None:
    kind = _ARITHMETIC[row[0].function]
    w.add(kind, row, [w.x(row), w.channels(row, 'y')])


def _affine(w: OnnxGraph, row: Sequence[program.Affine]) -> None:
    scaled = w.node('Mul', [w.x(row), w.channels(row, 'scale')], f'{w.place}/scaled')
    w.add('Add', row, [scaled, w.channels(row, 'shift')])


def _flip(w: OnnxGraph, row: Sequence[Operation]) -> None:
    w.add('Gather', row, [w.x(row), w.indices(2, 1, 0)], axis=1)


def _resize(w: OnnxGraph, row: Sequence[program.Resize]) -> None:
    """Rows of pixels, then columns: taken, where every one is one of the image, or averaged."""
    matrices = w.values(row, 'shares')
    chosen = [chosen_pixels(matrix) for matrix in matrices]
    taken = [one for one in chosen if one is not None]
    if len(taken) < len(chosen):
        _average(w, row, matrices)
        return
    pixels = w.cut(taken, f'{w.place}/pixels')
    lines = w.node('Gather', [w.x(row), pixels], f'{w.place}/lines', axis=2)
    w.add('Gather', row, [lines, pixels], axis=3)


def _average(w: OnnxGraph, row: Sequence[program.Resize], matrices: Sequence[np.ndarray]) -> None:
    """Products of the image with a matrix that is mostly zero: of the blocks that are not.

    Args:
        w: the file.
        row: the operation at every point.
        matrices: [side after, side before] by point, shares of pixels.
    """
    found = [blocks(matrix) for matrix in matrices]
    shares = w.cut([one.shares for one in found], f'{w.place}/shares')  # [G, rows, pixels]
    pixels = ''
    if not all(one.apart for one in found):
        pixels = w.cut([one.pixels.reshape(-1) for one in found], f'{w.place}/pixels')
    apart = [np.array([0, 0, *one.pixels.shape, -1], np.int64) for one in found]
    together = [np.array([0, 0, len(matrix), -1], np.int64) for matrix in matrices]
    shapes = w.vector(apart, f'{w.place}/apart'), w.vector(together, f'{w.place}/together')
    joined = []
    x = w.x(row)
    for axis in ('lines', 'columns'):
        name = f'{w.place}/{axis}'
        if pixels:
            # Of numbers in two axes OpenVINO 2026.4 compiles no network of whole numbers.
            x = w.node('Gather', [x, pixels], f'{name}/taken', axis=2)
        windows = w.node('Reshape', [x, shapes[0]], f'{name}/windows')
        means = w.node('MatMul', [shares, windows], f'{name}/means')
        joined.append(w.node('Reshape', [means, shapes[1]], f'{name}/joined'))
        if axis == 'lines':
            x = w.node('Transpose', joined, f'{name}/turned', perm=[0, 1, 3, 2])
    w.add('Transpose', row, joined[1:], perm=[0, 1, 3, 2])


def _convolution(w: OnnxGraph, row: Sequence[program.Convolution]) -> None:
    _convolve(w, row, w.kernel(row, _outputs_first))


def _integer_convolution(w: OnnxGraph, row: Sequence[program.IntegerConvolution]) -> None:
    _convolve(w, row, w.whole_kernel(row, _outputs_first))


def _outputs_first(kernel: np.ndarray) -> np.ndarray:
    """[k, k, in, out] as [out, in, k, k]."""
    return kernel.transpose(3, 2, 0, 1)


def _convolve(w: OnnxGraph, row: Sequence[program.Convolution], kernel: str) -> None:
    first = row[0]
    options = _padding(first.kernel.shape[:2], first)
    if first.stride > 1:
        options['strides'] = [first.stride, first.stride]
    if first.groups > 1:
        options['group'] = first.groups
    w.add('Conv', row, [w.x(row), kernel], **options)


def _padding(
    window: Sequence[int], operation: program.Convolution | program.Pool
) -> dict[str, Any]:
    """Attributes that say how a windowed node pads.

    Args:
        window: (height, width).
        operation: that pads.
    """
    pads = operation.pads
    if operation.same:
        # What is left of a size depends on it, unless windows begin at every pixel.
        if operation.stride not in (1, (1, 1)) and tuple(window) != (1, 1):
            return {'auto_pad': 'SAME_UPPER'}
        pads = program.same_pads(window, window, (1, 1))
    top, bottom, left, right = pads
    if not any(pads):
        return {}
    return {'pads': [top, left, bottom, right]}


def _dense(w: OnnxGraph, row: Sequence[program.Dense]) -> None:
    w.add('Gemm', row, [w.x(row), w.kernel(row, np.transpose)], transB=1)
    w.become_rows(row)


def _integer_dense(w: OnnxGraph, row: Sequence[program.IntegerDense]) -> None:
    w.add('Gemm', row, [w.x(row), w.whole_kernel(row, np.transpose)], transB=1)
    w.become_rows(row)


def _activation(w: OnnxGraph, row: Sequence[program.Activation]) -> None:
    function = row[0].function
    if function == 'relu6':
        limits = [w.number(0.0), w.number(6.0)]
        w.add('Clip', row, [w.x(row), *limits])
        return
    if function == 'log':
        some = w.node('Max', [w.x(row), w.number(program.TINY)], f'{w.place}/some')
        w.add('Log', row, [some])
        return
    w.add({'relu': 'Relu', 'sigmoid': 'Sigmoid'}[function], row, [w.x(row)])


def _quantize(w: OnnxGraph, row: Sequence[program.Quantize]) -> None:
    w.found(row, _levels(w, row))


def _encode(w: OnnxGraph, row: Sequence[program.Encode]) -> None:
    """Whole numbers, of which the pair of nodes behind changes none.

    Runtimes know integer arithmetic by such a pair.
    """
    kind = np.int8 if any(one.signed for one in row) else np.uint8
    inputs = [_levels(w, row), w.number(1.0), w.zero(kind)]
    quantized = w.node('QuantizeLinear', inputs, f'{w.place}/quantized')
    w.add('DequantizeLinear', row, [quantized, *inputs[1:]])


def _levels(w: OnnxGraph, row: Sequence[program.Quantize]) -> str:
    """Name of the levels of what is read."""
    (count,) = row[0].thresholds.shape
    if count <= CHAIN:
        return _chain(w, row)
    return _search(w, row)


def _chain(w: OnnxGraph, row: Sequence[program.Quantize]) -> str:
    """One comparison per threshold."""
    out, x = w.place, w.x(row)
    (count,) = row[0].thresholds.shape
    value = w.element(row, 'levels', 0)
    for k in range(count):
        above = w.node('Greater', [x, w.element(row, 'thresholds', k)], f'{out}/above{k}')
        level = w.element(row, 'levels', k + 1)
        value = w.node('Where', [above, level, value], f'{out}/value{k}')
    return value


def _search(w: OnnxGraph, row: Sequence[program.Quantize]) -> str:
    """One comparison per bit: is there more in the upper half of what is left?"""
    levels = w.vector(w.values(row, 'levels'), f'{w.place}/levels')
    thresholds = w.vector(w.values(row, 'thresholds'), f'{w.place}/thresholds')
    out, x = w.place, w.x(row)
    (count,) = row[0].thresholds.shape
    bits = int(count).bit_length()
    filling = w.array(np.full(2**bits - 1 - count, np.inf, np.float32), f'{out}/filling')
    padded = w.node('Concat', [thresholds, filling], f'{out}/padded', axis=0)
    code = ''
    for bit in reversed(range(bits)):
        half = 2**bit
        place = w.indices(half - 1)
        if code:
            place = w.node('Add', [code, place], f'{out}/place{bit}')
        threshold = w.node('Gather', [padded, place], f'{out}/threshold{bit}')
        above = w.node('Greater', [x, threshold], f'{out}/above{bit}')
        step = w.node('Where', [above, w.indices(half), w.indices(0)], f'{out}/step{bit}')
        code = w.node('Add', [code, step], f'{out}/code{bit}') if code else step
    return w.node('Gather', [levels, code], f'{out}/value')


def _combine(w: OnnxGraph, row: Sequence[program.Combine]) -> None:
    w.add(_ARITHMETIC[row[0].function], row, [w.x(row), w.named(row[0].y)])


def _concatenate(w: OnnxGraph, row: Sequence[program.Concatenate]) -> None:
    others = [w.named(name) for name in row[0].others]
    w.add('Concat', row, [w.x(row), *others], axis=1)


def _pool(w: OnnxGraph, row: Sequence[program.Pool]) -> None:
    first = row[0]
    kind = {'max': 'MaxPool', 'average': 'AveragePool'}[first.function]
    shape = {'kernel_shape': list(first.window), 'strides': list(first.stride)}
    w.add(kind, row, [w.x(row)], **shape, **_padding(first.window, first))


def _global_pool(w: OnnxGraph, row: Sequence[Operation]) -> None:
    w.add('GlobalAveragePool', row, [w.x(row)])


def _pad(w: OnnxGraph, row: Sequence[program.Pad]) -> None:
    top, bottom, left, right = row[0].pads
    pads = w.indices(0, 0, top, left, 0, row[0].channels, bottom, right)
    w.add('Pad', row, [w.x(row), pads])


def _crop(w: OnnxGraph, row: Sequence[program.Crop]) -> None:
    first = row[0]
    axes = w.indices(2, 3, 1)
    corners = [w.indices(*first.start), w.indices(*first.stop), axes, w.indices(*first.step)]
    w.add('Slice', row, [w.x(row), *corners])


def _to_rows(w: OnnxGraph, row: Sequence[Operation]) -> None:
    w.add('Squeeze', row, [w.x(row)], axes=[2, 3])
    w.become_rows(row)


def _to_images(w: OnnxGraph, row: Sequence[Operation]) -> None:
    w.add('Unsqueeze', row, [w.x(row)], axes=[2, 3])
    w.become_images(row)


_RULES: Mapping[type[Operation], Rule] = {
    **onnx_choices.RULES,
    program.Cast: _cast,
    program.Arithmetic: _arithmetic,
    program.Affine: _affine,
    program.Flip: _flip,
    program.Resize: _resize,
    program.Convolution: _convolution,
    program.Dense: _dense,
    program.Activation: _activation,
    program.Quantize: _quantize,
    program.Encode: _encode,
    program.IntegerConvolution: _integer_convolution,
    program.IntegerDense: _integer_dense,
    program.Combine: _combine,
    program.Concatenate: _concatenate,
    program.Pool: _pool,
    program.GlobalPool: _global_pool,
    program.Pad: _pad,
    program.Crop: _crop,
    program.ToRows: _to_rows,
    program.ToImages: _to_images,
}
