"""The moving average of the weights (``--model-ema``) in a training graph."""

import contextlib
from collections.abc import Iterator

from tensorpack import Callback

from engine.graph.tower import Model
from engine.optimization.averages import SCOPE, follow
from quant.backend import tf
from quant.state import Kind, declare


class AverageWeights(Callback):
    """Keeps a moving average of all that inference reads of a network, one update per step.

    Weights, affine parameters, moving means and variances and the state of quantizers are averaged
    alike, so that they belong to the same steps. An average starts as the variable that it follows.

    Args:
        model: the network, whose training towers are built.
        decay: share of an average that stays at a step.

    *Variable names*: ``model_ema/`` and the name of the variable.
    """

    def __init__(self, model: Model, decay: float):
        self._model = model
        self._decay = decay

    def _setup_graph(self) -> None:
        names, _ = self._model.inspect()
        variables = {}
        for variable in (*tf.global_variables(), *tf.local_variables()):
            variables[variable.op.name] = variable
        starts = []
        pairs = []
        shown = []
        self._copies: list[tf.Variable] = []
        for name in names:
            followed = variables[name]
            average = _average(followed)
            starts.append(average.assign(followed.read_value(), read_value=False))
            pairs.append((average, followed))
            for copy in self._of_towers(name, variables):
                self._copies.append(copy)
                shown.append(copy.assign(average.read_value(), read_value=False))
        self._start = tf.group(*starts)
        self._follow = tf.group(*follow(pairs, self._decay))
        self._show = tf.group(*shown)

    def _of_towers(self, name: str, variables: dict[str, tf.Variable]) -> list[tf.Variable]:
        """The variable of a name, and its copies in replicated towers."""
        names = [name]
        for tower in range(1, len(self._model.towers)):
            names.append(f'tower{tower}/{name}')
        return [variables[copy] for copy in names if copy in variables]

    def _before_train(self) -> None:
        if self.global_step == 0:
            self.trainer.sess.run(self._start)

    def _trigger_step(self) -> None:
        self.trainer.sess.run(self._follow)

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """A block in which the averages stand in the place of the variables of all towers."""
        session = self.trainer.sess
        trained = session.run(self._copies)
        session.run(self._show)
        try:
            yield
        finally:
            initializers = [variable.initializer for variable in self._copies]
            feed = {}
            for initializer, value in zip(initializers, trained):
                feed[initializer.inputs[1]] = value
            session.run(initializers, feed)


def _average(followed: tf.Variable) -> tf.Variable:
    """The variable that averages another one."""
    average = tf.get_variable(
        f'{SCOPE}{followed.op.name}',
        shape=followed.shape,
        dtype=followed.dtype.base_dtype,
        initializer=tf.zeros_initializer(),
        trainable=False,
    )
    declare(average, Kind.TEACHER)
    return average
