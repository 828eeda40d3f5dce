"""Kernels of one tower: read, generated and quantized once, however many operating points use them."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from quant.backend import tf
from quant.quantizer import Scale
from quant.scope import Quantization

# Generated or cut kernels, which an inference graph computes once and keeps, see ``generate``.
GENERATED = 'generated_kernels'


class Kernel(NamedTuple):
    """What a layer computes with.

    Attributes:
        value: the tensor, quantized as the policy says.
        bits: bits of a stored weight; 32 is float.
        basis: number of float32 values that its quantizer stores.
        generated: whether a meta layer makes it from an encoding.
    """

    value: tf.Tensor
    bits: int
    basis: int
    generated: bool


class MetaConv(NamedTuple):
    """A meta layer that generates a kernel from a scalar: ``slope * encoding + offset``.

    Source: Learning to Learn Parameterized Classification Networks for Scalable Input Images, ECCV 2020,
    https://arxiv.org/abs/2007.06181, a fully connected layer with one input.

    Attributes:
        encoding: the scalar.
        start: fan-out of the kernel -> initializers of slope and offset.

    *Variable names*: ``slope``, ``offset``, both of the kernel's shape.
    """

    encoding: float
    start: Callable[[int], tuple[Any, Any]]


def generate() -> tf.Operation:
    """Computes all kept kernels of the graph's inference towers from the present values of the variables."""
    return tf.group(*(kernel.initializer for kernel in tf.get_collection(GENERATED)))


class Kernels:
    """Reads kernels in the current variable scope.

    Args:
        quantization: quantizers of the tower.
        training: whether the kernels can change between two runs of the graph.

    Attributes:
        read: the variables read so far, each once.
    """

    def __init__(self, quantization: Quantization, *, training: bool):
        self.read: list[tf.Tensor] = []
        self._quantization, self._training = quantization, training
        self._tensors: dict[str, tf.Tensor] = {}
        self._made: dict[tuple[str, float | None], Kernel] = {}
        self._parts: dict[tuple[str, tuple[int, ...]], tf.Tensor] = {}

    def get(
        self,
        shape: Sequence[int],
        role: str,
        *,
        fan_out: int,
        start: Any = None,
        meta: MetaConv | None = None,
        point: str = '',
        rows: Sequence[int] | None = None,
        part: Sequence[int | tf.Tensor] | None = None,
    ) -> Kernel:
        """The kernel of the layer whose scope is current.

        Args:
            shape: of the kernel.
            role: of the layer.
            fan_out: sets the scale of initial values.
            start: initializer, by default truncated normal with variance 2 / fan_out.
            meta: how to generate it; None reads the variable ``W``.
            point: operating point that owns the basis of a generated kernel.
            rows: shape that the quantizer sees, output channels last; None is ``shape``.
            part: leading extents to cut out of the (quantized) kernel, numbers or scalar tensors; None is all of it.
        """
        key = tf.get_variable_scope().name, meta.encoding if meta else None
        if key not in self._made:
            self._made[key] = self._make(
                list(shape), role, fan_out, start, meta, point, list(rows or shape)
            )
        kernel = self._made[key]
        return (
            kernel if part is None else kernel._replace(value=self._cut(kernel.value, list(part)))
        )

    def _cut(self, value: tf.Tensor, part: list[int | tf.Tensor]) -> tf.Tensor:
        """The start of ``value`` along every axis. An inference graph cuts once and keeps the result: copying takes as
        long as a narrow network needs for one image.
        """
        full = value.shape.as_list()
        slices = tuple(
            slice(extent if tf.is_tensor(extent) or extent < size else None)
            for extent, size in zip(part, full)
        )
        if any(tf.is_tensor(extent) for extent in part):
            return value[slices]
        key = tf.get_variable_scope().name, tuple(part)
        if key not in self._parts:
            self._parts[key] = (
                value
                if part == full
                else value[slices]
                if self._training
                else self._kept(value[slices])
            )
        return self._parts[key]

    def _make(
        self,
        shape: list[int],
        role: str,
        fan_out: int,
        start: Any,
        meta: MetaConv | None,
        point: str,
        rows: list[int],
    ) -> Kernel:
        scope = self._quantization.relative(tf.get_variable_scope().name)
        if meta is None:
            w = self._value(
                tf.get_variable('W', shape=shape, initializer=start or he_normal(fan_out))
            )
            scale: Scale = math.sqrt(2 / fan_out)
        else:
            w, scale = self._generated(shape, fan_out, meta)
        flat = w if rows == shape else tf.reshape(w, rows)
        q = self._quantization.weight(
            flat, scope=scope, role=role, scale=scale, point=point if meta else ''
        )
        value = q if rows == shape else tf.reshape(q, shape)
        if meta and not self._training:
            value = self._kept(value)
        quantizer = self._quantization.policy.weight(scope, role)
        bits, basis = (quantizer.bits, quantizer.basis_size(rows[-1])) if quantizer else (32, 0)
        return Kernel(value, bits, basis, meta is not None)

    def _generated(
        self, shape: list[int], fan_out: int, meta: MetaConv
    ) -> tuple[tf.Tensor, Callable[[], tf.Tensor]]:
        """The kernel, and its own scale before the first step."""
        slope, offset = (
            tf.get_variable(name, shape=shape, initializer=start)
            for name, start in zip(('slope', 'offset'), meta.start(fan_out))
        )

        def scale() -> tf.Tensor:
            return tf.sqrt(
                tf.reduce_mean(tf.square(_first(slope) * meta.encoding + _first(offset)))
            )

        return self._value(slope) * meta.encoding + self._value(offset), scale

    def _kept(self, value: tf.Tensor) -> tf.Tensor:
        return tf.Variable(
            value, trainable=False, collections=[GENERATED], name='generated'
        ).read_value()

    def _value(self, variable: tf.Variable) -> tf.Tensor:
        """One read per variable and tower."""
        if variable.name not in self._tensors:
            self._tensors[variable.name] = tf.convert_to_tensor(variable)
            self.read.append(self._tensors[variable.name])
        return self._tensors[variable.name]


def _first(variable: tf.Variable) -> tf.Tensor:
    """What a variable holds, or is going to start from: initial values of others may follow from it."""
    return tf.cond(
        tf.is_variable_initialized(variable), variable.read_value, lambda: variable.initial_value
    )


def he_normal(fan_out: int) -> Any:
    """Truncated normal with variance 2 / fan_out."""
    # Truncated at two standard deviations, a normal loses the factor 1.3 of variance (tf.contrib variance scaling).
    return tf.truncated_normal_initializer(stddev=math.sqrt(1.3 * 2 / fan_out))
