"""Quantizers of one tower: where a network meets its policy, and where the statistics of all towers meet."""

import collections
import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from quant import quantizer as registry
from quant.backend import tf
from quant.lq import refit as lq_refit
from quant.policy import Policy


class Quantization:
    """Applies a policy while a tower is built and keeps what its quantizers saw.

    Args:
        policy: which layer gets which quantizer.
        training: whether to collect the statistics that ``refit`` needs.
    """

    def __init__(self, policy: Policy, *, training: bool):
        self.policy, self.training = policy, training
        self.evidence: dict[str, list[lq_refit.Evidence]] = collections.defaultdict(list)
        self.variables: dict[str, tf.Variable] = {}
        self.quantizers: dict[str, Any] = {}
        self._root = tf.get_variable_scope().name
        self._once: dict[str, Any] = {}

    def relative(self, scope: str) -> str:
        """A variable scope or name without the prefix that a tower with its own variables has."""
        return scope.removeprefix(self._root).lstrip('/')

    def once(self, make: Callable[[], Any]) -> Any:
        """What ``make`` returned the first time in the current variable scope: a basis is read once per tower."""
        scope = tf.get_variable_scope().name
        if scope not in self._once:
            self._once[scope] = make()
        return self._once[scope]

    def observe(self, quantizer: Any, variable: tf.Variable, evidence: lq_refit.Evidence) -> None:
        """Keeps what a quantizer saw of the values that ``variable`` codes."""
        name = self.relative(variable.op.name)
        self.evidence[name].append(evidence)
        self.variables[name], self.quantizers[name] = variable, quantizer

    def weight(
        self, w: tf.Tensor, *, scope: str, role: str, scale: registry.Scale, point: str = ''
    ) -> tf.Tensor:
        """``w`` fake-quantized as the policy says, or ``w`` itself. Call once per weight and tower.

        Args:
            w: float32, output channels last.
            scope, role: what the policy decides by.
            scale: standard deviation of the initial ``w``.
            point: operating point whose own weight it is; empty for a weight that all of them share.
        """
        quantizer = self.policy.weight(scope, role)
        if quantizer is None:
            return w
        with contextlib.ExitStack() as scopes:
            for part in filter(None, ('weight_quant', point)):
                scopes.enter_context(tf.variable_scope(part))
            return quantizer.weight(w, scale=scale, tower=self, observe=self.training)

    def activation(
        self,
        name: str,
        x: tf.Tensor,
        *,
        scope: str,
        role: str,
        relu: bool,
        lower: float,
        point: str,
        strongest: bool,
    ) -> tf.Tensor:
        """``x``, rectified if ``relu``, fake-quantized as the policy says; plain ``relu(x)`` where it says float.

        Args:
            name: variable scope of the quantizer, below the current one.
            x: of any shape; levels are chosen and statistics are taken in float32.
            scope, role: what the policy decides by.
            lower: smallest value that ``x`` can take when ``relu`` is off.
            point: spelling of the operating point, for private bases.
            strongest: whether this is the network's first operating point.
        """
        quantizer = self.policy.activation(scope, role)
        if quantizer is None:
            return tf.nn.relu(x) if relu else x
        watched = self.training and (strongest or quantizer.private or quantizer.update == 'all')
        with contextlib.ExitStack() as scopes:
            for part in (name, point) if quantizer.private else (name,):
                scopes.enter_context(tf.variable_scope(part))
            y = quantizer.activation(
                tf.cast(x, tf.float32), relu=relu, lower=lower, tower=self, observe=watched
            )
            return tf.cast(y, x.dtype)


def _total(evidence: list[lq_refit.Evidence]) -> lq_refit.Evidence:
    first = evidence[0]
    return (
        first if first.shared else first._replace(table=tf.add_n([row.table for row in evidence]))
    )


def refit(
    towers: Sequence[Quantization],
    *,
    add: Callable[[list[tf.Tensor]], list[tf.Tensor]] = list,
    first: bool = True,
) -> list[tf.Operation]:
    """Ops that refit every basis once from the statistics of all operating points and towers together.

    Every basis is read once per tower and step, before this writes it, so that all points of a step use one grid and
    the result does not depend on the order of execution. With replicated variables each tower's copy gets the same
    value.

    Args:
        towers: those of this machine.
        add: sums tensors over all machines that train together.
        first: whether this machine is the one whose weights, which are the same on all, are the evidence.
    """
    totals = [
        _total([e for tower in towers for e in tower.evidence[name]])
        for name in towers[0].variables
    ]
    tables = add(
        [
            total.table if first or not total.shared else tf.zeros_like(total.table)
            for total in totals
        ]
    )
    ops = []
    for (name, variable), total, table in zip(towers[0].variables.items(), totals, tables):
        evidence = total._replace(table=table)
        with tf.name_scope(f'refit/{name}'):
            new, counts = lq_refit.solve(evidence)
            value = lq_refit.moving_average(variable, new, towers[0].quantizers[name].decay)
        lq_refit.summarize(f'quant/{name}', value, evidence.grid.levels, counts)
        copies = {tower.variables[name].ref() for tower in towers}
        # Weights take their evidence from one tower; the others must have read their basis too.
        with tf.control_dependencies(
            [e.grid.basis for tower in towers for e in tower.evidence[name]]
        ):
            ops += [copy.deref().assign(value).op for copy in copies]
    return ops
