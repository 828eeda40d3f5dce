"""Kernels of one tower: read, generated and quantized once, however many points use them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from nets.points import Point
from quant.backend import tf
from quant.quantizer import FLOAT_BITS, InitStd
from quant.scope import Quantization
from quant.state import begun

# Generated or cut kernels, which an inference graph computes once and keeps, see ``generate``.
GENERATED = 'generated_kernels'


class Kernel(NamedTuple):
    """A kernel as a layer computes with it.

    Attributes:
        value: the tensor, quantized as the policy says.
        bits: bits of a stored weight; 32 is float.
        basis: number of float32 values that its quantizer stores.
        generated: whether a meta layer makes it from an encoding.
        packed_bits: of a stored weight where its packed code takes less than ``bits``, else 0.
        nested: whether its code is the start of its codes of more bits.
    """

    value: tf.Tensor
    bits: int
    basis: int
    generated: bool
    packed_bits: float = 0.0
    nested: bool = False


class MetaConv(NamedTuple):
    """A meta layer that generates a kernel from a scalar: ``slope * encoding + offset``.

    Source: Learning to Learn Parameterized Classification Networks for Scalable Input Images, ECCV
    2020, https://arxiv.org/abs/2007.06181, a fully connected layer with one input.

    Attributes:
        encoding: the scalar.
        start: fan-out of the kernel -> initializers of slope and offset.

    *Variable names*: ``slope``, ``offset``, both of the kernel's shape.
    """

    encoding: float
    start: Callable[[int], tuple[Any, Any]]


class Latent(NamedTuple):
    """Weights before quantization.

    Attributes:
        value: the tensor, float32.
        init_std: standard deviation of the initial values.
        first: makes the tensor as it is at the first step: initial, or loaded.
    """

    value: tf.Tensor
    init_std: InitStd
    first: Callable[[], tf.Tensor]


def generate() -> tf.Operation:
    """Computes all kept kernels of the graph's inference towers from the variables."""
    return tf.group(*(kernel.initializer for kernel in tf.get_collection(GENERATED)))


class Kernels:
    """Reads kernels in the current variable scope.

    Args:
        quantization: quantizers of the tower.
        training: whether the kernels can change between two runs of the graph.

    Attributes:
        read: values of the variables read so far, each once.
        variables: these variables.
    """

    def __init__(self, quantization: Quantization, *, training: bool):
        self.read: list[tf.Tensor] = []
        self.variables: list[tf.Variable] = []
        self._quantization = quantization
        self._training = training
        self._tensors: dict[str, tf.Tensor] = {}
        self._latent: dict[tuple[str, float | None], Latent] = {}
        self._made: dict[tuple[str, float | None, int | None], Kernel] = {}
        self._parts: dict[tuple[str, tuple[int, ...]], tf.Tensor] = {}

    def get(
        self,
        shape: Sequence[int],
        role: str,
        *,
        fan_out: int,
        start: Any = None,
        meta: MetaConv | None = None,
        point: Point | None = None,
        rows: Sequence[int] | None = None,
        part: Sequence[int | tf.Tensor] | None = None,
    ) -> Kernel:
        """The kernel of the layer whose scope is current.

        Args:
            shape: of the kernel.
            role: of the layer.
            fan_out: sets the standard deviation of initial values.
            start: initializer, by default truncated normal with variance 2 / fan_out.
            meta: how to generate it; None reads the variable ``W``.
            point: operating point, which owns the quantizer of a generated kernel.
            rows: shape that the quantizer sees, output channels last; None is ``shape``.
            part: leading extents to cut out of the (quantized) kernel, numbers or scalar tensors;
                None cuts nothing.
        """
        rows = rows or shape
        scope = tf.get_variable_scope().name
        encoding = meta and meta.encoding
        bits = self._quantization.own_bits('weight', self._quantization.current, role)
        key = scope, encoding, bits
        if key not in self._made:
            latent = self._latent.get((scope, encoding))
            if latent is None:
                # In one shape for all precisions, which share what they can of a tensor.
                latent = _in_rows(self._weights(shape, fan_out, start, meta), rows)
            self._latent[scope, encoding] = latent
            owner = Point()
            if meta is not None and point is not None:
                owner = point
            owner = dataclasses.replace(owner, bits=bits)
            kernel = self._quantized(latent, role, shape, str(owner))
            if meta is not None:
                kernel = kernel._replace(value=self._kept(kernel.value), generated=True)
            self._made[key] = kernel
        kernel = self._made[key]
        if part is None:
            return kernel
        return kernel._replace(value=self._cut(kernel.value, list(part)))

    def _weights(
        self, shape: Sequence[int], fan_out: int, start: Any, meta: MetaConv | None
    ) -> Latent:
        """Weights of the layer whose scope is current, not quantized; arguments of ``get``."""
        if meta is None:
            return self._stored(shape, fan_out, start)
        return self._generated(shape, fan_out, meta)

    def _stored(self, shape: Sequence[int], fan_out: int, start: Any) -> Latent:
        """Weights that are a variable."""
        variable = tf.get_variable('W', shape=shape, initializer=start or he_normal(fan_out))
        init_std = math.sqrt(2 / fan_out)
        return Latent(self._value(variable), init_std, lambda: begun(variable))

    def _generated(self, shape: Sequence[int], fan_out: int, meta: MetaConv) -> Latent:
        """Weights that a meta layer makes."""
        slope_start, offset_start = meta.start(fan_out)
        slope = tf.get_variable('slope', shape=shape, initializer=slope_start)
        offset = tf.get_variable('offset', shape=shape, initializer=offset_start)

        def first() -> tf.Tensor:
            return begun(slope) * meta.encoding + begun(offset)

        def init_std() -> tf.Tensor:
            return tf.sqrt(tf.reduce_mean(tf.square(first())))

        value = self._value(slope) * meta.encoding + self._value(offset)
        return Latent(value, init_std, first)

    def _quantized(self, latent: Latent, role: str, shape: Sequence[int], point: str) -> Kernel:
        """The kernel as the policy wants it.

        Args:
            latent: the weights, in the shape that the quantizer sees.
            role: of the layer.
            shape: of the kernel.
            point: spelling of the operating points that alone have the quantizer.
        """
        scope = self._quantization.current
        value = self._quantization.weight(
            latent.value,
            scope=scope,
            role=role,
            init_std=latent.init_std,
            first=latent.first,
            point=point,
        )
        quantizer = self._quantization.policy.weight(scope, role)
        if quantizer is None:
            return Kernel(_shaped(value, shape), FLOAT_BITS, 0, False)
        stored = quantizer.stored_values(latent.value.shape[-1])
        packed = 0.0
        if quantizer.packed_bits != quantizer.bits:
            packed = quantizer.packed_bits
        nested = quantizer.is_nested
        return Kernel(_shaped(value, shape), quantizer.bits, stored, False, packed, nested)

    def _cut(self, value: tf.Tensor, part: list[int | tf.Tensor]) -> tf.Tensor:
        """The start of ``value`` along every axis.

        An inference graph cuts once and keeps the result: copying takes as long as a narrow network
        needs for one image.
        """
        full = value.shape.as_list()
        slices = []
        for extent, size in zip(part, full):
            whole = not tf.is_tensor(extent) and extent == size
            slices.append(slice(None) if whole else slice(extent))
        if any(tf.is_tensor(extent) for extent in part):
            return value[tuple(slices)]
        if part == full:
            return value
        key = value.name, tuple(part)
        if key not in self._parts:
            self._parts[key] = self._kept(value[tuple(slices)])
        return self._parts[key]

    def _kept(self, value: tf.Tensor) -> tf.Tensor:
        """A tensor that an inference graph computes once, and a training graph in every step."""
        if self._training:
            return value
        kept = tf.Variable(
            value, trainable=False, collections=[GENERATED], name='generated', use_resource=True
        )
        return kept.read_value()

    def _value(self, variable: tf.Variable) -> tf.Tensor:
        """One read per variable and tower."""
        if variable.name not in self._tensors:
            self._tensors[variable.name] = tf.convert_to_tensor(variable)
            self.read.append(self._tensors[variable.name])
            self.variables.append(variable)
        return self._tensors[variable.name]


def _in_rows(latent: Latent, rows: Sequence[int]) -> Latent:
    """Weights in the shape that a quantizer sees."""

    def first() -> tf.Tensor:
        return _shaped(latent.first(), rows)

    return Latent(_shaped(latent.value, rows), latent.init_std, first)


def _shaped(value: tf.Tensor, shape: Sequence[int]) -> tf.Tensor:
    if value.shape.as_list() == list(shape):
        return value
    return tf.reshape(value, shape)


def he_normal(fan_out: int) -> Any:
    """Truncated normal with variance 2 / fan_out."""
    # Truncated at two standard deviations, a normal loses the factor 1.3 of variance
    # (tf.contrib variance scaling).
    return tf.truncated_normal_initializer(stddev=math.sqrt(1.3 * 2 / fan_out))
