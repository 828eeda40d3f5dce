"""Adam, and with decay beside the step AdamW.

References:
    Adam: A Method for Stochastic Optimization, ICLR 2015, https://arxiv.org/abs/1412.6980,
    algorithm 1; Decoupled Weight Decay Regularization, ICLR 2019, https://arxiv.org/abs/1711.05101,
    algorithm 2 in the form of PyTorch: the learning rate multiplies the decay.
"""

from engine.optimization.optimizers import OptimizerOptions
from engine.optimization.rule import Slots, Step
from quant.backend import tf


class Adam:
    """Moves by the bias-corrected mean gradient over the root of the mean squared gradient.

    *Variable names*: ``Adam/m``, ``Adam/v``, of the shape of the variable. The powers of the decays
    follow from the number of the step, and are no variables.
    """

    slots = ('Adam/m', 'Adam/v')
    decays = False

    def __init__(self, options: OptimizerOptions):
        self._beta1 = options.beta1
        self._beta2 = options.beta2
        self._epsilon = options.epsilon

    def update(
        self, variable: tf.Variable, gradient: tf.Tensor, slots: Slots, step: Step
    ) -> tf.Operation:
        """See ``Rule``.

        Args:
            variable: to be moved.
            gradient: of its shape.
            slots: means of its gradient and of the square.
            step: learning rate and count.
        """
        direction = self.direction(gradient, slots, step)
        return variable.assign_sub(step.rate * direction, read_value=False)

    def direction(self, gradient: tf.Tensor, slots: Slots, step: Step) -> tf.Tensor:
        """The move at learning rate 1, of the shape of the gradient; updates the slots.

        Args:
            gradient: of a variable.
            slots: means of its gradient and of the square.
            step: its count is used.
        """
        mean = _follow(slots['Adam/m'], gradient, self._beta1)
        square = _follow(slots['Adam/v'], tf.square(gradient), self._beta2)
        mean = mean / _seen(self._beta1, step.count)
        square = square / _seen(self._beta2, step.count)
        return mean / (tf.sqrt(square) + self._epsilon)


def _follow(average: tf.Variable, value: tf.Tensor, decay: float) -> tf.Tensor:
    """The moving average after ``value``."""
    return average.assign(decay * average + (1 - decay) * value)


def _seen(decay: float, count: tf.Tensor) -> tf.Tensor:
    """Share of a moving average from zero that is made of values, scalar float32."""
    return tf.cast(1 - tf.pow(tf.constant(decay, tf.float64), count), tf.float32)
