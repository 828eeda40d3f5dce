"""A network as a short list of operations: the form from which everything that ships is written.

A program holds one list of operations for every operating point, and one pool of constants for all
of them: a weight that several points use is stored once, as codes and levels where a quantizer
made it. Images are float32 [N, H, W, C] and rows are [N, C], whatever layout a writer prefers.

Batch normalisation is folded into ``Affine``; a quantizer of activations is ``Quantize``, a step
function. What depends on the operating point alone (affine parameters, private levels, generated
kernels) is a constant of that point.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.deployment.packing import packing

if TYPE_CHECKING:
    from engine.deployment.choices import Chosen

# The smallest normal number of float32.
TINY = 2.0**-126


@dataclasses.dataclass(frozen=True)
class Floats:
    """A constant that is stored as it is.

    Attributes:
        array: float32.
    """

    array: np.ndarray

    @property
    def values(self) -> np.ndarray:
        """The constant, float32."""
        return self.array

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the constant."""
        return self.array.shape

    @property
    def stored_bits(self) -> int:
        """Bits that the constant takes in a file."""
        return 32 * self.array.size


@dataclasses.dataclass(frozen=True)
class Codes:
    """A kernel that is stored as one small number per weight.

    Attributes:
        codes: uint8 of the kernel's shape, channels of the levels last.
        levels: [L, C] float32 ascending, L at least 2; a channel with fewer levels repeats its
            largest, and its smallest where levels are pairs of both signs.
    """

    codes: np.ndarray
    levels: np.ndarray

    @property
    def values(self) -> np.ndarray:
        """The kernel, float32."""
        channels = np.arange(self.levels.shape[1])
        return self.levels[self.codes, channels]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the kernel."""
        return self.codes.shape

    @property
    def stored_bits(self) -> int:
        """Bits that codes and levels take in a file."""
        size, count = packing(len(self.levels))
        return 8 * size * math.ceil(self.codes.size / count) + 32 * self.levels.size


Constant = Floats | Codes


@dataclasses.dataclass(frozen=True)
class Part:
    """The start of a constant of the pool along every axis, or all of it.

    Attributes:
        name: in the pool.
        shape: extents that are used.
    """

    name: str
    shape: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Operation:
    """Base of all operations.

    Attributes:
        out: name of the result.
        x: name of what is read.
    """

    out: str
    x: str


@dataclasses.dataclass(frozen=True)
class Cast(Operation):
    """uint8 images as float32."""


@dataclasses.dataclass(frozen=True)
class Arithmetic(Operation):
    """``x`` with a constant for each channel, one rounding.

    Attributes:
        function: ``add``, ``subtract``, ``multiply`` or ``divide``.
        y: [C], or [1] for one number.
    """

    function: str
    y: Part


@dataclasses.dataclass(frozen=True)
class Affine(Operation):
    """``x * scale + shift``, each [C], two roundings."""

    scale: Part
    shift: Part


@dataclasses.dataclass(frozen=True)
class Flip(Operation):
    """Channels of images in reverse order: BGR as RGB."""


@dataclasses.dataclass(frozen=True)
class Resize(Operation):
    """Square images of another size: ``shares @ x @ transposed shares``, for every channel.

    Attributes:
        shares: [new side, side], the part that each source pixel has in a pixel of the result.
    """

    shares: Part


@dataclasses.dataclass(frozen=True)
class Convolution(Operation):
    """Convolution without bias.

    Attributes:
        kernel: [k, k, in / groups, out].
        stride: of the window.
        pads: zeros at the top, the bottom, the left and the right.
        same: whether these follow from the size of the images by TensorFlow's rule: as many
            windows as the stride fits in, the larger pad at the end.
        groups: of channels; of a depthwise convolution, as many as there are channels.
    """

    kernel: Part
    stride: int
    pads: tuple[int, int, int, int]
    same: bool
    groups: int


@dataclasses.dataclass(frozen=True)
class Dense(Operation):
    """Rows times ``kernel`` [in, out]."""

    kernel: Part


@dataclasses.dataclass(frozen=True)
class Activation(Operation):
    """A function of each value: ``relu``, ``relu6``, ``sigmoid``, ``log`` of at least ``TINY``."""

    function: str


@dataclasses.dataclass(frozen=True)
class Quantize(Operation):
    """A step function of each value: ``levels[number of thresholds below x]``.

    Attributes:
        thresholds: [L - 1] ascending.
        levels: [L].
    """

    thresholds: Part
    levels: Part


@dataclasses.dataclass(frozen=True)
class Encode(Quantize):
    """A quantizer whose levels are whole numbers of 8 bits, for integer arithmetic.

    Attributes:
        signed: whether some are negative.
    """

    signed: bool


@dataclasses.dataclass(frozen=True)
class IntegerConvolution(Convolution):
    """Convolution of whole numbers of 8 bits with a kernel of such, sums of 32 bits."""


@dataclasses.dataclass(frozen=True)
class IntegerDense(Dense):
    """Rows of whole numbers of 8 bits times a kernel of such, sums of 32 bits."""


@dataclasses.dataclass(frozen=True)
class Combine(Operation):
    """Sum or product of two tensors.

    Attributes:
        y: name of the other one; [N, 1, 1, C] stands for all positions.
        function: ``add`` or ``multiply``.
    """

    y: str
    function: str


@dataclasses.dataclass(frozen=True)
class Concatenate(Operation):
    """Channels of several images in one.

    Attributes:
        others: names of what follows ``x``.
    """

    others: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Pool(Operation):
    """Maximum or average over windows, which do not count what lies outside of the image.

    Attributes:
        function: ``max`` or ``average``.
        window: side of the window, (height, width).
        stride: (down, to the right).
        pads: at the top, the bottom, the left and the right.
        same: as of ``Convolution``.
    """

    function: str
    window: tuple[int, int]
    stride: tuple[int, int]
    pads: tuple[int, int, int, int]
    same: bool


@dataclasses.dataclass(frozen=True)
class GlobalPool(Operation):
    """Average over all positions: images of one pixel."""


@dataclasses.dataclass(frozen=True)
class Pad(Operation):
    """Zeros around images and behind their channels.

    Attributes:
        pads: at the top, the bottom, the left and the right.
        channels: that are appended.
    """

    pads: tuple[int, int, int, int]
    channels: int


@dataclasses.dataclass(frozen=True)
class Crop(Operation):
    """A part of images.

    Attributes:
        start: first row, column and channel.
        stop: the ones behind the last.
        step: between rows, columns and channels.
    """

    start: tuple[int, int, int]
    stop: tuple[int, int, int]
    step: tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class ToRows(Operation):
    """Images of one pixel as rows [N, C]."""


@dataclasses.dataclass(frozen=True)
class ToImages(Operation):
    """Rows as images [N, 1, 1, C]."""


@dataclasses.dataclass(frozen=True)
class PointProgram:
    """The operations that compute one operating point.

    Attributes:
        input: name of the images, uint8 [N, side, side, C] in BGR order or grey.
        side: of the images, in pixels.
        operations: in the order of execution.
        output: name of the logits [N, classes].
        choices: numbers that say what was executed, of a program that chooses image by image.
        channels: of the images: three, or one of grey ones.
        views: further images, of stages that do not read those: name and side of each.
    """

    input: str
    side: int
    operations: tuple[Operation, ...]
    output: str
    choices: tuple[Chosen, ...] = ()
    channels: int = 3
    views: tuple[tuple[str, int], ...] = ()


@dataclasses.dataclass(frozen=True)
class Program:
    """A network, all of its operating points that are to be shipped.

    Attributes:
        points: by spelling.
        constants: the pool that they share.
    """

    points: Mapping[str, PointProgram]
    constants: Mapping[str, Constant]

    def value(self, part: Part) -> np.ndarray:
        """A constant as it is used, float32."""
        corner = tuple(slice(extent) for extent in part.shape)
        return self.constants[part.name].values[corner]


def same_pads(
    sides: Sequence[int], window: Sequence[int], stride: Sequence[int]
) -> tuple[int, int, int, int]:
    """Zeros at the top, the bottom, the left and the right by TensorFlow's rule ``SAME``.

    Args:
        sides: of the images, (height, width).
        window: (height, width).
        stride: (down, to the right).

    >>> same_pads((16, 17), (3, 3), (2, 2))
    (0, 1, 1, 1)
    """
    pads = []
    for side, extent, step in zip(sides, window, stride):
        steps = math.ceil(side / step) - 1
        missing = max(0, steps * step + extent - side)
        pads += [missing // 2, missing - missing // 2]
    top, bottom, left, right = pads
    return top, bottom, left, right


def parts(operation: Operation) -> dict[str, Part]:
    """Constants of an operation by field."""
    found = {}
    for field in dataclasses.fields(operation):
        value: Any = getattr(operation, field.name)
        if isinstance(value, Part):
            found[field.name] = value
    return found


def with_points(points: Mapping[str, PointProgram], constants: Mapping[str, Constant]) -> Program:
    """A program of these points, and of those constants alone that they read."""
    used: set[str] = set()
    for point in points.values():
        for operation in point.operations:
            used.update(part.name for part in parts(operation).values())
    return Program(points, {name: value for name, value in constants.items() if name in used})
