"""LAMB: Adam whose step is as long, in every layer, as its weights.

Reference: Large Batch Optimization for Deep Learning: Training BERT in 76 minutes, ICLR 2020,
https://arxiv.org/abs/1904.00962, algorithm 2 with the identity for phi; as in the authors' code,
variables that are exempt from decay move as by Adam.
"""

from engine.optimization.adam import Adam
from engine.optimization.rule import Slots, Step
from quant.backend import tf


class Lamb(Adam):
    """Moves by Adam's direction plus the decay, times the ratio of both norms.

    *Variable names*: those of ``Adam``.
    """

    decays = True

    def update(
        self, variable: tf.Variable, gradient: tf.Tensor, slots: Slots, step: Step
    ) -> tf.Operation:
        """See ``Rule``.

        Args:
            variable: to be moved.
            gradient: of its shape.
            slots: means of its gradient and of the square.
            step: learning rate, count and decay.
        """
        direction = self.direction(gradient, slots, step)
        rate = step.rate
        if step.decay is not None:
            weights = variable.read_value()
            direction += step.decay * weights
            rate = rate * _trust(weights, direction)
        return variable.assign_sub(rate * direction, read_value=False)


def _trust(weights: tf.Tensor, direction: tf.Tensor) -> tf.Tensor:
    """Ratio of the norms, scalar; 1 where one of them is 0."""
    length = tf.norm(weights)
    step = tf.norm(direction)
    defined = tf.logical_and(length > 0, step > 0)
    return tf.where_v2(defined, tf.math.divide_no_nan(length, step), 1.0)
