"""Slimmable layers: of every weight the first channels. Norms are in ``slimmable_norm``.

A width is an argument. It is a number, a scalar tensor (a width drawn per step: only its channels
are computed), or a ``Routing`` (every image its own: all channels of the widest route are computed
and masked, as the gradient of a gate needs it). Weights are quantized whole, once per tower, and
then cut.

Reference: Dynamic Slimmable Network, CVPR 2021, https://arxiv.org/abs/2103.13258; arithmetic as the
published code.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from nets.layers.blocks import Blocks
from nets.layers.kernels import Kernel
from nets.layers.width import Routing, Width
from quant.backend import tf


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
    return outputs.masked(b, y)


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
    return width.masked(b, y)


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
    return outputs.masked(b, y)


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
    return b.coded.same(y + tf.stop_gradient(width.masked(b, y) - y), y)


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
    return x * tf.cast(b.per_channel(factor, x), x.dtype), hidden


def normal(fan_out: int) -> Any:
    """Initial values with variance 2 / fan_out."""
    return tf.random_normal_initializer(stddev=math.sqrt(2 / fan_out))


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
