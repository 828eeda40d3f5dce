"""Convolution, normalisation and activation: the one vocabulary in which networks are written.

A network names its layers and their roles; whether something is quantized is decided by the policy, and a weight that
several operating points use is read and quantized once per tower.

Layers compute in the type of the images: float32 or bfloat16. Whatever follows a global pool is float32, and so are
variables, statistics and quantizers.
"""

import contextlib
import copy
import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from nets.cost import LayerRecord
from nets.layers import sync_norm
from nets.layers.kernels import Kernel, Kernels, MetaConv
from nets.points import Point
from quant.backend import tf
from quant.policy import Policy
from quant.scope import Quantization

BN_MOMENTUM = 0.9
BN_EPSILON = 1e-5

# The smallest value of x * sigmoid(x).
SWISH_MIN = -0.2784645


@dataclasses.dataclass
class Outputs:
    """What one tower computes.

    Attributes:
        logits: [N, classes] float32 by operating point, strongest first.
        extras: Named tensors that are scored, summarised or used by the loss beside the points.
    """

    logits: dict[Point, tf.Tensor]
    extras: dict[str, tf.Tensor] = dataclasses.field(default_factory=dict)


class Statistics(NamedTuple):
    """Batch statistics of one normalisation: mean and unbiased variance [C], and the number of values per channel."""

    mean: tf.Tensor
    variance: tf.Tensor
    count: tf.Tensor


class Blocks:
    """Builds the layers of one tower.

    Args:
        policy: which layer gets which quantizer.
        points: the network's operating points, strongest first.
        training: batch statistics and quantizer statistics, or the stored ones.
        data_format: ``NHWC`` or ``NCHW``; inputs and outputs of every method have it.
        padding: of strided windows: ``same`` (TensorFlow's rule, more at the bottom and right) or ``symmetric``
            (PyTorch networks: kernel // 2 on all sides).
        share_affine: all points share gamma and beta of a normalisation and keep only their statistics apart (as
            universally slimmable networks do); by default all four are private.
        main: whether this is the tower whose batch statistics go into the moving averages.
        seed: int32 [2] that changes with every step, for layers that draw noise; None draws it from the graph's seed.
        progress: share of the training that is done, for what is annealed.
        exchange: towers whose batch statistics are taken together in training; None takes those of this one.

    Attributes:
        layers: layer records by spelling of the operating point.
        statistics: what a training tower's normalisations saw, by scope and point.
        weights: the tower's kernels.
        updates: last update of a table of statistics in this step, by name of the variable.
    """

    def __init__(
        self,
        policy: Policy,
        points: Sequence[Point],
        *,
        training: bool,
        data_format: str = 'NHWC',
        padding: str = 'same',
        share_affine: bool = False,
        main: bool = True,
        seed: tf.Tensor | None = None,
        progress: tf.Tensor | float = 0.0,
        exchange: sync_norm.Exchange | None = None,
    ):
        self.training, self.data_format, self.share_affine, self.main = (
            training,
            data_format,
            share_affine,
            main,
        )
        self.padding = padding
        self.quantization = Quantization(policy, training=training)
        self.layers: dict[str, list[LayerRecord]] = {str(point): [] for point in points}
        self.statistics: dict[str, Statistics] = {}
        self.updates: dict[str, tf.Operation] = {}
        self.weights = Kernels(self.quantization, training=training)
        self._points, self._point = points, points[0]
        self._serves: tuple[Point, ...] = (points[0],)
        self._meta: MetaConv | None = None
        self._gate = ''
        self._seed, self._draws, self.progress = seed, 0, progress
        self._exchange, self._exchanged = exchange, 0

    @property
    def point(self) -> Point:
        """What the layers that are being built are normalised for."""
        return self._point

    @property
    def serves(self) -> tuple[Point, ...]:
        """Operating points that compute the layers that are being built."""
        return self._serves

    @property
    def kernels(self) -> list[tf.Tensor]:
        """The kernels read so far, for weight decay; each once."""
        return self.weights.read

    @contextlib.contextmanager
    def at(self, point: Point, *, serves: Sequence[Point] | None = None) -> Iterator[None]:
        """Layers built inside are normalised for ``point`` and reuse the variables of the other points.

        Args:
            point: names the statistics; not necessarily an operating point of the network.
            serves: operating points that compute these layers, by default ``point`` alone.
        """
        before = self._point, self._serves
        self._point, self._serves = point, (point,) if serves is None else tuple(serves)
        try:
            with tf.variable_scope(tf.get_variable_scope(), reuse=tf.AUTO_REUSE):
                yield
        finally:
            self._point, self._serves = before

    def inference(self) -> 'Blocks':
        """A builder for the same tower in inference mode, whose kernels may change from step to step.

        Layer records go to the same lists; kernels are not among those of this builder. Names are relative to the
        variable scope in which it is made.
        """
        other = copy.copy(self)
        other.training, other.statistics = False, {}
        other.quantization = Quantization(self.quantization.policy, training=False)
        other.weights = Kernels(other.quantization, training=self.training)
        return other

    @contextlib.contextmanager
    def generated(self, meta: MetaConv | None) -> Iterator[None]:
        """Kernels of the convolutions built inside come from ``meta``; with None they are variables as elsewhere."""
        before, self._meta = self._meta, meta
        try:
            yield
        finally:
            self._meta = before

    @contextlib.contextmanager
    def gated(self, gate: str) -> Iterator[None]:
        """Layers built inside are executed only for images whose ``gate`` is open; their records say so."""
        before, self._gate = self._gate, gate
        try:
            yield
        finally:
            self._gate = before

    def uniform(self, shape: tf.Tensor) -> tf.Tensor:
        """Noise in [0, 1) that the seed and the number of earlier calls determine."""
        if self._seed is None:
            return tf.random.uniform(shape)
        self._draws += 1
        return tf.random.stateless_uniform(shape, seed=self._seed + [self._draws, 0])

    def conv(
        self,
        name: str,
        x: tf.Tensor,
        channels: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        role: str = 'body',
        start: Any = None,
        bias_start: Any = None,
    ) -> tf.Tensor:
        """Square convolution; ``start`` as of ``Kernels.get``, without ``bias_start`` there is no bias.

        *Variable names*: ``W`` [k, k, in / groups, out], see also ``MetaConv``; ``b`` [out].
        """
        shape = [kernel, kernel, self.channels(x) // groups, channels]
        with tf.variable_scope(name) as scope:
            w = self.weights.get(
                shape,
                role,
                fan_out=kernel * kernel * channels,
                start=start,
                meta=self._meta,
                point=str(self._point),
            )
            if groups > 1 and self.training and self.data_format == 'NHWC':
                y = _grouped_conv(
                    x, tf.cast(w.value, x.dtype), stride, groups, self._padding(kernel, stride)
                )
            else:
                y = self.convolve(x, w.value, stride)
            if bias_start is not None:
                b = tf.get_variable('b', shape=[channels], initializer=bias_start)
                y = tf.nn.bias_add(y, tf.cast(b, y.dtype), data_format=self.data_format)
            self.record(
                scope.name,
                role,
                shape,
                self.spatial(y),
                w,
                bias=0 if bias_start is None else channels,
                inputs=math.prod(x.shape[1:]),
            )
        return y

    def depthwise_conv(
        self, name: str, x: tf.Tensor, kernel: int, *, stride: int = 1, fan_out: int | None = None
    ) -> tf.Tensor:
        """Depthwise square convolution without bias. *Variable names*: ``W`` [k, k, C, 1], see also ``MetaConv``.

        The quantizer sees [k, k, 1, C]: one basis per channel.
        """
        channels = self.channels(x)
        rows = [kernel, kernel, 1, channels]
        with tf.variable_scope(name) as scope:
            w = self.weights.get(
                [kernel, kernel, channels, 1],
                'depthwise',
                fan_out=fan_out or kernel * kernel,
                meta=self._meta,
                point=str(self._point),
                rows=rows,
            )
            y = self.filter(x, w.value, stride)
            self.record(
                scope.name, 'depthwise', rows, self.spatial(y), w, inputs=math.prod(x.shape[1:])
            )
        return y

    def convolve(self, x: tf.Tensor, w: tf.Tensor, stride: int) -> tf.Tensor:
        """Convolution of ``x`` with the kernel ``w`` [k, k, in, out], computed in the type of ``x``."""
        return tf.nn.conv2d(
            x,
            tf.cast(w, x.dtype),
            self._strides(stride),
            self._padding(w.shape[0], stride),
            data_format=self.data_format,
        )

    def filter(self, x: tf.Tensor, w: tf.Tensor, stride: int) -> tf.Tensor:
        """Depthwise convolution of ``x`` with the kernel ``w`` [k, k, C, 1], computed in the type of ``x``."""
        return tf.nn.depthwise_conv2d(
            x,
            tf.cast(w, x.dtype),
            self._strides(stride),
            self._padding(w.shape[0], stride),
            data_format=self.data_format,
        )

    def dense(
        self,
        name: str,
        x: tf.Tensor,
        units: int,
        *,
        role: str = 'head',
        start: Any = None,
        bias_start: Any = None,
    ) -> tf.Tensor:
        """Fully connected layer of [N, C]; starts normal with variance 2 / C and without bias.

        *Variable names*: ``W`` [C, units], ``b`` [units].
        """
        channels = x.shape[1]
        with tf.variable_scope(name) as scope:
            w = self.weights.get(
                [channels, units],
                role,
                fan_out=units,
                start=start or tf.random_normal_initializer(stddev=math.sqrt(2 / channels)),
            )
            b = tf.get_variable(
                'b', shape=[units], initializer=bias_start or tf.zeros_initializer()
            )
            self.record(
                scope.name, role, [1, 1, channels, units], (1, 1), w, bias=units, inputs=channels
            )
            return tf.nn.bias_add(tf.matmul(x, w.value), b)

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
            moving = [
                tf.get_variable(
                    f'{point}/{part}/EMA', shape=shape, initializer=first(), trainable=False
                )
                for part, first in (
                    ('mean', tf.zeros_initializer),
                    ('variance', tf.ones_initializer),
                )
            ]
            y, *batch = self.normalise(x, gamma, beta, *moving)
            if self.training:
                scope = self.quantization.relative(tf.get_variable_scope().name)
                self.statistics[f'{scope}/{point}'] = Statistics(
                    batch[0], batch[1], tf.size(x) // shape[0]
                )
            if self.training and self.main:
                for variable, value in zip(moving, batch):
                    step = (variable - value) * (1 - BN_MOMENTUM)
                    tf.add_to_collection(
                        tf.GraphKeys.UPDATE_OPS, variable.assign_sub(step, read_value=False)
                    )
        return y

    def normalise(
        self, x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, mean: tf.Tensor, variance: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """``x`` normalised by the statistics of the batch in training, with their mean and unbiased variance, else by
        the given ones.
        """
        if self.training and self._exchange:
            self._exchanged += 1
            return sync_norm.normalise(
                x,
                gamma,
                beta,
                self._exchange,
                key=f'normalisation {self._exchanged}',
                axis=self._axis,
                epsilon=BN_EPSILON,
            )
        if not self.training and self.data_format == 'NHWC' and x.shape[1:3] == (1, 1):
            # oneDNN's kernel takes milliseconds for a map of one pixel.
            return (
                tf.nn.batch_normalization(x, mean, variance, beta, gamma, BN_EPSILON),
                mean,
                variance,
            )
        stored = {} if self.training else {'mean': mean, 'variance': variance}
        return tf.nn.fused_batch_norm(
            x,
            gamma,
            beta,
            **stored,
            epsilon=BN_EPSILON,
            data_format=self.data_format,
            is_training=self.training,
        )

    def norm_dense(self, name: str, x: tf.Tensor) -> tf.Tensor:
        """Batch normalisation of [N, C], see ``norm``."""
        axes = [1, 2] if self.data_format == 'NHWC' else [2, 3]
        return tf.squeeze(
            self.norm(
                name,
                tf.reshape(
                    x, [-1, *(x.shape[1] if axis == self._axis else 1 for axis in (1, 2, 3))]
                ),
            ),
            axes,
        )

    def act(
        self,
        name: str,
        x: tf.Tensor,
        *,
        role: str = 'body',
        function: str = 'relu',
        lower: float = 0.0,
    ) -> tf.Tensor:
        """Activation function and activation quantizer as one object, so that one tensor can feed several layers.

        Args:
            name: scope of the quantizer; no variable is made where the policy says float.
            x: tensor to activate.
            role: role of the layers that it feeds.
            function: ``relu``, ``relu6``, ``swish``, or ``none`` if ``x`` is to be quantized as it is.
            lower: with ``none``, the smallest possible value of ``x``; -inf takes codes of both signs.
        """
        if function == 'relu6':
            x, function = tf.nn.relu6(x), 'none'
        if function == 'swish':
            x, function, lower = tf.nn.swish(x), 'none', SWISH_MIN
        scope = self.quantization.relative(f'{tf.get_variable_scope().name}/{name}')
        return self.quantization.activation(
            name,
            x,
            scope=scope,
            role=role,
            relu=function == 'relu',
            lower=lower,
            point=str(self._point),
            strongest=self._strongest,
        )

    def max_pool(self, x: tf.Tensor, kernel: int, stride: int) -> tf.Tensor:
        return tf.nn.max_pool2d(
            x,
            self._strides(kernel),
            self._strides(stride),
            self._padding(kernel, stride),
            data_format=self.data_format,
        )

    def avg_pool(self, x: tf.Tensor, stride: int) -> tf.Tensor:
        """Average over disjoint stride x stride squares, as many as a strided convolution has outputs."""
        return tf.nn.avg_pool2d(
            x, self._strides(stride), self._strides(stride), 'SAME', data_format=self.data_format
        )

    def global_pool(self, x: tf.Tensor) -> tf.Tensor:
        """[N, C] float32 mean over all positions."""
        x = tf.cast(x, tf.float32)
        if self.data_format == 'NCHW':
            return tf.reduce_mean(x, axis=[2, 3])
        # One large window takes half the time of reduce_mean on the CPU: every gate begins with a pool.
        window = [1, *x.shape[1:3], 1]
        return tf.nn.avg_pool(x, window, window, 'VALID')[:, 0, 0]

    def pad_channels(self, x: tf.Tensor, channels: int) -> tf.Tensor:
        """``x`` with zero channels appended."""
        paddings = [[0, 0]] * 4
        paddings[self._axis] = [0, channels - self.channels(x)]
        return tf.pad(x, paddings)

    def channels(self, x: tf.Tensor) -> int:
        return x.shape[self._axis]

    @property
    def _strongest(self) -> bool:
        """Whether the current layers belong to the first operating point or to one of its earlier exits."""
        return dataclasses.replace(self._point, exit=None) == dataclasses.replace(
            self._points[0], exit=None
        )

    @property
    def _axis(self) -> int:
        return 3 if self.data_format == 'NHWC' else 1

    def _strides(self, stride: int) -> list[int]:
        return [1, stride, stride, 1] if self.data_format == 'NHWC' else [1, 1, stride, stride]

    def spatial(self, x: tf.Tensor) -> tuple[int, int]:
        shape = x.shape.as_list()
        return tuple(shape[1:3] if self.data_format == 'NHWC' else shape[2:4])

    def _padding(self, kernel: int, stride: int) -> str | list[list[int]]:
        """Without stride both rules are the same, and TensorFlow's has the faster kernels."""
        if self.padding == 'same' or stride == 1:
            return 'SAME'
        paddings = [[0, 0]] * 4
        for axis in (1, 2) if self.data_format == 'NHWC' else (2, 3):
            paddings[axis] = [kernel // 2, kernel // 2]
        return paddings

    def record(
        self,
        scope: str,
        role: str,
        shape: Sequence[int],
        out: tuple[int, int],
        kernel: Kernel,
        *,
        inputs: int,
        bias: int = 0,
        points: Sequence[Point] | None = None,
    ) -> None:
        """Notes a layer for ``points``, by default for all that are being served."""
        name, (height, width, channels, outputs) = self.quantization.relative(scope), shape
        quantizer = self.quantization.policy.activation(name, role)
        record = LayerRecord(
            name,
            role,
            (height, width, channels, outputs),
            out,
            kernel.bits,
            kernel.basis,
            bias,
            kernel.generated,
            self._gate,
            quantizer.bits if quantizer else 32,
            inputs,
        )
        for point in self._serves if points is None else points:
            self.layers[str(point)].append(record)


def _grouped_conv(
    x: tf.Tensor, w: tf.Tensor, stride: int, groups: int, padding: str | list[list[int]]
) -> tf.Tensor:
    """Grouped convolution of NHWC as one batched product per kernel position: TensorFlow's has no gradient on the CPU.

    Args:
        x: [N, H, W, groups * c].
        w: [k, k, c, out].
        stride, groups, padding: as of ``tf.nn.conv2d``.
    """
    size, height, width = w.shape[0], x.shape[1], x.shape[2]
    if padding == 'SAME':
        total = [
            max((math.ceil(side / stride) - 1) * stride + size - side, 0)
            for side in (height, width)
        ]
        padding = [[0, 0], *([t // 2, t - t // 2] for t in total), [0, 0]]
    x = tf.pad(x, padding)
    rows, columns = ((side - size) // stride + 1 for side in x.shape[1:3])
    kernel = tf.reshape(w, [size, size, w.shape[2], groups, -1])
    taps = []
    for i in range(size):
        for j in range(size):
            tap = x[
                :,
                i : i + (rows - 1) * stride + 1 : stride,
                j : j + (columns - 1) * stride + 1 : stride,
            ]
            tap = tf.reshape(tap, [-1, rows, columns, groups, w.shape[2]])
            taps.append(tf.einsum('nhwgc,cgd->nhwgd', tap, kernel[i, j]))
    return tf.reshape(tf.add_n(taps), [-1, rows, columns, w.shape[3]])
