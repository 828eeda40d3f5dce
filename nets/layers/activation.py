"""Activation functions with the quantizers behind them, as a policy has them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from nets.layers.coded import CodedTensors
from nets.layers.norm import Normalisation
from nets.layers.rprelu import rprelu
from nets.points import Point
from quant.backend import tf
from quant.scope import Quantization

# The smallest value of x * sigmoid(x).
SWISH_MIN = -0.2784645

# Activation functions of a network: as its blocks have it, or another in place of a ReLU, with the
# smallest value of each.
LOWEST = {'relu': 0.0, 'rprelu': -math.inf, 'relu6': 0.0, 'hswish': -0.375}
ACTIVATIONS = tuple(LOWEST)


def hswish(x: tf.Tensor) -> tf.Tensor:
    """``x relu6(x + 3) / 6``, Swish in pieces (MobileNetV3, https://arxiv.org/abs/1905.02244)."""
    return x * (tf.nn.relu6(x + 3) * (1 / 6))


class Activation(Normalisation):
    """Activations of one tower.

    Args:
        quantization: see ``Normalisation``.
        points: the network's operating points, strongest first.
        activation: of ``ACTIVATIONS``; others than ``relu`` come before every quantizer of
            activations but that of the stem's images and its output, and behind the sum of
            ``plain`` blocks: ``rprelu`` always, ``relu6`` and ``hswish`` where a ReLU would.
        **layout: as of ``Normalisation``.

    Attributes:
        coded: bits of its tensors.
    """

    def __init__(
        self,
        quantization: Quantization,
        points: Sequence[Point],
        *,
        activation: str,
        **layout: Any,
    ):
        super().__init__(quantization, points[0], **layout)
        self.coded = CodedTensors(quantization)
        self._points = points
        self._activation = activation

    def act(
        self,
        name: str,
        x: tf.Tensor,
        *,
        role: str = 'body',
        function: str = 'relu',
        lower: float = 0.0,
        channels: int | None = None,
    ) -> tf.Tensor:
        """Activation function and activation quantizer, so that one tensor can feed several layers.

        Args:
            name: scope of the quantizer; no variable is made where the policy says float.
            x: tensor to activate.
            role: role of the layers that it feeds.
            function: ``relu``, ``relu6``, ``swish``, ``hswish``, or ``none`` to quantize ``x`` as
                it is.
            lower: with ``none``, the smallest possible value of ``x``; -inf is both signs.
            channels: number of them in the widest network, by default those of ``x``.
        """
        scope = f'{self.quantization.current}/{name}'.lstrip('/')
        if role not in ('stem', 'image'):
            if self._activation == 'rprelu':
                x = self.rectified(name, x)
                return self._quantized(name, x, scope, role, relu=False, lower=-math.inf)
            if function == 'relu':
                function = self._activation
            # What is taken as it is may come from a sum that this function has rectified.
            lower = min(lower, LOWEST[self._activation])
        if function == 'relu6':
            x = tf.nn.relu6(x)
        elif function == 'swish':
            x = tf.nn.swish(x)
            lower = SWISH_MIN
        elif function == 'hswish':
            x = hswish(x)
        relu = function == 'relu'
        return self._quantized(name, x, scope, role, relu=relu, lower=lower, channels=channels)

    def rectified(self, name: str, x: tf.Tensor) -> tf.Tensor:
        """The activation function of the network, without a quantizer.

        *Variable names*: below ``name``, where it is learned.

        Args:
            name: scope of what it learns.
            x: images.
        """
        if self._activation == 'relu':
            return tf.nn.relu(x)
        if self._activation == 'relu6':
            return tf.nn.relu6(x)
        if self._activation == 'hswish':
            return hswish(x)
        with tf.variable_scope(name):
            return rprelu(self, x)

    def image(self, x: tf.Tensor) -> tf.Tensor:
        """The images that the stem reads: as they are, unless a rule names the role ``image``.

        *Variable names*: below ``image``.
        """
        return self.act('image', x, role='image', function='none', lower=-math.inf)

    def dense_input(self, x: tf.Tensor, role: str, lower: float) -> tf.Tensor:
        """The input of the fully connected layer whose scope is current, as its policy wants it.

        Such a layer quantizes itself what it reads: that has been pooled since it was activated.

        *Variable names*: below ``input_quant``.

        Args:
            x: [N, C].
            role: of the layer.
            lower: smallest possible value of ``x``.
        """
        scope = self.quantization.current
        return self._quantized('input_quant', x, scope, role, relu=False, lower=lower)

    def _quantized(
        self, name: str, x: tf.Tensor, scope: str, role: str, **values: Any
    ) -> tf.Tensor:
        """``x`` quantized as the point that is being built has it.

        Args:
            name: variable scope of the quantizer, below the current one.
            x: images, or [N, C].
            scope: by which the policy decides.
            role: of the layers that it feeds.
            **values: ``relu``, ``lower`` and ``channels`` as of ``Quantization.activation``.
        """
        bits = self.quantization.own_bits('activation', scope, role)
        y = self.quantization.activation(
            name,
            x,
            scope=scope,
            role=role,
            # Exits and widths of a size share what is private.
            point=str(Point(size=self._point.size, bits=bits)),
            shared=str(Point(bits=bits)),
            strongest=self._is_strongest(bits),
            axis=self.axis if x.shape.rank == 4 else 1,
            **values,
        )
        return self.coded.activated(y, scope, role)

    def _is_strongest(self, bits: int | None) -> bool:
        """Whether the layers belong to the first operating point or to one of its earlier exits.

        Args:
            bits: of the precision among whose points it is the first; None: among all.
        """
        first = dataclasses.replace(self._points[0], exit=None)
        if bits is not None:
            first = dataclasses.replace(first, bits=bits)
        return dataclasses.replace(self._point, exit=None) == first
