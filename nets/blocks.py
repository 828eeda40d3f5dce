"""Convolution, normalisation and activation: the one vocabulary in which networks are written.

A network names its layers and their roles; whether something is quantized is decided by the policy, and a weight that
several operating points use is read and quantized once per tower.
"""

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

from nets.cost import LayerRecord
from nets.points import Point
from quant.backend import tf
from quant.policy import Policy
from quant.tower import Quantization

BN_MOMENTUM = 0.9
BN_EPSILON = 1e-5


@dataclasses.dataclass
class Outputs:
    """What one tower computes.

    Attributes:
        logits: [N, classes] float32 by operating point, strongest first.
        extras: Named tensors that are scored, summarised or used by the loss beside the points.
    """

    logits: dict[Point, tf.Tensor]
    extras: dict[str, tf.Tensor] = dataclasses.field(default_factory=dict)


class Blocks:
    """Builds the layers of one tower.

    Args:
        policy: which layer gets which quantizer.
        points: the network's operating points, strongest first.
        training: batch statistics and quantizer statistics, or the stored ones.
        data_format: ``NHWC`` or ``NCHW``; inputs and outputs of every method have it.
        share_affine: all points share gamma and beta of a normalisation and keep only their statistics apart (as
            universally slimmable networks do); by default all four are private.
        main: whether this is the tower whose batch statistics go into the moving averages.

    Attributes:
        kernels: the kernels read so far, for weight decay; each once.
        layers: layer records by spelling of the operating point.
    """

    def __init__(self, policy: Policy, points: Sequence[Point], *, training: bool, data_format: str = 'NHWC',
                 share_affine: bool = False, main: bool = True):
        self.training, self.data_format, self.share_affine, self.main = training, data_format, share_affine, main
        self.quantization = Quantization(policy, training=training)
        self.kernels: list[tf.Tensor] = []
        self.layers: dict[str, list[LayerRecord]] = {str(point): [] for point in points}
        self._points, self._point = points, points[0]
        self._weights: dict[str, tuple[tf.Tensor, int, int]] = {}

    @contextlib.contextmanager
    def at(self, point: Point) -> Iterator[None]:
        """Layers built inside belong to ``point`` and reuse the variables of the other points."""
        before, self._point = self._point, point
        try:
            with tf.variable_scope(tf.get_variable_scope(), reuse=tf.AUTO_REUSE):
                yield
        finally:
            self._point = before

    def conv(self, name: str, x: tf.Tensor, channels: int, kernel: int, *, stride: int = 1,
             role: str = 'body') -> tf.Tensor:
        """Square convolution without bias, TensorFlow's SAME padding. *Variable names*: ``W`` [k, k, in, out]."""
        shape = [kernel, kernel, self.channels(x), channels]
        with tf.variable_scope(name) as scope:
            w, bits, basis = self._weight(shape, role, fan_out=kernel * kernel * channels)
            y = tf.nn.conv2d(x, w, self._strides(stride), 'SAME', data_format=self.data_format)
            self._record(scope.name, role, shape, self._spatial(y), bits, basis)
        return y

    def depthwise_conv(self, name: str, x: tf.Tensor, kernel: int, *, stride: int = 1) -> tf.Tensor:
        """Depthwise square convolution without bias, SAME padding. *Variable names*: ``W`` [k, k, C, 1].

        The quantizer sees [k, k, 1, C]: one basis per channel.
        """
        channels = self.channels(x)
        with tf.variable_scope(name) as scope:
            w, bits, basis = self._weight([kernel, kernel, channels, 1], 'depthwise', fan_out=kernel * kernel,
                                          quantized_shape=[kernel, kernel, 1, channels])
            y = tf.nn.depthwise_conv2d(x, w, self._strides(stride), 'SAME', data_format=self.data_format)
            self._record(scope.name, 'depthwise', [kernel, kernel, 1, channels], self._spatial(y), bits, basis)
        return y

    def dense(self, name: str, x: tf.Tensor, units: int, *, role: str = 'head') -> tf.Tensor:
        """Fully connected layer of [N, C]. *Variable names*: ``W`` [C, units], ``b`` [units]."""
        channels = x.shape[1]
        with tf.variable_scope(name) as scope:
            start = tf.random_normal_initializer(stddev=math.sqrt(2 / channels))
            w, bits, basis = self._weight([channels, units], role, fan_out=units, initializer=start)
            b = tf.get_variable('b', shape=[units], initializer=tf.zeros_initializer())
            self._record(scope.name, role, [1, 1, channels, units], (1, 1), bits, basis, bias=units)
            return tf.nn.bias_add(tf.matmul(x, w), b)

    def norm(self, name: str, x: tf.Tensor, *, zero_gamma: bool = False) -> tf.Tensor:
        """Batch normalisation with statistics of this operating point.

        The moving variance gets the unbiased batch variance, the normalisation the biased one, as the published code.

        *Variable names* below ``name/<point>``: ``gamma``, ``beta`` (below ``name`` if affine parameters are shared),
        ``mean/EMA``, ``variance/EMA``; each [C].
        """
        shape, point = [self.channels(x)], str(self._point)
        affine = '' if self.share_affine else f'{point}/'
        start = tf.zeros_initializer() if zero_gamma else tf.ones_initializer()
        with tf.variable_scope(name):
            gamma = tf.get_variable(f'{affine}gamma', shape=shape, initializer=start)
            beta = tf.get_variable(f'{affine}beta', shape=shape, initializer=tf.zeros_initializer())
            moving = [tf.get_variable(f'{point}/{part}/EMA', shape=shape, initializer=first(), trainable=False)
                      for part, first in (('mean', tf.zeros_initializer), ('variance', tf.ones_initializer))]
            stored = {} if self.training else {'mean': moving[0], 'variance': moving[1]}
            y, *batch = tf.nn.fused_batch_norm(x, gamma, beta, **stored, epsilon=BN_EPSILON,
                                               data_format=self.data_format, is_training=self.training)
            if self.training and self.main:
                for variable, value in zip(moving, batch):
                    step = (variable - value) * (1 - BN_MOMENTUM)
                    tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, variable.assign_sub(step, read_value=False))
        return y

    def act(self, name: str, x: tf.Tensor, *, role: str = 'body', relu: bool = True, lower: float = 0.0) -> tf.Tensor:
        """ReLU and activation quantizer as one object, so that one quantized tensor can feed several layers.

        Args:
            name: scope of the quantizer; no variable is made where the policy says float.
            x: tensor to activate.
            role: role of the layers that it feeds.
            relu: False if ``x`` already is an activation, whose smallest possible value is ``lower``.
        """
        scope = self.quantization.relative(f'{tf.get_variable_scope().name}/{name}')
        return self.quantization.activation(name, x, scope=scope, role=role, relu=relu, lower=lower,
                                            point=str(self._point), strongest=self._point == self._points[0])

    def max_pool(self, x: tf.Tensor, kernel: int, stride: int) -> tf.Tensor:
        return tf.nn.max_pool2d(x, self._strides(kernel), self._strides(stride), 'SAME', data_format=self.data_format)

    def avg_pool(self, x: tf.Tensor, stride: int) -> tf.Tensor:
        """Average over disjoint stride x stride squares, as many as a strided convolution has outputs."""
        return tf.nn.avg_pool2d(x, self._strides(stride), self._strides(stride), 'SAME', data_format=self.data_format)

    def global_pool(self, x: tf.Tensor) -> tf.Tensor:
        """[N, C] mean over all positions."""
        return tf.reduce_mean(x, axis=[1, 2] if self.data_format == 'NHWC' else [2, 3])

    def pad_channels(self, x: tf.Tensor, channels: int) -> tf.Tensor:
        """``x`` with zero channels appended."""
        paddings = [[0, 0]] * 4
        paddings[self._axis] = [0, channels - self.channels(x)]
        return tf.pad(x, paddings)

    def channels(self, x: tf.Tensor) -> int:
        return x.shape[self._axis]

    @property
    def _axis(self) -> int:
        return 3 if self.data_format == 'NHWC' else 1

    def _strides(self, stride: int) -> list[int]:
        return [1, stride, stride, 1] if self.data_format == 'NHWC' else [1, 1, stride, stride]

    def _spatial(self, x: tf.Tensor) -> tuple[int, int]:
        shape = x.shape.as_list()
        return tuple(shape[1:3] if self.data_format == 'NHWC' else shape[2:4])

    def _weight(self, shape: list[int], role: str, *, fan_out: int, quantized_shape: list[int] | None = None,
                initializer: Any = None) -> tuple[tf.Tensor, int, int]:
        """The kernel to compute with, its stored bits and the size of its basis; made once per tower and variable."""
        # Truncated at two standard deviations, a normal loses the factor 1.3 of variance (tf.contrib variance scaling).
        start = initializer or tf.truncated_normal_initializer(stddev=math.sqrt(1.3 * 2 / fan_out))
        variable = tf.get_variable('W', shape=shape, initializer=start)
        if variable.name not in self._weights:
            w = tf.convert_to_tensor(variable)
            scope = self.quantization.relative(tf.get_variable_scope().name)
            self.kernels.append(w)
            flat = tf.reshape(w, quantized_shape) if quantized_shape else w
            q = self.quantization.weight(flat, scope=scope, role=role, fan_out=fan_out)
            quantizer = self.quantization.policy.weight(scope, role)
            bits, basis = (quantizer.bits, quantizer.basis_size(flat.shape[-1])) if quantizer else (32, 0)
            self._weights[variable.name] = tf.reshape(q, shape) if quantized_shape else q, bits, basis
        return self._weights[variable.name]

    def _record(self, scope: str, role: str, kernel: Sequence[int], out: tuple[int, int], bits: int, basis: int,
                bias: int = 0) -> None:
        height, width, inputs, outputs = kernel
        name = self.quantization.relative(scope)
        record = LayerRecord(name, role, (height, width, inputs, outputs), out, bits, basis, bias)
        self.layers[str(self._point)].append(record)
