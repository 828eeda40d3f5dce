"""Slimmable layers: of every weight the first channels are used, of every normalisation the statistics of the width.

A width is an argument. It is a number, a scalar tensor (a width drawn per step: only its channels are computed), or a
``Routing`` (every image its own: all channels of the widest route are computed and masked, as the gradient of a gate
needs it). Weights are quantized whole, once per tower, and then cut.

Reference: Dynamic Slimmable Network, CVPR 2021, https://arxiv.org/abs/2103.13258; arithmetic as the published code.
"""

import dataclasses
import functools
import math
from typing import Any, NamedTuple, TypeAlias

from nets.layers.blocks import BN_EPSILON, BN_MOMENTUM, Blocks, Statistics
from nets.layers.kernels import Kernel
from nets.points import Point
from quant.backend import tf


class Routing(NamedTuple):
    """A width per image.

    Attributes:
        routes: indices of the widths to choose from, ascending.
        gate: [N, routes] float32, 1 at the chosen one and else 0.
    """

    routes: tuple[int, ...]
    gate: tf.Tensor


# Index of a width: the same for all images, or image by image.
Index: TypeAlias = int | tf.Tensor | Routing


@dataclasses.dataclass(frozen=True, eq=False)
class Width:
    """Active channels of a tensor: always the first ones.

    Attributes:
        choices: channel counts by index; the last is that of the variables.
        index: of the active one.
        passes: how many passes of a training step share the layers that have this width.
    """

    choices: tuple[int, ...]
    index: Index = 0
    passes: int = 1

    @property
    def full(self) -> int:
        return self.choices[-1]

    @functools.cached_property
    def active(self) -> int | tf.Tensor:
        """Channels to compute."""
        if isinstance(self.index, Routing):
            return self.choices[self.index.routes[-1]]
        if isinstance(self.index, int):
            return self.choices[self.index]
        return tf.gather(list(self.choices), self.index)

    def at(self, point: Point) -> int:
        """Channels that an operating point uses which this width serves."""
        return self.choices[self.index if isinstance(self.index, int) else point.width or 0]

    def first(self, vector: tf.Tensor) -> tf.Tensor:
        """The active part of [full]."""
        return (
            vector[: self.active]
            if isinstance(self.index, tf.Tensor) or self.active < self.full
            else vector
        )

    def masks(self, routing: Routing) -> tf.Tensor:
        """[routes, count] 1 for the channels of a route."""
        counts = [self.choices[route] for route in routing.routes]
        return tf.sequence_mask(counts, counts[-1], routing.gate.dtype)

    def row(self, table: tf.Tensor) -> tf.Tensor:
        """The active part [count] of the chosen row of [choices, full]; [N, count] image by image."""
        if isinstance(self.index, Routing):
            rows = tf.gather(table, list(self.index.routes))[:, : self.active]
            return tf.matmul(self.index.gate, rows * self.masks(self.index))
        return self.first(tf.gather(table, self.index))


def masked(b: Blocks, x: tf.Tensor, width: Width) -> tf.Tensor:
    """``x`` ([N, C] or images) with zeros in the channels that an image does not use."""
    if not isinstance(width.index, Routing):
        return x
    return x * tf.cast(_like(b, tf.matmul(width.index.gate, width.masks(width.index)), x), x.dtype)


def conv(
    b: Blocks,
    name: str,
    x: tf.Tensor,
    inputs: Width,
    outputs: Width,
    kernel: int,
    *,
    stride: int = 1,
    role: str = 'body',
) -> tf.Tensor:
    """Square convolution without bias. *Variable names*: ``W`` [k, k, in, out]."""
    shape, fan_out = [kernel, kernel, inputs.full, outputs.full], kernel * kernel * outputs.full
    with tf.variable_scope(name) as scope:
        w = b.weights.get(
            shape,
            role,
            fan_out=fan_out,
            start=normal(fan_out),
            part=[kernel, kernel, inputs.active, outputs.active],
        )
        y = b.convolve(x, w.value, stride)
        _record(b, scope.name, role, kernel, inputs, outputs, b.spatial(y), w, area=b.spatial(x))
    return masked(b, y, outputs)


def depthwise_conv(
    b: Blocks, name: str, x: tf.Tensor, width: Width, kernel: int, *, stride: int = 1
) -> tf.Tensor:
    """Depthwise square convolution without bias. *Variable names*: ``W`` [k, k, C, 1]."""
    fan_out = kernel * kernel
    with tf.variable_scope(name) as scope:
        w = b.weights.get(
            [kernel, kernel, width.full, 1],
            'depthwise',
            fan_out=fan_out,
            start=normal(fan_out),
            rows=[kernel, kernel, 1, width.full],
            part=[kernel, kernel, width.active, 1],
        )
        y = b.filter(x, w.value, stride)
        _record(
            b,
            scope.name,
            'depthwise',
            kernel,
            Width((1,)),
            width,
            b.spatial(y),
            w,
            area=b.spatial(x),
        )
    return masked(b, y, width)


def dense(
    b: Blocks,
    name: str,
    x: tf.Tensor,
    inputs: Width,
    outputs: Width,
    *,
    role: str,
    start: Any = None,
    bias: bool = True,
) -> tf.Tensor:
    """Fully connected layer of [N, in]. *Variable names*: ``W`` [in, out], ``b`` [out]."""
    with tf.variable_scope(name) as scope:
        w = b.weights.get(
            [inputs.full, outputs.full],
            role,
            fan_out=outputs.full,
            start=start or normal(outputs.full),
            part=[inputs.active, outputs.active],
        )
        y = tf.matmul(x, w.value)
        if bias:
            y += outputs.first(
                tf.convert_to_tensor(
                    tf.get_variable('b', [outputs.full], initializer=tf.zeros_initializer())
                )
            )
        _record(b, scope.name, role, 1, inputs, outputs, (1, 1), w, bias=bias)
    return masked(b, y, outputs)


def norm(b: Blocks, name: str, x: tf.Tensor, width: Width) -> tf.Tensor:
    """Batch normalisation: affine parameters shared by all widths, statistics private to each.

    A step moves the averages once per pass, in the order in which the passes were built. Image by image the stored
    statistics are mixed by the gate (inference mode only).

    *Variable names*: ``gamma``, ``beta`` [C]; ``mean/EMA``, ``variance/EMA`` [choices, C], below ``s<size>`` where a
    network has several sizes.
    """
    size = f's{b.point.size}/' if b.point.size else ''
    shape = [len(width.choices), width.full]
    with tf.variable_scope(name) as scope:
        gamma, beta = (
            width.first(tf.convert_to_tensor(tf.get_variable(part, shape[1:], initializer=start())))
            for part, start in (('gamma', tf.ones_initializer), ('beta', tf.zeros_initializer))
        )
        tables = [
            tf.get_variable(f'{size}{part}/EMA', shape, initializer=start(), trainable=False)
            for part, start in (('mean', tf.zeros_initializer), ('variance', tf.ones_initializer))
        ]
        if isinstance(width.index, Routing):
            mean, variance = (_like(b, width.row(table), x) for table in tables)
            scale, shift = (_like(b, vector[None], x) for vector in (gamma, beta))
            y = (tf.cast(x, mean.dtype) - mean) * tf.rsqrt(variance + BN_EPSILON) * scale + shift
            return masked(b, tf.cast(y, x.dtype), width)
        y, *batch = b.normalise(x, gamma, beta, *(width.row(table) for table in tables))
        if b.training:
            _observe(b, f'{b.quantization.relative(scope.name)}/{size}', width, tables, batch, x)
    return y


def act(
    b: Blocks,
    name: str,
    x: tf.Tensor,
    width: Width,
    *,
    role: str = 'body',
    function: str = 'swish',
    lower: float = 0.0,
) -> tf.Tensor:
    """Activation function and quantizer, see ``Blocks.act``. Zero need not be a level: what an image does not use is
    set to zero again, without effect on gradients.

    Raises:
        ValueError: the policy wants a basis per width, and the width is drawn.
    """
    scope = b.quantization.relative(f'{tf.get_variable_scope().name}/{name}')
    quantizer = b.quantization.policy.activation(scope, role)
    if quantizer and quantizer.private and not isinstance(width.index, int):
        raise ValueError(
            'private=True: quantizers of a slimmable network are shared by its widths; leave it out'
        )
    y = b.act(name, x, role=role, function=function, lower=lower)
    return y + tf.stop_gradient(masked(b, y, width) - y) if quantizer else y


def squeeze_excite(
    b: Blocks, x: tf.Tensor, width: Width, units: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """``x`` times a factor in (0, 1) per image and channel, and the ``units`` hidden values [N, units].

    *Variable names*: ``se/reduce``, ``se/expand`` with ``W`` and ``b``.
    """
    hidden = tf.nn.relu(
        dense(b, 'se/reduce', b.global_pool(x), width, Width((units,)), role='gate')
    )
    factor = tf.sigmoid(dense(b, 'se/expand', hidden, Width((units,)), width, role='gate'))
    return x * tf.cast(_like(b, factor, x), x.dtype), hidden


def normal(fan_out: int) -> Any:
    """Initial values with variance 2 / fan_out."""
    return tf.random_normal_initializer(stddev=math.sqrt(2 / fan_out))


def _like(b: Blocks, values: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """[N, C] so that it multiplies ``x``."""
    if x.shape.rank == 2:
        return values
    return values[:, None, None] if b.data_format == 'NHWC' else values[:, :, None, None]


def _record(
    b: Blocks,
    scope: str,
    role: str,
    kernel: int,
    inputs: Width,
    outputs: Width,
    out: tuple[int, int],
    w: Kernel,
    *,
    area: tuple[int, int] = (1, 1),
    bias: bool = False,
) -> None:
    for point in b.serves:
        count = outputs.at(point)
        read = outputs if role == 'depthwise' else inputs
        b.record(
            scope,
            role,
            (kernel, kernel, inputs.at(point), count),
            out,
            w._replace(basis=w.basis * count // outputs.full),
            bias=bias * count,
            points=[point],
            inputs=math.prod(area) * read.at(point),
        )


def _observe(
    b: Blocks,
    scope: str,
    width: Width,
    tables: list[tf.Variable],
    batch: list[tf.Tensor],
    x: tf.Tensor,
) -> None:
    """Keeps the batch statistics of a known width, and moves the averages of the main tower."""
    if isinstance(width.index, int):
        b.statistics[f'{scope}{Point(width=width.index)}'] = Statistics(
            batch[0], batch[1], tf.size(x) // width.active
        )
    if not b.main:
        return
    for table, value in zip(tables, batch):
        with tf.control_dependencies(list(filter(None, [b.updates.get(table.name)]))):
            step = (width.row(table) - value) * (1 - BN_MOMENTUM**width.passes)
            padded = tf.pad(step, [[0, width.full - width.active]])
            b.updates[table.name] = tf.raw_ops.ResourceScatterSub(
                resource=table.handle, indices=width.index, updates=padded
            )
        tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, b.updates[table.name])
