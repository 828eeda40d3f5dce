"""Stochastic gradient descent with momentum.

Reference: On the importance of initialization and momentum in deep learning, ICML 2013,
https://proceedings.mlr.press/v28/sutskever13.html
"""

from engine.optimization.optimizers import OptimizerOptions
from engine.optimization.rule import Slots, Step
from quant.backend import tf


class Momentum:
    """Moves by ``v``, or, looking ahead (Nesterov), by ``g + momentum v``; ``v = momentum v + g``.

    The learning rate multiplies the move, not what is remembered, as in the PyTorch and TensorFlow
    implementations.

    *Variable names*: ``Momentum``, of the shape of the variable.
    """

    slots = ('Momentum',)
    decays = False

    def __init__(self, options: OptimizerOptions):
        self._momentum = options.momentum
        self._nesterov = options.nesterov
        self._kept: tf.Tensor | None = None

    def update(
        self, variable: tf.Variable, gradient: tf.Tensor, slots: Slots, step: Step
    ) -> tf.Operation:
        """See ``Rule``.

        Args:
            variable: to be moved.
            gradient: of its shape.
            slots: its ``Momentum``.
            step: learning rate.
        """
        return tf.raw_ops.ResourceApplyMomentum(
            var=variable.handle,
            accum=slots['Momentum'].handle,
            lr=step.rate,
            grad=gradient,
            momentum=self._factor(),
            use_nesterov=self._nesterov,
        )

    def _factor(self) -> tf.Tensor:
        """The momentum: one tensor of a graph for all variables."""
        graph = tf.get_default_graph()
        if self._kept is None or self._kept.graph is not graph:
            with graph.colocate_with(None, ignore_existing=True), tf.control_dependencies(None):
                self._kept = tf.constant(self._momentum)
        return self._kept
