"""The integer form of a program: convolutions of whole numbers, one affine function behind each.

Levels that are whole numbers times a scale leave the scale to the affine function behind the
convolution: what is convolved has 8 bits on both sides, and sums are exact. What reads levels
otherwise gets them multiplied out. Kernels of 256 levels around zero are whole numbers and a half:
half of the sum of what a window reads is added. Padding stays exact where zero is a level; where
levels count from an offset, the convolutions that pad stay as they are.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from engine.deployment import alignment, program
from engine.deployment.pool import Constants
from engine.deployment.program import Codes, Constant, Floats, Operation, Part, Program
from engine.errors import UsageError
from quant import integers

# Whole numbers that fit into 8 bits: of kernels, and of activations without sign.
SIGNED = (-128, 127)
UNSIGNED = (0, 255)

# That a network has nothing that could be computed so.
NOTHING = (
    '--form int8: no layer has both weights and activations of 8 bits or less; use --form packed'
)

# Weights of a channel up to which a kernel of 8 bits may take less without codes.
MOST_UNCODED = 512

# Operations that give whole numbers of whole numbers.
_Passing = program.Pool | program.Pad | program.Crop | program.ToRows | program.ToImages

# Operations with a kernel.
_Kernelled = program.Convolution | program.Dense

_INTEGER: Mapping[type[Operation], type[Operation]] = {
    program.Convolution: program.IntegerConvolution,
    program.Dense: program.IntegerDense,
}


class NotWhole(UsageError):
    """Levels that are no whole numbers: the network was not snapped."""


class Levels(NamedTuple):
    """Whole numbers that stand for levels: ``whole * scale + offset``.

    Attributes:
        whole: int64 [L].
        scale: float32.
        offset: float32.
    """

    whole: np.ndarray
    scale: np.float32
    offset: np.float32


class Kernel(NamedTuple):
    """A kernel of whole numbers.

    Attributes:
        part: of the pool.
        scale: of each output channel, float32 [C].
        offset: of each output channel, that is added to its whole numbers, float32 [C].
        sums: of the numbers of each output channel, float64 [C].
    """

    part: Part
    scale: np.ndarray
    offset: np.ndarray
    sums: np.ndarray


def integer(whole: Program) -> Program:
    """The program in which every convolution that can be is one of whole numbers.

    Raises:
        UsageError: levels are no whole numbers, or nothing is quantized on both sides.
    """
    constants = Constants()
    constants.update(whole.constants)
    kernels = _Kernels(whole, constants)
    points = {}
    for name, point in whole.points.items():
        rewriting = _Rewriting(whole, kernels, constants, point.operations)
        points[name] = dataclasses.replace(point, operations=rewriting.run(point.output))
    made = Program(points, constants)
    if not is_integer(made):
        raise UsageError(NOTHING)
    return program.with_points(points, constants)


def is_integer(whole: Program) -> bool:
    """Whether a program has layers of whole numbers."""
    return any(map(_computes_integers, whole.points.values()))


def _pads(operation: Any) -> bool:
    """Whether a layer can read zeros around its input, at some size of it."""
    if not isinstance(operation, program.Convolution):
        return False
    window = operation.kernel.shape[:2]
    return any(operation.pads) or (operation.same and window != (1, 1))


def _grouped(operation: Any) -> bool:
    """Whether several outputs of a layer read what others of them do not."""
    if not isinstance(operation, program.Convolution):
        return False
    return 1 < operation.groups < operation.kernel.shape[3]


def _computes_integers(point: program.PointProgram) -> bool:
    kinds = (program.IntegerConvolution, program.IntegerDense)
    return any(isinstance(operation, kinds) for operation in point.operations)


class _Kernels:
    """Kernels of whole numbers, each made once for all points.

    Args:
        source: the program.
        constants: pool that gets what is made.
    """

    def __init__(self, source: Program, constants: Constants):
        self._source = source
        self._constants = constants
        self.of = functools.cache(self._of)

    def _of(self, part: Part) -> Kernel | None:
        """The kernel in whole numbers; None where it is not quantized.

        Raises:
            NotWhole: it is, to levels that are no whole numbers.
        """
        stored = self._source.constants[part.name]
        if isinstance(stored, Codes):
            found = integers.whole_or_half(stored.levels, *SIGNED)
            if found is None:
                raise NotWhole(part.name)
            whole, scales, offsets = found
            made: Constant = Codes(stored.codes, whole.astype(np.float32))
        else:
            columns = stored.values.reshape(-1, stored.shape[-1])  # [weights of a channel, C]
            # Of more weights codes would have been stored, of 8 bits too.
            if len(columns) > MOST_UNCODED:
                return None
            found = integers.whole_or_half(columns, *SIGNED)
            if found is None:
                return None
            whole, scales, offsets = found
            made = Floats(whole.reshape(stored.shape).astype(np.float32))
        name = f'{part.name}/whole'
        self._constants[name] = made
        corner = tuple(slice(extent) for extent in part.shape)
        count = part.shape[-1]
        used = made.values[corner].reshape(-1, count) + offsets[:count]
        sums = used.sum(axis=0, dtype=np.float64)
        return Kernel(Part(name, part.shape), scales[:count], offsets[:count], sums)


class _Rewriting:
    """Rewrites the operations of one point.

    Args:
        source: the program.
        kernels: of whole numbers.
        constants: pool that gets what is made.
        operations: of the point.
    """

    def __init__(
        self,
        source: Program,
        kernels: _Kernels,
        constants: Constants,
        operations: Sequence[Operation],
    ):
        self._source = source
        self._kernels = kernels
        self._constants = constants
        self._operations = operations
        self._levels: dict[str, Levels] = {}
        self._whole: set[str] = set()
        self._multiplied: dict[str, str] = {}
        self._made: list[Operation] = []

    def run(self, output: str) -> tuple[Operation, ...]:
        """The operations in whole numbers where that is possible.

        Args:
            output: name of the logits.
        """
        integral = self._chosen()
        affine = self._affine_behind(output)
        merged = {affine[out].out for out in integral if out in affine}
        for operation in self._operations:
            if operation.out in integral:
                self._kernelled(operation, integral[operation.out], affine.get(operation.out))
            elif operation.out in merged:
                continue
            elif operation.out not in self._whole:
                self._made.append(self._reading_levels(operation))
            elif isinstance(operation, program.Quantize):
                self._encode(operation)
            else:
                self._made.append(operation)
        return tuple(self._made)

    def _chosen(self) -> dict[str, Kernel]:
        """Kernels of what becomes integer arithmetic, by name of the result."""
        chosen: dict[str, Kernel] = {}
        for operation in self._operations:
            if isinstance(operation, program.Quantize):
                self._levels[operation.out] = self._levels_of(operation)
            elif operation.x not in self._levels:
                continue
            elif isinstance(operation, _Kernelled):
                kernel = self._kernel(operation)
                if kernel is not None:
                    chosen[operation.out] = kernel
                    self._whole.add(operation.x)
            elif self._passes(operation):
                self._levels[operation.out] = self._levels[operation.x]
        for operation in reversed(self._operations):
            if operation.out in self._whole and operation.x in self._levels:
                self._whole.add(operation.x)
        return chosen

    def _passes(self, operation: Operation) -> bool:
        """Whether an operation of whole numbers, its input, gives whole numbers."""
        if not isinstance(operation, _Passing) or self._levels[operation.x].offset:
            return False
        return not isinstance(operation, program.Pool) or operation.function == 'max'

    def _levels_of(self, operation: program.Quantize) -> Levels:
        """The levels of a quantizer in whole numbers.

        Raises:
            NotWhole: they are none.
        """
        levels = self._source.value(operation.levels)[:, None]  # [L, 1]
        lowest = levels[0, 0]
        for offset in (np.float32(0), lowest):
            for limits in (UNSIGNED, SIGNED):
                found = integers.whole(levels - offset, *limits)
                if found is not None:
                    whole, scale = found
                    return Levels(whole[:, 0], scale[0], offset)
        raise NotWhole(operation.out)

    def _kernel(self, operation: Any) -> Kernel | None:
        """The kernel of an operation on whole numbers; None where it stays as it is."""
        if self._levels[operation.x].offset and _pads(operation):
            return None
        kernel = self._kernels.of(operation.kernel)
        if kernel is not None and kernel.offset.any() and _grouped(operation):
            return None
        return kernel

    def _affine_behind(self, output: str) -> dict[str, program.Affine]:
        """Affine functions that alone read a result, by its name."""
        readers: dict[str, list[Operation]] = {output: []}
        for operation in self._operations:
            for name in alignment.reads(operation):
                readers.setdefault(name, []).append(operation)
        found = {}
        for name, reading in readers.items():
            if len(reading) == 1 and isinstance(reading[0], program.Affine) and name != output:
                found[name] = reading[0]
        return found

    def _encode(self, operation: program.Quantize) -> None:
        """Adds a quantizer that gives whole numbers."""
        levels = self._levels[operation.out]
        part = self._part(levels.whole, operation.out, 'whole')
        signed = bool(levels.whole.min() < 0)
        self._made.append(
            program.Encode(operation.out, operation.x, operation.thresholds, part, signed)
        )

    def _kernelled(self, operation: Any, kernel: Kernel, affine: program.Affine | None) -> None:
        """Adds integer arithmetic with the affine function that gives its scale back.

        Args:
            operation: a convolution or the like.
            kernel: in whole numbers.
            affine: that alone reads the result, and is folded in.
        """
        levels = self._levels[operation.x]
        fields = {**vars(operation), 'kernel': kernel.part, 'out': f'{operation.out}/whole'}
        made = _INTEGER[type(operation)](**fields)
        scale = kernel.scale.astype(np.float64) * levels.scale  # [C]
        shift = kernel.scale.astype(np.float64) * levels.offset * kernel.sums
        out = operation.out
        if affine is not None:
            factor = self._source.value(affine.scale)
            scale = scale * factor
            shift = shift * factor + self._source.value(affine.shift)
            out = affine.out
        self._made.append(made)
        parts = self._part(scale, out, 'scale'), self._part(shift, out, 'shift')
        if not kernel.offset.any():
            self._made.append(program.Affine(out, made.out, *parts))
            return
        self._made.append(program.Affine(f'{out}/most', made.out, *parts))
        sums = self._summed(made)
        parts = self._part(scale * kernel.offset, out, 'half'), self._part(0, out, 'zero')
        self._made.append(program.Affine(f'{out}/rest', sums, *parts))
        self._made.append(program.Combine(out, f'{out}/most', f'{out}/rest', 'add'))

    def _summed(self, operation: Any) -> str:
        """Name of the sums of what each window reads, which are added: [..., 1], or by channel.

        Args:
            operation: whose windows they are.
        """
        groups = getattr(operation, 'groups', 1)
        shape = (*operation.kernel.shape[:-1], groups)
        ones = self._constants.add(np.ones(shape, np.float32), f'{operation.out}/ones')
        out = f'{operation.out}/sums'
        self._made.append(dataclasses.replace(operation, out=out, kernel=ones))
        return out

    def _reading_levels(self, operation: Operation) -> Operation:
        """An operation that reads whole numbers multiplied out."""
        names = {}
        for name in alignment.reads(operation):
            names[name] = name
            if name in self._whole:
                names[name] = self._multiplied_out(name)
        fields = {}
        for field, value in alignment.names(operation).items():
            fields[field] = alignment.renamed(value, names)
        return dataclasses.replace(operation, **fields)

    def _multiplied_out(self, name: str) -> str:
        """Name of the levels that whole numbers stand for, which are added if they are not yet."""
        if name not in self._multiplied:
            levels = self._levels[name]
            out = f'{name}/levels'
            scale = self._part(levels.scale, out, 'scale')
            shift = self._part(levels.offset, out, 'shift')
            self._made.append(program.Affine(out, name, scale, shift))
            self._multiplied[name] = out
        return self._multiplied[name]

    def _part(self, value: Any, name: str, field: str) -> Part:
        vector = np.atleast_1d(np.asarray(value, np.float32))
        return self._constants.add(vector, f'{name}/{field}')
