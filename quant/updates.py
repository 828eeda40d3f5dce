"""Updates of what quantizers do not learn by gradient, from what all towers have seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from quant.backend import tf
from quant.native import using
from quant.quantizer import Quantizer
from quant.scope import Collected, Quantization
from quant.state import declared


def refit(
    towers: Sequence[Quantization],
    *,
    add: Callable[[list[tf.Tensor]], list[tf.Tensor]] = list,
    first: bool = True,
    snapping: tf.Tensor | None = None,
) -> list[tf.Operation]:
    """Ops that refit all collected variables from all operating points and towers together.

    A variable is read once per tower and step, before this writes it, so that all points of a step
    use one value and the result does not depend on the order of execution. With replicated
    variables each tower's copy gets the same value.

    Args:
        towers: those of this machine.
        add: sums tensors over all machines that train together.
        first: whether this machine is the one whose weights, which are the same on all, count.
        snapping: bool, whether levels are to be small whole numbers times a scale; what refits
            average is not snapped.
    """
    totals = [_total(towers, name) for name in towers[0].collected]
    tables = []
    for total in totals:
        if first or not total.same:
            tables.append(total.table)
        else:
            tables.append(tf.zeros_like(total.table))
    everything = []
    for total, table in zip(totals, add(tables)):
        everything.append(total._replace(table=table))
    ops: list[tf.Operation] = []
    with using(towers[0].native):
        values = _refit(towers[0].collected, everything)
    for name, value in values.items():
        row = towers[0].collected[name]
        if snapping is not None:
            value = _snapped(row.variable, value, snapping)
        # Weights take their statistics from one tower; the others must have read them, too.
        read = [one.read for one in _rows(towers, name)]
        variables = [tower.collected[name].variable for tower in towers]
        with tf.control_dependencies(read):
            ops += _assign(variables, value)
    return ops


def starts(
    towers: Sequence[Quantization],
    *,
    add: Callable[[list[tf.Tensor]], list[tf.Tensor]] = list,
) -> dict[str, tf.Operation]:
    """Ops that give variables their start from a batch, by name, in the order of the layers.

    Run one after the other: what a layer sees depends on the starts of the layers before it.

    Args:
        towers: those of this machine.
        add: sums tensors over all machines that train together.
    """
    ops = {}
    for name, row in towers[0].starts.items():
        tables = []
        for tower in towers:
            tables += tower.starts[name].tables
        (total,) = add([tf.add_n(tables)])
        value = row.value(total)
        variables = [tower.starts[name].variable for tower in towers]
        ops[name] = tf.group(*_assign(variables, value))
    return ops


def _refit(collected: Mapping[str, Collected], statistics: Sequence[Any]) -> dict[str, tf.Tensor]:
    """Next values by variable name; a quantizer refits all its variables together.

    Args:
        collected: by variable name.
        statistics: of these variables, in this order.
    """
    names: dict[Quantizer, list[str]] = {}
    for name, row in collected.items():
        names.setdefault(row.quantizer, []).append(name)
    of_name = dict(zip(collected, statistics))
    values: dict[str, tf.Tensor] = {}
    for quantizer, own in names.items():
        variables = [collected[name].variable for name in own]
        found = quantizer.refit(variables, [of_name[name] for name in own])
        values.update(zip(own, found))
    return values


def _snapped(variable: tf.Variable, value: tf.Tensor, snapping: tf.Tensor) -> tf.Tensor:
    """A value with whole numbers for levels where that is asked for and the quantizer knows how.

    Args:
        variable: that gets it.
        value: to snap.
        snapping: bool, whether to.
    """
    function = declared()[variable.op.name].snapped
    if function is None:
        return value

    def nearest() -> tf.Tensor:
        found = tf.numpy_function(function, [value], tf.float32)
        return tf.ensure_shape(found, value.shape)

    return tf.cond(snapping, nearest, lambda: value)


def _rows(towers: Sequence[Quantization], name: str) -> list[Any]:
    """Statistics that the towers have collected for one variable."""
    rows = []
    for tower in towers:
        rows += tower.collected[name].statistics
    return rows


def _total(towers: Sequence[Quantization], name: str) -> Any:
    """Statistics of one variable, summed over what codes it and over the towers."""
    rows = _rows(towers, name)
    if rows[0].same:
        return rows[0]
    return rows[0]._replace(table=tf.add_n([row.table for row in rows]))


def _assign(variables: Sequence[tf.Variable], value: tf.Tensor) -> list[tf.Operation]:
    """Gives each variable the value, once."""
    copies = {variable.ref() for variable in variables}
    return [copy.deref().assign(value).op for copy in copies]
