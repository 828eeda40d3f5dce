"""Runs a program in numpy: slow, plain, and the measure of everything that is written from it.

Sums are taken in float64; every operation rounds its result to float32 once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from engine.deployment import program
from engine.deployment.choices import Choose, Confident, Largest, Number, Probabilities
from engine.deployment.program import Operation, Program
from engine.results import chains

_ARITHMETIC: Mapping[str, Callable[[Any, Any], np.ndarray]] = {
    'add': np.add,
    'subtract': np.subtract,
    'multiply': np.multiply,
    'divide': np.divide,
}


def run(whole: Program, point: str, images: np.ndarray) -> np.ndarray:
    """Logits [N, classes] float32 of one operating point.

    Args:
        whole: the program.
        point: spelling of the operating point.
        images: uint8 [N, side, side, 3], BGR.
    """
    logits, _ = answers(whole, point, images)
    return logits


def answers(
    whole: Program, point: str, images: np.ndarray, *views: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Logits [N, classes] float32, and int64 [N, choices] what is executed by choice.

    All branches are computed for all images, and each image gets its own.

    Args:
        whole: the program.
        point: spelling of the operating point.
        images: uint8 [N, side, side, 3], BGR.
        *views: further ones, as of ``PointProgram``.
    """
    one = whole.points[point]
    values = {one.input: images}
    for (name, _), view in zip(one.views, views, strict=True):
        values[name] = view
    for operation in one.operations:
        if isinstance(operation, Choose):
            values.update(_chosen(operation, values))
            continue
        constants = {}
        for field, part in program.parts(operation).items():
            constants[field] = whole.value(part)
        result = _RULES[type(operation)](operation, values, constants)
        values[operation.out] = np.asarray(result, np.float32)
    executed = np.empty((len(images), len(one.choices)), np.int64)
    for column, choice in enumerate(one.choices):
        executed[:, column] = values[choice.result]
    return values[one.output], executed


Values = Mapping[str, np.ndarray]


def _chosen(operation: Choose, values: Values) -> dict[str, np.ndarray]:
    """Results of a choice by name."""
    numbers = values[operation.x].astype(np.int64)  # [N]
    found = {}
    names = (operation.out, *operation.beside)
    for name, branches in zip(names, zip(*operation.branches)):
        every = np.stack([values[branch] for branch in branches])  # [branches, N, ...]
        found[name] = every[numbers, np.arange(len(numbers))]
    return found


def _cast(operation: program.Cast, values: Values, _: Values) -> np.ndarray:
    return values[operation.x].astype(np.float32)


def _arithmetic(operation: program.Arithmetic, values: Values, constants: Values) -> np.ndarray:
    return _ARITHMETIC[operation.function](values[operation.x], constants['y'])


def _affine(operation: program.Affine, values: Values, constants: Values) -> np.ndarray:
    return values[operation.x] * constants['scale'] + constants['shift']


def _flip(operation: program.Flip, values: Values, _: Values) -> np.ndarray:
    return values[operation.x][..., ::-1]


def _resize(operation: program.Resize, values: Values, constants: Values) -> np.ndarray:
    x = values[operation.x].astype(np.float64)  # [N, H, W, C]
    rows = np.einsum('mh,nhwc->nmwc', constants['shares'], x)
    return np.einsum('vw,nmwc->nmvc', constants['shares'], rows)


def _windows(
    x: np.ndarray, window: tuple[int, int], stride: tuple[int, int]
) -> Callable[[int, int], np.ndarray]:
    """A function (row, column) -> [N, height, width, C]: that pixel of every window.

    Args:
        x: [N, H, W, C], padded.
        window: (height, width).
        stride: (down, to the right).
    """
    down, right = stride
    height = (x.shape[1] - window[0]) // down + 1
    width = (x.shape[2] - window[1]) // right + 1

    def pixel(row: int, column: int) -> np.ndarray:
        rows = slice(row, row + (height - 1) * down + 1, down)
        columns = slice(column, column + (width - 1) * right + 1, right)
        return x[:, rows, columns]

    return pixel


def _padded(x: np.ndarray, pads: tuple[int, int, int, int], value: float = 0.0) -> np.ndarray:
    top, bottom, left, right = pads
    around = [(0, 0), (top, bottom), (left, right), (0, 0)]
    return np.pad(x, around, constant_values=value)


def _convolution(operation: program.Convolution, values: Values, constants: Values) -> np.ndarray:
    kernel = constants['kernel'].astype(np.float64)  # [k, k, in / groups, out]
    x = _padded(values[operation.x].astype(np.float64), operation.pads)
    groups = operation.groups
    pixel = _windows(x, kernel.shape[:2], (operation.stride, operation.stride))
    total: Any = 0.0
    for row in range(kernel.shape[0]):
        for column in range(kernel.shape[1]):
            part = pixel(row, column)  # [N, H, W, in]
            split = part.reshape(*part.shape[:3], groups, -1)
            weights = kernel[row, column].reshape(split.shape[-1], groups, -1)
            total = total + np.einsum('nhwgi,igo->nhwgo', split, weights, optimize=True)
    return total.reshape(*total.shape[:3], -1)


def _integer_convolution(
    operation: program.IntegerConvolution, values: Values, constants: Values
) -> np.ndarray:
    whole = {operation.x: _whole(values[operation.x])}
    return _convolution(operation, whole, {'kernel': _whole(constants['kernel'])})


def _whole(values: np.ndarray) -> np.ndarray:
    """Values that must be whole numbers, whose sums float64 holds exactly.

    Raises:
        ValueError: they are none.
    """
    if not np.array_equal(np.rint(values), values):
        raise ValueError('a program in whole numbers has come to another one')
    return values


def _integer_dense(
    operation: program.IntegerDense, values: Values, constants: Values
) -> np.ndarray:
    whole = {operation.x: _whole(values[operation.x])}
    return _dense(operation, whole, {'kernel': _whole(constants['kernel'])})


def _dense(operation: program.Dense, values: Values, constants: Values) -> np.ndarray:
    return values[operation.x].astype(np.float64) @ constants['kernel']


def _activation(operation: program.Activation, values: Values, _: Values) -> np.ndarray:
    x = values[operation.x]
    if operation.function == 'relu':
        return np.maximum(x, 0)
    if operation.function == 'relu6':
        return np.clip(x, 0, 6)
    if operation.function == 'log':
        return np.log(np.maximum(x.astype(np.float64), program.TINY))
    # Nothing overflows on either side.
    return np.exp(-np.logaddexp(0, -x.astype(np.float64)))


def _quantize(operation: program.Quantize, values: Values, constants: Values) -> np.ndarray:
    codes = np.searchsorted(constants['thresholds'], values[operation.x])
    return constants['levels'][codes]


def _combine(operation: program.Combine, values: Values, _: Values) -> np.ndarray:
    return _ARITHMETIC[operation.function](values[operation.x], values[operation.y])


def _concatenate(operation: program.Concatenate, values: Values, _: Values) -> np.ndarray:
    names = [operation.x, *operation.others]
    return np.concatenate([values[name] for name in names], axis=3)


def _pool(operation: program.Pool, values: Values, _: Values) -> np.ndarray:
    x = values[operation.x].astype(np.float64)
    outside = {'max': -np.inf, 'average': 0.0}[operation.function]
    pixel = _windows(_padded(x, operation.pads, outside), operation.window, operation.stride)
    found = [pixel(row, column) for row, column in np.ndindex(*operation.window)]
    if operation.function == 'max':
        return np.max(found, axis=0)
    ones = _padded(np.ones_like(x[:1, ..., :1]), operation.pads)
    inside = _windows(ones, operation.window, operation.stride)
    counts = [inside(row, column) for row, column in np.ndindex(*operation.window)]
    return np.sum(found, axis=0) / np.sum(counts, axis=0)


def _global_pool(operation: program.GlobalPool, values: Values, _: Values) -> np.ndarray:
    return values[operation.x].mean(axis=(1, 2), keepdims=True, dtype=np.float64)


def _pad(operation: program.Pad, values: Values, _: Values) -> np.ndarray:
    top, bottom, left, right = operation.pads
    return np.pad(
        values[operation.x], [(0, 0), (top, bottom), (left, right), (0, operation.channels)]
    )


def _crop(operation: program.Crop, values: Values, _: Values) -> np.ndarray:
    corners = zip(operation.start, operation.stop, operation.step)
    return values[operation.x][(slice(None), *(slice(*corner) for corner in corners))]


def _to_rows(operation: program.ToRows, values: Values, _: Values) -> np.ndarray:
    return values[operation.x][:, 0, 0]


def _to_images(operation: program.ToImages, values: Values, _: Values) -> np.ndarray:
    return values[operation.x][:, None, None]


def _number(operation: Number, values: Values, _: Values) -> np.ndarray:
    return np.full(len(values[operation.x]), operation.value)


def _largest(operation: Largest, values: Values, _: Values) -> np.ndarray:
    return values[operation.x].argmax(axis=1)


def _probabilities(operation: Probabilities, values: Values, _: Values) -> np.ndarray:
    return np.exp(chains.log_probabilities(values[operation.x]))


def _confident(operation: Confident, values: Values, constants: Values) -> np.ndarray:
    confidence = chains.log_probabilities(values[operation.x]).max(axis=1)  # [N]
    return confidence.astype(np.float32) >= constants['threshold']


_RULES: Mapping[type[Operation], Callable[[Any, Values, Values], np.ndarray]] = {
    program.Cast: _cast,
    program.Arithmetic: _arithmetic,
    program.Affine: _affine,
    program.Flip: _flip,
    program.Resize: _resize,
    program.Convolution: _convolution,
    program.Dense: _dense,
    program.Activation: _activation,
    program.Quantize: _quantize,
    program.Encode: _quantize,
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
    Number: _number,
    Largest: _largest,
    Probabilities: _probabilities,
    Confident: _confident,
}
