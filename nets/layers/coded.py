"""How many bits the tensors of a tower need, for the records of the layers that read them."""

from __future__ import annotations

from typing import Any

from quant.backend import tf
from quant.scope import Quantization


class CodedTensors:
    """Bits of tensors that the policy of a tower has decided about.

    Args:
        quantization: of the tower, which knows which activations get which quantizer.
    """

    def __init__(self, quantization: Quantization):
        self._quantization = quantization
        self._bits: dict[Any, int] = {}

    def activated(self, y: tf.Tensor, scope: str, role: str) -> tf.Tensor:
        """``y``, whose bits are remembered.

        Args:
            y: the output of an activation.
            scope: in which it was activated.
            role: of the layers that read it.
        """
        self._bits[y.ref()] = self._quantization.policy.activation_bits(scope, role)
        return y

    def same(self, y: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        """``y``, whose values need as many bits as those of ``x``."""
        bits = self._bits.get(x.ref())
        if bits is not None:
            self._bits[y.ref()] = bits
        return y

    def bits(self, x: tf.Tensor, scope: str, role: str) -> int:
        """Bits of the input of a layer: as it was activated, or else by the rule for its role.

        Args:
            x: the input.
            scope: of the layer.
            role: of the layer.
        """
        bits = self._bits.get(x.ref())
        if bits is not None:
            return bits
        if role == 'stem':
            role = 'image'
        return self._quantization.policy.activation_bits(scope, role)
