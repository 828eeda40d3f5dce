"""Batch normalisation with statistics of an operating point."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from nets.layers import sync_norm
from nets.layers.layout import Layout
from nets.points import Point
from quant.backend import tf
from quant.scope import Quantization
from quant.state import Kind, declare

BN_MOMENTUM = 0.9
BN_EPSILON = 1e-5


class Statistics(NamedTuple):
    """Batch statistics of one normalisation.

    Attributes:
        mean: [C].
        variance: [C], unbiased.
        count: number of values per channel.
    """

    mean: tf.Tensor
    variance: tf.Tensor
    count: tf.Tensor


class Normalised(NamedTuple):
    """A batch as one normalisation has seen it.

    Attributes:
        mean: [C].
        variance: [C], unbiased.
        x: the values.
        channels: C.
    """

    mean: tf.Tensor
    variance: tf.Tensor
    x: tf.Tensor
    channels: int


class Averages(NamedTuple):
    """Names of the variables that hold the statistics of one normalisation for inference.

    Attributes:
        mean, variance: names.
        row: index of the statistics in a table of those of all widths; None for no table.
    """

    mean: str
    variance: str
    row: int | None = None


class Normalisation(Layout):
    """Normalisations of one tower.

    Args:
        quantization: quantizers of the tower, which know the names of its variables.
        point: operating point whose statistics are used.
        training: batch statistics, or the stored ones.
        data_format: see ``Layout``.
        padding: see ``Layout``.
        share_affine: all points share gamma and beta and keep only their statistics apart (as
            universally slimmable networks do); by default all four are private.
        main: whether this is the tower whose batch statistics go into the moving averages.
        exchange: towers whose batch statistics are taken together in training; None takes those of
            this one.

    Attributes:
        normalised: what normalisations of a training tower have seen, by scope and point.
        averages: the variables that averages of these are stored in, by scope and point.
        pixels: of an image, as every normalisation of a training tower sees them, by scope and
            point.
        updates: last update of a table of statistics in this step, by name of the variable.
    """

    def __init__(
        self,
        quantization: Quantization,
        point: Point,
        *,
        training: bool,
        data_format: str,
        padding: str,
        share_affine: bool,
        main: bool,
        exchange: sync_norm.Exchange | None,
    ):
        super().__init__(data_format, padding, training)
        self.quantization = quantization
        self.share_affine = share_affine
        self.main = main
        self.normalised: dict[str, Normalised] = {}
        self.averages: dict[str, Averages] = {}
        self.pixels: dict[str, int] = {}
        self.updates: dict[str, tf.Operation] = {}
        self._point = point
        self._exchange = exchange
        self._exchanged = 0
        self._counts: dict[str, tf.Tensor] = {}
        # One operation for all normalisations.
        self._empty = tf.zeros([0])
        self._move_by = tf.constant(1 - BN_MOMENTUM)

    @property
    def statistics(self) -> dict[str, Statistics]:
        """Batch statistics of a training tower, by scope and point, for who calibrates."""
        found = {}
        for key, (mean, variance, x, channels) in self.normalised.items():
            if key not in self._counts:
                self._counts[key] = tf.size(x) // channels
            found[key] = Statistics(mean, variance, self._counts[key])
        return found

    def norm(self, name: str, x: tf.Tensor, *, zero_gamma: bool = False) -> tf.Tensor:
        """Batch normalisation with statistics of this operating point.

        The moving variance gets the unbiased batch variance, the normalisation the biased one, as
        the published code.

        *Variable names* below ``name/<point>``: ``gamma``, ``beta`` (below ``name`` if affine
        parameters are shared), ``mean/EMA``, ``variance/EMA``; each [C].

        Args:
            name: variable scope of the layer.
            x: images.
            zero_gamma: start gamma from 0 instead of 1.
        """
        channels = self.channels(x)
        ones = tf.ones_initializer()
        zeros = tf.zeros_initializer()
        gamma_start = zeros if zero_gamma else ones
        with tf.variable_scope(name):
            gamma = self._affine('gamma', channels, gamma_start)
            beta = self._affine('beta', channels, zeros)
            mean = self._moving('mean', channels, zeros)
            variance = self._moving('variance', channels, ones)
            y, batch_mean, batch_variance = self.normalise(x, gamma, beta, mean, variance)
            if self.training:
                scope = self.quantization.current
                key = f'{scope}/{self._point}'
                self.normalised[key] = Normalised(batch_mean, batch_variance, x, channels)
                self.averages[key] = Averages(mean.op.name, variance.op.name)
                self._move(mean, batch_mean)
                self._move(variance, batch_variance)
        return y

    def _affine(self, part: str, channels: int, start: Any) -> tf.Variable:
        """An affine parameter [C], of this operating point or of all.

        Args:
            part: ``gamma`` or ``beta``.
            channels: C.
            start: initializer.
        """
        point = '' if self.share_affine else str(self._point)
        name = f'{point}/{part}' if point else part
        variable = tf.get_variable(name, [channels], initializer=start)
        declare(variable, Kind.TRAINED, point=point)
        return variable

    def _moving(self, part: str, channels: int, start: Any) -> tf.Variable:
        """The moving average [C] of a batch statistic of this operating point.

        Args:
            part: ``mean`` or ``variance``.
            channels: C.
            start: initializer.
        """
        point = str(self._point)
        name = f'{point}/{part}/EMA'
        variable = tf.get_variable(name, [channels], initializer=start, trainable=False)
        declare(variable, Kind.MOVING, point=point)
        return variable

    def _move(self, variable: tf.Variable, value: tf.Tensor) -> None:
        """Moves an average toward the value of this batch, in the main tower."""
        if self.main:
            by = self._move_by
            if variable.dtype.base_dtype != by.dtype:
                by = tf.constant(1 - BN_MOMENTUM, variable.dtype)
            step = (variable - value) * by
            update = variable.assign_sub(step, read_value=False)
            tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, update)

    def normalise(
        self, x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, mean: tf.Tensor, variance: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Images normalised by the statistics of the batch in training, else by the given ones.

        Args:
            x: images.
            gamma: [C].
            beta: [C].
            mean: [C], stored.
            variance: [C], stored.

        Returns:
            The images, with the mean and the unbiased variance of the batch in training.
        """
        if self.training:
            key = f'{self.quantization.current}/{self._point}'.rstrip('/')
            self.pixels[key] = math.prod(x.shape[axis] or 0 for axis in self.space)
        if self.training and self._exchange:
            self._exchanged += 1
            return sync_norm.normalise(
                x,
                gamma,
                beta,
                self._exchange,
                key=f'normalisation {self._exchanged}',
                axis=self.axis,
                epsilon=BN_EPSILON,
            )
        if not self.training and self.data_format == 'NHWC' and x.shape[1:3] == (1, 1):
            # oneDNN's kernel takes milliseconds for a map of one pixel.
            y = tf.nn.batch_normalization(x, mean, variance, beta, gamma, BN_EPSILON)
            return y, mean, variance
        stored = {'mean': mean, 'variance': variance}
        if self.training:
            stored = {'mean': self._empty, 'variance': self._empty}
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
        shape = [-1, 1, 1, 1]
        shape[self.axis] = x.shape[1]
        return tf.squeeze(self.norm(name, tf.reshape(x, shape)), list(self.space))
