"""A quantizer of your own: trained at 4 bits in a network of five sizes, and exported.

    python examples/own_quantizer.py train_log/max_abs

Further flags are those of imagenet_tf.py. State that is learned: CONTRIBUTING.md.
"""

from __future__ import annotations

import dataclasses
import sys

import imagenet_tf
from quant import specs
from quant.backend import tf
from quant.quantizer import Activations, Quantizer, Weights, check_bits
from quant.straight_through import straight_through
from quant.uniform import codebook
from scripts import called, export


@dataclasses.dataclass(frozen=True)
class MaxAbs(Quantizer):
    """Whole multiples of a step: the largest weight's, and of activations up to a ceiling."""

    bits: int = 4
    ceiling: float = 6.0

    def __post_init__(self) -> None:
        """Checks the options."""
        check_bits(self)

    def refuses(self, role: str, *, weights: bool) -> str:
        """With 1 bit there is one level only."""
        return 'bits=1 leaves zero alone' if self.bits == 1 else ''

    def stored_values(self, channels: int) -> int:
        """A step for each kernel."""
        return 1

    def weight(self, w: tf.Tensor, weights: Weights) -> tf.Tensor:
        """Fake-quantized weights, whose gradient passes as it is."""
        high = 2 ** (self.bits - 1) - 1
        step = tf.reshape(tf.reduce_max(tf.abs(w)) / high, [1])
        weights.tower.report(lambda: codebook(step, -high, high))
        return straight_through(tf.round(w / step) * step, w)

    def activation(self, x: tf.Tensor, activations: Activations) -> tf.Tensor:
        """Fake-quantized activations, whose gradient passes within the range."""
        high = 2 ** (self.bits - activations.signed) - 1
        low = -high if activations.signed else 0
        step = tf.constant([self.ceiling / high])
        activations.tower.report(lambda: codebook(step, low, high, activations.offset))
        x = tf.clip_by_value(activations.shifted(x), low * step, high * step)
        return activations.shifted_back(straight_through(tf.round(x / step) * step, x))


def main(run: str, *flags: str) -> int:
    """Trains ``run`` with it, and writes ``RUN.onnx``."""
    specs.register('max_abs', 'own_quantizer.MaxAbs')
    bits = ['--quantizer', 'max_abs', '--qw', '4', '--qa', '4', '--no-private-basis']
    if status := imagenet_tf.main(['--preset', 'demo', *bits, '--logdir', run, *flags]):
        return status
    return export.main([run, '--out', f'{run}.onnx'])


if __name__ == '__main__':
    sys.exit(called(main))
