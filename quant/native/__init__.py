"""Quantizers as operations of one pass each, written in C++; plain TensorFlow is their definition.

They compute on the CPU: values at their levels, where a gradient passes as a bit per value, counts
and sums per level, and the gradients of uniform quantizers; with AVX-512, AVX2 or without, whatever
``SWITCHABLE_ISA`` (``avx512``, ``avx2``, ``generic``) leaves of what the processor has. The numbers
are those of the plain operations; only sums are rounded differently, the same with any number of
threads. ``python -m quant.native.build`` makes the library.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import hashlib
import importlib.metadata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from quant.backend import tf

CHOICES = ('auto', 'off', 'require')

FOLDER = Path(__file__).parent
SOURCES = (
    'kernels.h',
    'vectors.h',
    'rows.h',
    'grid.h',
    'search.h',
    'uniform.h',
    'learned.h',
    'parts.h',
    'kernels.cc',
    'ops.cc',
    'uniform_ops.cc',
    'learned_ops.cc',
    'bases.cc',
)

_USED = contextvars.ContextVar('native', default=False)


def library() -> Path:
    """Where the library for this TensorFlow and these sources lies, or would."""
    digest = hashlib.sha256()
    for name in SOURCES:
        digest.update((FOLDER / name).read_bytes())
    version = importlib.metadata.version('tensorflow')
    return FOLDER / f'quantizers-{version}-{digest.hexdigest()[:12]}.so'


def is_built() -> bool:
    """Whether there is a library. TensorFlow is not loaded."""
    return library().exists()


@contextlib.contextmanager
def using(native: bool) -> Iterator[None]:
    """A block in which quantizers are built of these operations, or of plain ones."""
    token = _USED.set(native)
    try:
        yield
    finally:
        _USED.reset(token)


def used() -> bool:
    """Whether quantizers are to be built of these operations."""
    return _USED.get()


def as_now(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, to be called later, with what ``used`` says now: for gradients."""
    now = used()

    def called(*args: Any) -> Any:
        with using(now):
            return function(*args)

    return called


@functools.cache
def _operations() -> Any:
    """The loaded library; gradients are made known to TensorFlow."""
    loaded = tf.load_op_library(str(library()))
    tf.RegisterGradient('SwitchableEncode')(_encode_gradient)
    return loaded


class Encoded(NamedTuple):
    """Values at their levels.

    Attributes:
        y: of the type of the values.
        table: [2 L, C] float64 as ``quant.lq.levels.quantize`` has it; [0, C] where none was asked
            for.
    """

    y: tf.Tensor
    table: tf.Tensor


def encode(
    x: tf.Tensor,
    levels: tf.Tensor,
    thresholds: tf.Tensor,
    *,
    relu: bool = False,
    keeps_nan: bool = False,
    collect: bool = False,
    inside: str = 'none',
) -> Encoded:
    """The level of each value, and statistics.

    A gradient goes to ``x`` alone, where it lies inside, of which a bit per value is kept.

    Args:
        x: float32 or bfloat16, channels last, or of any shape when C = 1.
        levels: [L, C] ascending.
        thresholds: [L - 1, C] ascending.
        relu: whether values below zero count as zero in sums.
        keeps_nan: whether what is not a number stays; else it takes the lowest level.
        collect: whether statistics are wanted.
        inside: ``below``: up to the largest level; ``positive``: of these those above zero;
            ``symmetric``: of these those from minus the largest level; ``none``: nowhere.
    """
    y, _, table = _operations().switchable_encode(
        x=x,
        thresholds=thresholds,
        levels=levels,
        relu=relu,
        keeps_nan=keeps_nan,
        collect=collect,
        inside=inside,
    )
    return Encoded(y, table)


def _encode_gradient(op: tf.Operation, upstream: tf.Tensor, *_: Any) -> list[tf.Tensor | None]:
    if op.get_attr('inside') == b'none':
        return [None, None, None]
    toward_x = _operations().switchable_masked(upstream=upstream, mask=op.outputs[1])
    return [toward_x, None, None]


def clip_gradient(
    upstream: tf.Tensor,
    x: tf.Tensor,
    y: tf.Tensor,
    clip: tf.Tensor,
    *,
    low: float,
    steps: float,
    everywhere: bool,
) -> list[tf.Tensor]:
    """Gradients of values and of the clip, as ``quant.apot`` has them.

    Args:
        upstream: float32, of ``y``.
        x: values.
        y: the same at their levels.
        clip: [1], positive.
        low: where ``x / clip`` begins to lie within.
        steps: of the gradient scaling of EWGS.
        everywhere: whether x gets a gradient beyond the clip, too.
    """
    found = _operations().switchable_clip_gradient(
        upstream=upstream, x=x, y=y, clip=clip, low=low, steps=steps, everywhere=everywhere
    )
    return list(found)


class Interval:
    """Values of an interval at equally many levels, and gradients, as ``quant.ewgs`` has them.

    Args:
        steps: levels are 0, 1 / steps ... 1.
        delta: of the gradient scaling, for errors in steps.
        centred: whether levels go as far from -1 to 1 instead.
        relu: whether values are rectified first.
    """

    def __init__(self, steps: int, delta: float, *, centred: bool, relu: bool):
        self._delta = delta
        self._levels = {'steps': steps, 'centred': centred, 'relu': relu}

    def levels(self, x: tf.Tensor, lower: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
        """Values at their levels.

        Args:
            x: float32.
            lower: [1] end of the interval.
            width: [1] of it, positive.
        """
        return _operations().switchable_interval(x=x, lower=lower, width=width, **self._levels)

    def gradients(
        self, upstream: tf.Tensor, x: tf.Tensor, lower: tf.Tensor, width: tf.Tensor
    ) -> list[tf.Tensor]:
        """Of x, lower end and width.

        Args:
            upstream: gradient, like ``x``.
            x: as of ``levels``.
            lower: as of ``levels``.
            width: as of ``levels``.
        """
        found = _operations().switchable_interval_gradient(
            upstream=upstream, x=x, lower=lower, width=width, delta=self._delta, **self._levels
        )
        return list(found)


class LineGradient(NamedTuple):
    """Gradients of a line with a slope in each of L cells, as ``quant.n2uq`` has it.

    Attributes:
        toward_x: like the values.
        dots: [2] float64, sums of what comes through times x, and of upstream times y.
        by_cell: [2, L] float64, sums of what comes through, and of that times what x climbs.
    """

    toward_x: tf.Tensor
    dots: tf.Tensor
    by_cell: tf.Tensor


def line_gradient(
    upstream: tf.Tensor,
    x: tf.Tensor,
    y: tf.Tensor,
    *,
    ends: tf.Tensor,
    slopes: tf.Tensor,
    lowers: tf.Tensor,
    scales: tf.Tensor,
) -> LineGradient:
    """Computes the gradients of a line with a slope in each cell in one pass.

    What comes through, in ``LineGradient``, is upstream times slope times the second scale.

    Args:
        upstream: float32, of ``y``.
        x: values.
        y: the same at their levels.
        ends: [L - 1] ascending, between the cells of values as they come.
        slopes: [L] of the cells.
        lowers: [L] where scaled values begin to climb.
        scales: [2] factors of values and of levels.
    """
    found = _operations().switchable_line_gradient(
        upstream=upstream, x=x, y=y, ends=ends, slopes=slopes, lowers=lowers, scales=scales
    )
    return LineGradient(*found)


class Grid(NamedTuple):
    """Sums of a basis, as of ``quant.lq.levels.Grid``: levels, thresholds, and code numbers."""

    levels: tf.Tensor
    thresholds: tf.Tensor
    numbers: tf.Tensor


def grid(basis: tf.Tensor, low: int) -> Grid:
    """Sorted sums of a basis [K, C], K from 1 to 8.

    Args:
        basis: float32.
        low: 0 or -1, what stands for an unset bit.
    """
    found = _operations().switchable_grid(basis=basis, low=low)
    return Grid(*found)


class NormalEquations(NamedTuple):
    """B'B [C, K, K] and B'x [C, K] of codes B and values x, and numbers of values [C]; float64."""

    gram: tf.Tensor
    right: tf.Tensor
    counts: tf.Tensor


def normal_equations(
    tables: Sequence[tf.Tensor], numbers: Sequence[tf.Tensor], lows: Sequence[int], bits: int
) -> NormalEquations:
    """The least squares of bases whose C are those of all of them together.

    Args:
        tables: [2 L, C_i] float64, statistics, see ``quant.lq.levels.quantize``.
        numbers: [C_i, L], of codes, see ``Grid``.
        lows: 0 or -1 for each.
        bits: K.
    """
    found = _operations().switchable_normal_equations(
        tables=tables, codes=numbers, lows=lows, bits=bits
    )
    return NormalEquations(*found)


class Uniform:
    """A uniform quantizer and its gradients, with the arguments of ``quant.uniform.quantize``.

    Args:
        low: the lowest multiple of the step.
        high: the highest multiple.
        scale: factor of the gradients of step and offset.
        relu: whether values are rectified first.
        rounds_first: whether values are multiplied by 1 / step, and lie in the range if they round
            into it, as ``quant.affine`` has it; of the slopes only ``delta`` counts then.
        **slopes: which gradients pass, the fields of ``quant.uniform.Slopes``.
    """

    def __init__(
        self,
        low: int,
        high: int,
        scale: tf.Tensor | float,
        *,
        relu: bool,
        rounds_first: bool = False,
        **slopes: Any,
    ):
        self._scale = scale
        self._rounding = {'low': low, 'high': high, 'relu': relu, 'rounds_first': rounds_first}
        self._slopes = slopes

    def levels(self, x: tf.Tensor, step: tf.Tensor, offset: tf.Tensor | None = None) -> tf.Tensor:
        """Values at their levels.

        Args:
            x: float32.
            step: [1], or [C] along the last axis.
            offset: shaped like it.
        """
        return _operations().switchable_uniform(
            x=x, step=step, offset=_or_none(offset), **self._rounding
        )

    def gradients(
        self, upstream: tf.Tensor, x: tf.Tensor, step: tf.Tensor, offset: tf.Tensor | None = None
    ) -> list[tf.Tensor]:
        """Of x, step and, where there is one, offset.

        Args:
            upstream: gradient, like ``x``.
            x: as of ``levels``.
            step: as of ``levels``.
            offset: as of ``levels``.
        """
        toward_x, *sums = _operations().switchable_uniform_gradient(
            upstream=upstream,
            x=x,
            step=step,
            offset=_or_none(offset),
            **self._rounding,
            **self._slopes,
        )
        found = [toward_x]
        for parameter, gradient in zip((step, offset), sums):
            if parameter is not None:
                found.append(self._scale * gradient)
        return found


def _or_none(offset: tf.Tensor | None) -> tf.Tensor:
    if offset is None:
        return tf.zeros([0])
    return offset


def before_relu(x: tf.Tensor) -> tuple[tf.Tensor, bool]:
    """The input of the ReLU that made x, and True; x and False where none made it."""
    if x.op.type == 'Relu':
        return x.op.inputs[0], True
    return x, False
