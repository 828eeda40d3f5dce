"""Shape of the result of every kind of operation, by that of its input, see ``shapes``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from engine.deployment import program
from engine.deployment.choices import Confident, Largest, Probabilities
from engine.deployment.program import Operation, Part

if TYPE_CHECKING:
    from engine.deployment.shapes import Shapes

# Weights of an output up to which sums of products of 8 bits fit into 32.
MOST_SUMMED = (2**31 - 1) // (255 * 128)


class Tensor(NamedTuple):
    """A result, for one image.

    Attributes:
        shape: [H, W, C] of images, [C] of rows, none of one number.
        whole: whether it has whole numbers of 8 bits.
        raw: whether it is images of bytes, which ``Cast`` alone reads.
    """

    shape: tuple[int, ...]
    whole: bool = False
    raw: bool = False


def _images(x: Tensor) -> tuple[int, int, int]:
    """Height, width and channels.

    Raises:
        ValueError: these are no images.
    """
    if len(x.shape) != 3:
        raise ValueError(f'reads {list(x.shape)}, no images')
    height, width, channels = x.shape
    return height, width, channels


def _rows(x: Tensor) -> int:
    """Channels of rows.

    Raises:
        ValueError: these are none.
    """
    if len(x.shape) != 1:
        raise ValueError(f'reads {list(x.shape)}, no rows')
    return x.shape[0]


def _check(part: Part, *shapes: tuple[int, ...]) -> None:
    """Refuses a constant of another shape than one of these.

    Raises:
        ValueError: it has another one.
    """
    if part.shape not in shapes:
        wanted = ' or '.join(str(list(shape)) for shape in shapes)
        raise ValueError(f'has a constant {list(part.shape)}, not {wanted}')


def _per_channel(part: Part, x: Tensor) -> None:
    if not x.shape:
        raise ValueError('reads numbers, no images or rows')
    _check(part, (x.shape[-1],), (1,))


def _windows(operation: Any, x: Tensor, window: Sequence[int], stride: Sequence[int]) -> list[int]:
    """Height and width of what windows give.

    Args:
        operation: with pads.
        x: that it reads.
        window: (height, width).
        stride: (down, to the right).

    Raises:
        ValueError: they do not fit into the images.
    """
    sides = _images(x)[:2]
    if min(*window, *stride) < 1:
        raise ValueError(f'has windows {list(window)} in steps {list(stride)}')
    expected = program.same_pads(sides, window, stride)
    if operation.same and operation.pads != expected:
        raise ValueError(f'pads {list(operation.pads)}, not {list(expected)}')
    top, bottom, left, right = operation.pads
    heights = (sides[0] + top + bottom, sides[1] + left + right)
    found = []
    for side, extent, step in zip(heights, window, stride):
        if side < extent:
            raise ValueError(f'has windows {list(window)} on {list(heights)}')
        found.append((side - extent) // step + 1)
    return found


def _alike(_: Shapes, __: Operation, x: Tensor) -> Tensor:
    return Tensor(x.shape)


def _arithmetic(_: Shapes, operation: program.Arithmetic, x: Tensor) -> Tensor:
    _per_channel(operation.y, x)
    return Tensor(x.shape)


def _affine(_: Shapes, operation: program.Affine, x: Tensor) -> Tensor:
    _per_channel(operation.scale, x)
    _per_channel(operation.shift, x)
    return Tensor(x.shape)


def _flip(_: Shapes, __: Operation, x: Tensor) -> Tensor:
    _images(x)
    return x


def _resize(_: Shapes, operation: program.Resize, x: Tensor) -> Tensor:
    height, width, channels = _images(x)
    side = operation.shares.shape[0]
    _check(operation.shares, (side, height))
    _check(operation.shares, (side, width))
    return Tensor((side, side, channels))


def _convolution(_: Shapes, operation: program.Convolution, x: Tensor) -> Tensor:
    channels = _images(x)[2]
    shape, groups = operation.kernel.shape, operation.groups
    if len(shape) != 4:
        raise ValueError(f'has a kernel {list(shape)}')
    if groups < 1 or channels != groups * shape[2] or shape[3] % groups:
        raise ValueError(f'has a kernel {list(shape)} in {groups} groups on {channels} channels')
    strides = (operation.stride, operation.stride)
    height, width = _windows(operation, x, shape[:2], strides)
    return Tensor((height, width, shape[3]))


def _dense(_: Shapes, operation: program.Dense, x: Tensor) -> Tensor:
    rows = _rows(x)
    _check(operation.kernel, (rows, operation.kernel.shape[-1]))
    return Tensor(operation.kernel.shape[1:])


def _of_integers(rule: Any) -> Any:
    """The rule of a layer of whole numbers, from that of the layer in float."""

    def checked(shapes: Shapes, operation: Any, x: Tensor) -> Tensor:
        """The result, of inputs and kernels that are whole numbers of 8 bits.

        Args:
            shapes: of the point.
            operation: a layer of whole numbers.
            x: its input.

        Raises:
            ValueError: they are not, or their sums do not fit into 32 bits.
        """
        if not x.whole:
            raise ValueError('reads what are no whole numbers of 8 bits')
        if not shapes.is_whole(operation.kernel, -128, 127):
            raise ValueError('has a kernel of what are no whole numbers of 8 bits')
        summed = math.prod(operation.kernel.shape[:-1])
        if summed > MOST_SUMMED:
            raise ValueError(f'sums {summed} products, more than fit into 32 bits')
        return rule(shapes, operation, x)

    return checked


def _quantize(shapes: Shapes, operation: program.Quantize, x: Tensor) -> Tensor:
    _check(operation.levels, (operation.levels.shape[0],))
    _check(operation.thresholds, (operation.levels.shape[0] - 1,))
    if not shapes.increases(operation.thresholds):
        raise ValueError('has thresholds that do not ascend')
    if not x.shape:
        raise ValueError('reads numbers, no images or rows')
    return Tensor(x.shape)


def _encode(shapes: Shapes, operation: program.Encode, x: Tensor) -> Tensor:
    found = _quantize(shapes, operation, x)
    low, high = (-128, 127) if operation.signed else (0, 255)
    if not shapes.is_whole(operation.levels, low, high):
        raise ValueError(f'has levels that are no whole numbers from {low} to {high}')
    return found._replace(whole=True)


def _combine(shapes: Shapes, operation: program.Combine, x: Tensor) -> Tensor:
    y = shapes.tensors[operation.y]
    alike = [x.shape]
    if len(x.shape) == 3:
        alike.append((1, 1, x.shape[2]))
    if not x.shape or y.raw or y.shape not in alike:
        raise ValueError(f'reads {list(x.shape)} and {list(y.shape)}')
    return Tensor(x.shape)


def _concatenate(shapes: Shapes, operation: program.Concatenate, x: Tensor) -> Tensor:
    height, width, total = _images(x)
    whole = x.whole
    for name in operation.others:
        other = shapes.tensors[name]
        if other.raw or _images(other)[:2] != (height, width):
            raise ValueError(f'reads {list(x.shape)} and {list(other.shape)}')
        total += other.shape[2]
        whole &= other.whole
    return Tensor((height, width, total), whole)


def _pool(_: Shapes, operation: program.Pool, x: Tensor) -> Tensor:
    height, width = _windows(operation, x, operation.window, operation.stride)
    pads = np.array(operation.pads).reshape(2, 2)
    if (pads >= np.array(operation.window)[:, None]).any():
        raise ValueError('has windows that lie outside of the image')
    # Padding is outside of the windows of maxima, so that they stay levels.
    return Tensor((height, width, x.shape[2]), x.whole and operation.function == 'max')


def _global_pool(_: Shapes, __: Operation, x: Tensor) -> Tensor:
    return Tensor((1, 1, _images(x)[2]))


def _pad(_: Shapes, operation: program.Pad, x: Tensor) -> Tensor:
    height, width, channels = _images(x)
    top, bottom, left, right = operation.pads
    shape = (height + top + bottom, width + left + right, channels + operation.channels)
    if min(*operation.pads, operation.channels) < 0:
        raise ValueError('has less than no padding')
    return Tensor(shape, x.whole)


def _crop(_: Shapes, operation: program.Crop, x: Tensor) -> Tensor:
    _images(x)
    found = []
    for extent, start, stop, step in zip(x.shape, operation.start, operation.stop, operation.step):
        if not 0 <= start < stop <= extent or step < 1:
            raise ValueError(f'takes {start} to {stop} in steps of {step} of {extent}')
        found.append(len(range(start, stop, step)))
    return Tensor(tuple(found), x.whole)


def _to_rows(_: Shapes, __: Operation, x: Tensor) -> Tensor:
    height, width, channels = _images(x)
    if (height, width) != (1, 1):
        raise ValueError(f'reads {list(x.shape)}, images of more than one pixel')
    return Tensor((channels,), x.whole)


def _to_images(_: Shapes, __: Operation, x: Tensor) -> Tensor:
    return Tensor((1, 1, _rows(x)), x.whole)


def _largest(_: Shapes, __: Operation, x: Tensor) -> Tensor:
    _rows(x)
    return Tensor(())


def _probabilities(_: Shapes, __: Operation, x: Tensor) -> Tensor:
    return Tensor((_rows(x),))


def _confident(_: Shapes, operation: Confident, x: Tensor) -> Tensor:
    _rows(x)
    _check(operation.threshold, (1,))
    return Tensor(())


# The shape that every kind of operation gives; it raises ``ValueError`` where it does not fit.
RULES: Mapping[type[Operation], Callable[[Shapes, Any, Tensor], Tensor]] = {
    program.Cast: _alike,
    program.Arithmetic: _arithmetic,
    program.Affine: _affine,
    program.Flip: _flip,
    program.Resize: _resize,
    program.Convolution: _convolution,
    program.Dense: _dense,
    program.Activation: _alike,
    program.Quantize: _quantize,
    program.Encode: _encode,
    program.IntegerConvolution: _of_integers(_convolution),
    program.IntegerDense: _of_integers(_dense),
    program.Combine: _combine,
    program.Concatenate: _concatenate,
    program.Pool: _pool,
    program.GlobalPool: _global_pool,
    program.Pad: _pad,
    program.Crop: _crop,
    program.ToRows: _to_rows,
    program.ToImages: _to_images,
    Largest: _largest,
    Probabilities: _probabilities,
    Confident: _confident,
}
