"""Slimmable layers: the first channels of every weight, the statistics of the width of every norm.

A width is an argument. It is a number, a scalar tensor (a width drawn per step: only its channels
are computed), or a ``Routing`` (every image its own: all channels of the widest route are computed
and masked, as the gradient of a gate needs it). Weights are quantized whole, once per tower, and
then cut.

Reference: Dynamic Slimmable Network, CVPR 2021, https://arxiv.org/abs/2103.13258; arithmetic as the
published code.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

from nets.layers.blocks import Blocks
from nets.layers.kernels import Kernel
from nets.layers.norm import BN_EPSILON, BN_MOMENTUM, Averages, Normalised
from nets.layers.width import Routing, Width
from nets.points import Point
from quant.backend import tf
from quant.state import Kind, declare


def masked(b: Blocks, x: tf.Tensor, width: Width) -> tf.Tensor:
    """``x`` with zeros in the channels that an image does not use.

    Args:
        b: the tower's layer builder.
        x: [N, C] or images.
        width: of ``x``.
    """
    if not isinstance(width.index, Routing):
        return x
    used = tf.matmul(width.index.gate, width.masks(width.index))  # [N, C]
    return x * tf.cast(_like(b, used, x), x.dtype)


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
    """Square convolution without bias. *Variable names*: ``W`` [k, k, in, out].

    Args:
        b: the tower's layer builder.
        name: variable scope of the layer.
        x: images with the active channels of ``inputs``.
        inputs: width of ``x``.
        outputs: width of the result.
        kernel: side of the window.
        stride: of the window.
        role: of the layer.
    """
    shape = [kernel, kernel, inputs.full, outputs.full]
    fan_out = kernel * kernel * outputs.full
    with tf.variable_scope(name) as scope:
        w = b.weights.get(
            shape,
            role,
            fan_out=fan_out,
            start=normal(fan_out),
            part=[kernel, kernel, inputs.active, outputs.active],
        )
        y = b.convolve(x, w.value, stride)
        layer = _Layer(scope.name, role, kernel, inputs, outputs)
        _record(b, layer, x, b.spatial(y), w)
    return masked(b, y, outputs)


def depthwise_conv(
    b: Blocks, name: str, x: tf.Tensor, width: Width, kernel: int, *, stride: int = 1
) -> tf.Tensor:
    """Depthwise square convolution without bias. *Variable names*: ``W`` [k, k, C, 1].

    Args:
        b: the tower's layer builder.
        name: variable scope of the layer.
        x: images with the active channels of ``width``.
        width: of ``x`` and of the result.
        kernel: side of the window.
        stride: of the window.
    """
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
        layer = _Layer(scope.name, 'depthwise', kernel, Width((1,)), width)
        _record(b, layer, x, b.spatial(y), w)
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
    """Fully connected layer of [N, in]. *Variable names*: ``W`` [in, out], ``b`` [out].

    Args:
        b: the tower's layer builder.
        name: variable scope of the layer.
        x: [N, active channels of ``inputs``].
        inputs: width of ``x``.
        outputs: width of the result.
        role: of the layer.
        start: initializer of the weights.
        bias: whether there is one.
    """
    with tf.variable_scope(name) as scope:
        read = b.dense_input(x, role, lower=-math.inf)
        if read is not x:
            # Zero need not be a level.
            read = _masked_value(b, read, inputs)
        w = b.weights.get(
            [inputs.full, outputs.full],
            role,
            fan_out=outputs.full,
            start=start or normal(outputs.full),
            part=[inputs.active, outputs.active],
        )
        y = tf.matmul(read, w.value)
        if bias:
            zeros = tf.zeros_initializer()
            shift = tf.get_variable('b', [outputs.full], initializer=zeros)
            y += outputs.first(tf.convert_to_tensor(shift))
        layer = _Layer(scope.name, role, 1, inputs, outputs)
        _record(b, layer, read, (1, 1), w, bias=bias)
    return masked(b, y, outputs)


def norm(b: Blocks, name: str, x: tf.Tensor, width: Width) -> tf.Tensor:
    """Batch normalisation: affine parameters shared by all widths, statistics private to each.

    A step moves the averages once per pass, in the order in which the passes were built. Image by
    image the stored statistics are mixed by the gate (inference mode only).

    *Variable names*: ``gamma``, ``beta`` [C]; ``mean/EMA``, ``variance/EMA`` [choices, C], below
    ``s<size>``, ``s<size>-b<bits>`` where a network has several sizes or precisions.

    Args:
        b: the tower's layer builder.
        name: variable scope of the layer.
        x: images with the active channels of ``width``.
        width: of ``x``.
    """
    point = str(dataclasses.replace(b.point, width=None))
    ones = tf.ones_initializer()
    zeros = tf.zeros_initializer()
    with tf.variable_scope(name):
        gamma = width.first(_affine('gamma', width, ones))
        beta = width.first(_affine('beta', width, zeros))
        tables = [_table('mean', point, width, zeros), _table('variance', point, width, ones)]
        if isinstance(width.index, Routing):
            return _routed_norm(b, x, width, tables, gamma, beta)
        rows = [width.row(table) for table in tables]
        y, *batch = b.normalise(x, gamma, beta, *rows)
        if b.training:
            owner = f'{b.quantization.current}/{point}'.rstrip('/')
            _keep_statistics(b, owner, width, tables, batch, x)
            _move_averages(b, width, tables, batch)
    return y


def _affine(name: str, width: Width, start: Any) -> tf.Tensor:
    """[C] an affine parameter that all widths share."""
    return tf.convert_to_tensor(tf.get_variable(name, [width.full], initializer=start))


def _table(part: str, point: str, width: Width, start: Any) -> tf.Variable:
    """[choices, C] moving averages of all widths.

    Args:
        part: ``mean`` or ``variance``.
        point: spelling of size and precision where a network has several, else empty.
        width: of the layer.
        start: initializer.
    """
    shape = [len(width.choices), width.full]
    name = f'{point}/{part}/EMA'.lstrip('/')
    table = tf.get_variable(name, shape, initializer=start, trainable=False)
    declare(table, Kind.MOVING, point=point)
    return table


def _routed_norm(
    b: Blocks,
    x: tf.Tensor,
    width: Width,
    tables: list[tf.Variable],
    gamma: tf.Tensor,
    beta: tf.Tensor,
) -> tf.Tensor:
    """Normalisation by stored statistics that the gate mixes image by image.

    Args:
        b: the tower's layer builder.
        x: images.
        width: of ``x``, chosen by the gate.
        tables: means and variances [choices, C].
        gamma: [C].
        beta: [C].
    """
    means, variances = tables
    mean = _like(b, width.row(means), x)
    variance = _like(b, width.row(variances), x)
    scale = _like(b, gamma[None], x)
    shift = _like(b, beta[None], x)
    centred = tf.cast(x, mean.dtype) - mean
    y = centred * tf.rsqrt(variance + BN_EPSILON) * scale + shift
    return masked(b, tf.cast(y, x.dtype), width)


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
    """Activation function and quantizer, see ``Blocks.act``.

    Zero need not be a level: what an image does not use is set to zero again, without effect on
    gradients. A quantizer of its own belongs to a size, not to a width.

    Args:
        b: the tower's layer builder.
        name: scope of the quantizer.
        x: images with the active channels of ``width``.
        width: of ``x``.
        role: role of the layers that it feeds.
        function: as of ``Blocks.act``.
        lower: as of ``Blocks.act``.
    """
    scope = f'{b.quantization.current}/{name}'.lstrip('/')
    y = b.act(name, x, role=role, function=function, lower=lower, channels=width.full)
    if b.quantization.policy.activation(scope, role):
        return _masked_value(b, y, width)
    return y


def _masked_value(b: Blocks, y: tf.Tensor, width: Width) -> tf.Tensor:
    """``y`` with zeros in the channels that an image does not use, and the gradient of ``y``."""
    if not isinstance(width.index, Routing):
        return y
    return b.coded.same(y + tf.stop_gradient(masked(b, y, width) - y), y)


def squeeze_excite(
    b: Blocks, x: tf.Tensor, width: Width, units: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """``x`` times a factor in (0, 1) per image and channel, and the hidden values [N, units].

    *Variable names*: ``se/reduce``, ``se/expand`` with ``W`` and ``b``.

    Args:
        b: the tower's layer builder.
        x: images with the active channels of ``width``.
        width: of ``x``.
        units: number of hidden values.
    """
    hidden_width = Width((units,))
    reduced = dense(b, 'se/reduce', b.global_pool(x), width, hidden_width, role='gate')
    hidden = tf.nn.relu(reduced)
    factor = tf.sigmoid(dense(b, 'se/expand', hidden, hidden_width, width, role='gate'))
    return x * tf.cast(_like(b, factor, x), x.dtype), hidden


def normal(fan_out: int) -> Any:
    """Initial values with variance 2 / fan_out."""
    return tf.random_normal_initializer(stddev=math.sqrt(2 / fan_out))


def _like(b: Blocks, values: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """[N, C] so that it multiplies ``x``."""
    if x.shape.rank == 2:
        return values
    if b.data_format == 'NHWC':
        return values[:, None, None]
    return values[:, :, None, None]


class _Layer(NamedTuple):
    """A layer with weights, for its records.

    Attributes:
        scope: of its variables.
        role: of the layer.
        kernel: side of the window.
        inputs: width of one group of its input.
        outputs: width of its output.
    """

    scope: str
    role: str
    kernel: int
    inputs: Width
    outputs: Width


def _record(
    b: Blocks, layer: _Layer, x: tf.Tensor, out: tuple[int, int], w: Kernel, *, bias: bool = False
) -> None:
    """Notes a layer at the channel counts of every operating point that it serves.

    Args:
        b: the tower's layer builder.
        layer: to note.
        x: its input, [N, C] or images.
        out: height and width of the output.
        w: kernel that it computes with.
        bias: whether it has one.
    """
    area = 1
    if x.shape.rank == 4:
        area = math.prod(b.spatial(x))
    read = layer.inputs
    if layer.role == 'depthwise':
        read = layer.outputs
    for point in b.serves:
        count = layer.outputs.at(point)
        shape = [layer.kernel, layer.kernel, layer.inputs.at(point), count]
        # What is stored per channel is stored for those in use.
        stored = w.basis * count // layer.outputs.full
        b.record(
            layer.scope,
            layer.role,
            shape,
            out,
            w._replace(basis=stored),
            bias=bias * count,
            points=[point],
            read=x,
            inputs=area * read.at(point),
        )


def _keep_statistics(
    b: Blocks,
    scope: str,
    width: Width,
    tables: list[tf.Variable],
    batch: list[tf.Tensor],
    x: tf.Tensor,
) -> None:
    """Keeps the batch statistics of a width that is known.

    Args:
        b: the tower's layer builder.
        scope: of the normalisation, with size and precision where there are several.
        width: of ``x``.
        tables: moving averages of mean and variance [choices, C].
        batch: mean and variance [active channels].
        x: images.
    """
    if not isinstance(width.index, int):
        return
    mean, variance = batch
    name = f'{scope}/{Point(width=width.index)}'
    b.normalised[name] = Normalised(mean, variance, x, width.active)
    means, variances = tables
    b.averages[name] = Averages(means.op.name, variances.op.name, width.index)


def _move_averages(
    b: Blocks, width: Width, tables: list[tf.Variable], batch: list[tf.Tensor]
) -> None:
    """Moves the averages of the main tower toward the values of this batch.

    Args:
        b: the tower's layer builder.
        width: whose row of the tables moves.
        tables: means and variances [choices, C].
        batch: mean and variance [active channels].
    """
    if not b.main:
        return
    for table, value in zip(tables, batch):
        before = [b.updates[table.name]] if table.name in b.updates else []
        with tf.control_dependencies(before):
            step = (width.row(table) - value) * (1 - BN_MOMENTUM**width.passes)
            padded = tf.pad(step, [[0, width.full - width.active]])
            update = tf.raw_ops.ResourceScatterSub(
                resource=table.handle, indices=width.index, updates=padded
            )
        b.updates[table.name] = update
        tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, update)
