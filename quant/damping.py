"""Damping of weights that oscillate between two levels: a pull toward the middle of their cells.

References:
    Overcoming Oscillations in Quantization-Aware Training, ICML 2022,
    https://arxiv.org/abs/2203.11086, section 4.2; the course of the coefficient is that of the
    published code, Qualcomm-AI-research/oscillations-qat.
"""

from __future__ import annotations

import math

from quant import cells
from quant.backend import tf
from quant.scope import Quantization

# Share of a training after which the pull sets in.
BEGIN = 0.25


def coefficient(progress: tf.Tensor) -> tf.Tensor:
    """Factor of the pull: 0 in the first quarter of a training, then up to 1 at its end.

    Args:
        progress: share of the training that is done, scalar.
    """
    rest = tf.maximum((progress - BEGIN) / (1 - BEGIN), 0.0)
    return 0.5 - 0.5 * tf.cos(math.pi * rest)


def distances(tower: Quantization) -> tf.Tensor:
    """Sum of squared distances of the quantized weights of a tower from the middles of their cells.

    A cell is what one level stands for; those at either end count as wide as their neighbours.
    Levels in equal steps lie in the middle of theirs. Weights beyond the outermost middles are left
    alone, as are those of two levels, which have one threshold. No gradient reaches thresholds.

    Args:
        tower: whose weights are built.
    """
    terms = []
    for scope, reading in tower.readings.items():
        if not reading.weights:
            continue
        thresholds = tower.codebooks[scope]().thresholds
        if thresholds.shape[0] > 1:
            values = tower.described.get(scope, reading.values)
            terms.append(_squares(values, tf.stop_gradient(thresholds)))
    return tf.add_n([tf.zeros([]), *terms])


def _squares(w: tf.Tensor, thresholds: tf.Tensor) -> tf.Tensor:
    """Sum of squared distances of weights from the middles of their cells.

    Args:
        w: float32, last axis C.
        thresholds: [L - 1, C], or [L - 1, 1] where all channels share them.
    """
    middles = _middles(thresholds)  # [L, C]
    held = tf.clip_by_value(w, middles[0], middles[-1])
    target = cells.at_levels(tf.stop_gradient(w), middles, thresholds)
    return tf.reduce_sum(tf.square(held - target))


def _middles(thresholds: tf.Tensor) -> tf.Tensor:
    """[L, C] middles of cells between thresholds [L - 1, C]."""
    between = 0.5 * thresholds[:-1] + 0.5 * thresholds[1:]
    lowest = 1.5 * thresholds[:1] - 0.5 * thresholds[1:2]
    highest = 1.5 * thresholds[-1:] - 0.5 * thresholds[-2:-1]
    return tf.concat([lowest, between, highest], 0)
