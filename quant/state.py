"""Kinds of variables: declared where a variable is created, read wherever variables are matched.

Nothing else decides what a variable is: no regular expression on names.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from quant.backend import tf

_COLLECTION = 'declared_state'


class Kind(enum.Enum):
    """The purpose of a variable."""

    TRAINED = 'trained'  # learned by gradient
    MOVING = 'moving'  # moving average of a batch statistic
    QUANTIZER = 'quantizer'  # levels, steps, clips of a quantizer, trained or not
    TEACHER = 'teacher'  # moving average of another variable
    TRAINING = 'training'  # belongs to a training, not to its network: optimizer slots, metrics


@dataclasses.dataclass(frozen=True)
class State:
    """Declaration of one variable.

    Attributes:
        kind: what it is for.
        point: spelling of the operating point that alone uses it; empty if all of them do.
        fresh: whether it may start afresh where what is loaded does not hold it.
        shared: its name with the point taken out: the same for all points that have their own.
        shape: of its value.
        beside: names below its own of what a training keeps with it, and loads with it.
        lr_factor: of a trained one: times the learning rate.
        decay_factor: of a trained one that is no kernel: times the weight decay of kernels.
        bits: of a quantizer: for which alone a value is meant, as a step is; a value of other bits
            is not loaded. 0: it serves any number, as a clip does.
        snapped: of a quantizer: gives the value nearest to one, both arrays, with which levels are
            small whole numbers times a scale; None where they always are, or never.
    """

    kind: Kind
    point: str = ''
    fresh: bool = False
    shared: str = ''
    shape: tuple[int, ...] = ()
    beside: tuple[str, ...] = ()
    lr_factor: float = 1.0
    decay_factor: float = 0.0
    bits: int = 0
    snapped: Callable[[np.ndarray], np.ndarray] | None = None


# A variable that nobody has declared.
TRAINED = State(Kind.TRAINED)


def declare(
    variable: tf.Variable, kind: Kind, *, point: str = '', fresh: bool = False, **more: Any
) -> None:
    """Says what ``variable`` is; a teacher stays one, whatever the variable is that it follows.

    The scope of a point is the part of the name that equals its spelling.

    Args:
        variable: just created.
        kind: what it is for.
        point: spelling of the operating point that alone uses it.
        fresh: whether it may start afresh where what is loaded does not hold it.
        **more: further fields of ``State``.
    """
    name = variable.op.name
    states = _states()
    before = states.get(name)
    if before is None:
        before = State(kind)
    elif before.kind is Kind.TEACHER:
        return
    parts = [part for part in name.split('/') if not point or part != point]
    fresh = fresh or before.fresh
    more = {'lr_factor': before.lr_factor, **more}
    states[name] = State(kind, point, fresh, '/'.join(parts), _shape(variable), **more)


def declared() -> dict[str, State]:
    """Declarations of the default graph by variable name; without one it is ``Kind.TRAINED``."""
    return dict(_states())


def variables() -> dict[str, State]:
    """Declarations of all variables of the default graph by name, in the order of their making."""
    states = _states()
    found = {}
    for variable in tf.global_variables():
        name = variable.op.name
        plain = State(Kind.TRAINED, shared=name, shape=_shape(variable))
        found[name] = states.get(name, plain)
    return found


@contextlib.contextmanager
def declaring(**fields: Any) -> Iterator[None]:
    """Variables that are made inside have these fields of ``State``: ``fresh``, ``lr_factor``."""

    def declared_too(getter: Callable[..., Any], name: str, *args: Any, **kwargs: Any) -> Any:
        variable = getter(name, *args, **kwargs)
        states, own = _states(), variable.op.name
        if own not in states:
            declare(variable, Kind.TRAINED)
        states[own] = dataclasses.replace(states[own], **fields)
        return variable

    scope = tf.get_variable_scope()
    with tf.variable_scope(scope, custom_getter=declared_too, auxiliary_name_scope=False):
        yield


def begun(variable: tf.Variable) -> tf.Tensor:
    """The value of a variable, or the one that it will start from: others may start from this."""
    return tf.cond(
        tf.is_variable_initialized(variable), variable.read_value, lambda: variable.initial_value
    )


def _shape(variable: tf.Variable) -> tuple[int, ...]:
    return tuple(variable.shape.as_list())


def _states() -> dict[str, State]:
    collection = tf.get_default_graph().get_collection_ref(_COLLECTION)
    if not collection:
        collection.append({})
    return collection[0]
