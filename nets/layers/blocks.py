"""Convolution, normalisation and activation: the one vocabulary in which networks are written.

A network names its layers and their roles; whether something is quantized is decided by the policy,
and a weight that several operating points use is read and quantized once per tower.

Layers compute in the type of the images: float32 or bfloat16. Whatever follows a global pool is
float32, and so are variables, statistics and quantizers.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

from nets.cost import LayerRecord
from nets.layers import sync_norm
from nets.layers.activation import LOWEST, Activation
from nets.layers.grouped import grouped_conv
from nets.layers.kernels import Kernel, Kernels, MetaConv
from nets.points import Point
from quant.backend import tf
from quant.policy import Policy
from quant.scope import Quantization


class Blocks(Activation):
    """Builds the layers of one tower.

    Args:
        policy: which layer gets which quantizer.
        points: the network's operating points, strongest first.
        training: batch statistics and quantizer statistics, or the stored ones.
        data_format: see ``Layout``.
        padding: see ``Layout``.
        share_affine: see ``Normalisation``.
        main: see ``Normalisation``.
        seed: int32 [2] that changes with every step, for layers that draw noise; None draws it from
            the graph's seed.
        progress: share of the training that is done, for what is annealed.
        exchange: see ``Normalisation``.
        opaque: see ``Quantization``.
        compiles: see ``Quantization``.
        native: see ``Quantization``.
        observing: whether quantizers see what they start from though nothing is trained.
        activation: see ``Activation``.

    Attributes:
        layers: layer records by spelling of the operating point.
        weights: the tower's kernels.
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
        opaque: bool = False,
        compiles: bool = False,
        native: bool = False,
        observing: bool = False,
        activation: str = 'relu',
    ):
        quantization = Quantization(
            policy,
            training=training or observing,
            opaque=opaque,
            compiles=compiles,
            native=native,
        )
        super().__init__(
            quantization,
            points,
            activation=activation,
            training=training,
            data_format=data_format,
            padding=padding,
            share_affine=share_affine,
            main=main,
            exchange=exchange,
        )
        self.layers: dict[str, list[LayerRecord]] = {str(point): [] for point in points}
        self.weights = Kernels(self.quantization, training=training)
        self.progress = progress
        self._serves: tuple[Point, ...] = (points[0],)
        self._meta: MetaConv | None = None
        self._gate = ''
        self._seed = seed
        self._draws = 0
        self._same: dict[Any, tf.Tensor] = {}

    @property
    def point(self) -> Point:
        """The operating point that names the statistics of the layers that are being built."""
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
        """Layers built inside are normalised for ``point`` and reuse the variables of the others.

        Args:
            point: names the statistics; not necessarily an operating point of the network.
            serves: operating points that compute these layers, by default ``point`` alone.
        """
        before = self._point, self._serves
        self._point = self.spelled(point)
        self._serves = (self._point,)
        if serves is not None:
            self._serves = tuple(map(self.spelled, serves))
        try:
            with tf.variable_scope(tf.get_variable_scope(), reuse=tf.AUTO_REUSE):
                yield
        finally:
            self._point, self._serves = before

    @contextlib.contextmanager
    def precision(self, bits: int) -> Iterator[None]:
        """Layers built inside are quantized to a precision, and belong to its operating points.

        Args:
            bits: that name it.
        """
        with self.quantization.at(bits):
            yield

    def spelled(self, point: Point) -> Point:
        """An operating point of a network at the precision that is built."""
        return dataclasses.replace(point, bits=self.quantization.bits)

    def inference(self) -> Blocks:
        """A builder for the same tower in inference mode, whose kernels may change every step.

        Layer records go to the same lists; kernels are not among those of this builder. Names are
        relative to the variable scope in which it is made.
        """
        other = copy.copy(self)
        other.training = False
        other.normalised = {}
        other.averages = {}
        other.quantization = self.quantization.inference()
        other.weights = Kernels(other.quantization, training=self.training)
        return other

    @contextlib.contextmanager
    def generated(self, meta: MetaConv | None) -> Iterator[None]:
        """Kernels of the convolutions built inside come from ``meta``; with None as elsewhere."""
        before, self._meta = self._meta, meta
        try:
            yield
        finally:
            self._meta = before

    @contextlib.contextmanager
    def gated(self, gate: str) -> Iterator[None]:
        """Layers built inside run only for images whose ``gate`` is open; their records say so."""
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
        """Square convolution.

        *Variable names*: ``W`` [k, k, in / groups, out], see also ``MetaConv``; ``b`` [out].

        Args:
            name: variable scope of the layer.
            x: images.
            channels: of the output.
            kernel: side of the window.
            stride: of the window.
            groups: number of groups.
            role: of the layer.
            start: initializer as of ``Kernels.get``.
            bias_start: initializer of the bias; None is no bias.
        """
        shape = [kernel, kernel, self.channels(x) // groups, channels]
        with tf.variable_scope(name) as scope:
            w = self.weights.get(
                shape,
                role,
                fan_out=kernel * kernel * channels,
                start=start,
                meta=self._meta,
                point=self._point,
            )
            # Precisions convolve the same images with the same kernels where these are float.
            key = x.ref(), w.value.ref(), stride, groups
            if key in self._same:
                y = self._same[key]
            elif groups > 1 and self.training and self.data_format == 'NHWC':
                value = tf.cast(w.value, x.dtype)
                y = grouped_conv(x, value, stride, groups, self.pads(kernel, stride))
                self.convolved.append(y)
            else:
                y = self.convolve(x, w.value, stride)
            if self.quantization.bits is not None:
                self._same[key] = y
            bias = 0
            if bias_start is not None:
                bias = channels
                b = tf.get_variable('b', shape=[channels], initializer=bias_start)
                y = tf.nn.bias_add(y, tf.cast(b, y.dtype), data_format=self.data_format)
            self.record(scope.name, role, shape, self.spatial(y), w, bias=bias, read=x)
        return y

    def depthwise_conv(
        self, name: str, x: tf.Tensor, kernel: int, *, stride: int = 1, fan_out: int | None = None
    ) -> tf.Tensor:
        """Depthwise square convolution without bias; the quantizer sees [k, k, 1, C].

        *Variable names*: ``W`` [k, k, C, 1], see also ``MetaConv``.

        Args:
            name: variable scope of the layer.
            x: images.
            kernel: side of the window.
            stride: of the window.
            fan_out: sets the deviation of initial values, by default that of one channel.
        """
        channels = self.channels(x)
        rows = [kernel, kernel, 1, channels]
        with tf.variable_scope(name) as scope:
            w = self.weights.get(
                [kernel, kernel, channels, 1],
                'depthwise',
                fan_out=fan_out or kernel * kernel,
                meta=self._meta,
                point=self._point,
                rows=rows,
            )
            y = self.filter(x, w.value, stride)
            self.record(scope.name, 'depthwise', rows, self.spatial(y), w, read=x)
        return y

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
        """Fully connected layer; starts normal with variance 2 / C and without bias.

        *Variable names*: ``W`` [C, units], ``b`` [units].

        Args:
            name: variable scope of the layer.
            x: [N, C], behind an activation function and a pool.
            units: of the output.
            role: of the layer.
            start: initializer of the weights.
            bias_start: initializer of the bias.
        """
        channels = x.shape[1]
        normal = tf.random_normal_initializer(stddev=math.sqrt(2 / channels))
        with tf.variable_scope(name) as scope:
            x = self.dense_input(x, role, LOWEST[self._activation])
            w = self.weights.get([channels, units], role, fan_out=units, start=start or normal)
            zeros = tf.zeros_initializer()
            b = tf.get_variable('b', shape=[units], initializer=bias_start or zeros)
            shape = [1, 1, channels, units]
            self.record(scope.name, role, shape, (1, 1), w, bias=units, read=x)
            return tf.nn.bias_add(tf.matmul(x, w.value), b)

    def max_pool(self, x: tf.Tensor, kernel: int, stride: int) -> tf.Tensor:
        """Maximum over windows, as of ``Layout.max_pool``: its values have the bits of ``x``.

        Args:
            x: images.
            kernel: pixels on a side of a window.
            stride: pixels from one window to the next.
        """
        return self.coded.same(super().max_pool(x, kernel, stride), x)

    def record(
        self,
        scope: str,
        role: str,
        shape: Sequence[int],
        out: tuple[int, int],
        kernel: Kernel,
        *,
        read: tf.Tensor,
        inputs: int | None = None,
        bias: int = 0,
        points: Sequence[Point] | None = None,
    ) -> None:
        """Notes a layer for its operating points.

        Args:
            scope: of the layer.
            role: of the layer.
            shape: of the kernel.
            out: height and width of the output.
            kernel: that it computes with.
            read: its input.
            inputs: number of values per image that it reads, by default all of ``read``.
            bias: number of biases.
            points: operating points, by default all that are being served.
        """
        name, (height, width, channels, outputs) = self.quantization.relative(scope), shape
        if inputs is None:
            inputs = math.prod(read.shape[1:])
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
            self.coded.bits(read, name, role),
            inputs,
            kernel.packed_bits,
            kernel.nested,
        )
        for point in points or self._serves:
            self.layers[str(point)].append(record)
