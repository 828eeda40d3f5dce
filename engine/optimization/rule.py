"""Parts of an optimizer: a rule per variable, and its application to all of them."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

from engine.loading import uncollected
from engine.optimization.recompute import recompute
from quant.backend import tf
from quant.private_api import wait_for
from quant.slim_variables import zeros

Slots = Mapping[str, tf.Variable]


@dataclasses.dataclass(frozen=True)
class Step:
    """Rate, number and decay of one update of a variable.

    Attributes:
        rate: its learning rate, scalar float32: that of the schedule times its own factor.
        count: number of this step, scalar float64, 1 at the first one.
        decay: weight decay of this variable; None if it is exempt from decay.
    """

    rate: tf.Tensor
    count: tf.Tensor
    decay: float | None


class Rule(Protocol):
    """How one variable is updated: a class whose only argument is ``OptimizerOptions``."""

    # Names below a variable's own of what is kept for it: zeros of its shape at first.
    slots: ClassVar[tuple[str, ...]]

    # Whether ``update`` decays the weights itself where decay is decoupled.
    decays: ClassVar[bool]

    def update(
        self, variable: tf.Variable, gradient: tf.Tensor, slots: Slots, step: Step
    ) -> tf.Operation:
        """An op that updates a variable and its slots.

        Args:
            variable: float32.
            gradient: of its shape.
            slots: by their names.
            step: rate, count and decay.
        """


@dataclasses.dataclass(frozen=True)
class PerVariable:
    """Settings of one variable that others need not share.

    Attributes:
        rate: factor on the learning rate; 0 where the variable does not learn.
        decay: weight decay beside the step; None if it is exempt.
        rule: how it is updated; None as most are.
    """

    rate: float = 1.0
    decay: float | None = None
    rule: Rule | None = None


class RuleOptimizer(tf.train.Optimizer):
    """Applies a rule to every variable of every tower.

    Nothing is counted here: the number of the step comes from outside, so that it is the same for
    any number of towers.

    Args:
        rule: the rule.
        rate: learning rate of the step, scalar.
        count: gives the number of the step, scalar integer, 1 at the first one.
        settings: gives what is a variable's own.
        mean: averages gradients over the workers, all of which have the same variables.
        decoupled: whether weights decay beside the step.
        kept: gives the tensors of the forward pass that stay for the backward pass, which computes
            the others again; None: all stay.

    *Variable names*: those of the rule's ``slots``, below the variable's own name.
    """

    def __init__(
        self,
        rule: Rule,
        rate: tf.Tensor,
        *,
        count: Callable[[], tf.Tensor],
        settings: Callable[[tf.Variable], PerVariable],
        mean: Callable[[Sequence[tf.Tensor]], Sequence[tf.Tensor]] = list,
        decoupled: bool = False,
        kept: Callable[[], Sequence[tf.Tensor]] | None = None,
    ):
        super().__init__(use_locking=False, name=type(rule).__name__)
        self._rule = rule
        self._rate = rate
        self._count = count
        self._settings = settings
        self._mean = mean
        self._decoupled = decoupled
        self._kept = kept
        self._means: Sequence[tf.Tensor] | None = None

    @uncollected()
    def compute_gradients(
        self, loss: tf.Tensor, var_list: Sequence[tf.Variable] | None = None, **options: Any
    ) -> list[tuple[tf.Tensor, tf.Variable]]:
        """Gradients of the variables that learn; nothing is computed for the others.

        Args:
            loss: scalar.
            var_list: variables of the tower; by default all that are trained.
            **options: of the base class.
        """
        if var_list is None:
            var_list = tf.trainable_variables()
        learning = [variable for variable in var_list if self._settings(variable).rate]
        if self._kept is None:
            return super().compute_gradients(loss, var_list=learning, **options)
        # Gradients of a kernel are added as they come, in the same order as all at once.
        options['aggregation_method'] = tf.AggregationMethod.EXPERIMENTAL_TREE
        before = len(loss.graph.get_operations())
        found = super().compute_gradients(loss, var_list=learning, **options)
        made = loss.graph.get_operations()[before:]
        for op in made:
            if op.type == 'AddN':
                # TensorFlow's rewriting makes one sum of those that wait for nothing.
                wait_for(op, loss.op)
        recompute(loss, made, self._kept())
        return found

    @uncollected()
    def apply_gradients(
        self,
        grads_and_vars: Sequence[tuple[tf.Tensor, tf.Variable]],
        global_step: tf.Variable | None = None,
        name: str | None = None,
    ) -> tf.Operation:
        """Updates the variables of one tower; called for every tower that has its own.

        Args:
            grads_and_vars: gradients, averaged over the towers, and variables.
            global_step: increased by one if given.
            name: of the op.
        """
        # Replicated towers come one after the other, with the same gradients.
        if self._means is None:
            self._means = self._mean([gradient for gradient, _ in grads_and_vars])
        count = tf.cast(self._count(), tf.float64)
        rate = tf.convert_to_tensor(self._rate)
        updates = []
        for gradient, (_, variable) in zip(self._means, grads_and_vars):
            beside_variable = tf.get_default_graph().colocate_with(variable.op)
            with tf.name_scope(f'update_{variable.op.name}'), beside_variable:
                updates.append(self._update(variable, gradient, rate, count))
        if global_step is not None:
            updates.append(global_step.assign_add(1).op)
        return tf.group(*updates, name=name)

    def _update(
        self, variable: tf.Variable, gradient: tf.Tensor, rate: tf.Tensor, count: tf.Tensor
    ) -> tf.Operation:
        own = self._settings(variable)
        if own.rate != 1:
            rate = rate * own.rate
        decay = own.decay if self._decoupled else None
        step = Step(rate, count, decay)
        rule = own.rule or self._rule
        slots = {slot: self._slot(variable, slot) for slot in rule.slots}
        shrunk = []
        if step.decay and not rule.decays:
            shrunk = [variable.assign_sub(step.rate * step.decay * variable, read_value=False)]
        with tf.control_dependencies(shrunk):
            return rule.update(variable, gradient, slots, step)

    def _slot(self, variable: tf.Variable, slot: str) -> tf.Variable:
        return tf.get_variable(
            f'{variable.op.name}/{slot}',
            shape=variable.shape,
            initializer=zeros(variable),
            trainable=False,
        )
