"""Kinds of variables: declared where a variable is created, read wherever variables are matched.

Nothing else decides what a variable is: no regular expression on names.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
from collections.abc import Callable, Iterator
from typing import Any

from quant.backend import tf

_COLLECTION = 'declared_state'


class Kind(enum.Enum):
    """What a variable is for."""

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
        beside: names below its own of what a training keeps with it, and loads with it.
        lr_factor: of a trained one: times the learning rate.
        decay_factor: of a trained one that is no kernel: times the weight decay of kernels.
    """

    kind: Kind
    point: str = ''
    fresh: bool = False
    shared: str = ''
    beside: tuple[str, ...] = ()
    lr_factor: float = 1.0
    decay_factor: float = 0.0


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
    name, states = variable.op.name, _states()
    if name in states and states[name].kind is Kind.TEACHER:
        return
    parts = [part for part in name.split('/') if not point or part != point]
    known = states.get(name, TRAINED)
    states[name] = State(kind, point, fresh or known.fresh, '/'.join(parts), **more)


@contextlib.contextmanager
def fresh() -> Iterator[None]:
    """Variables made inside may start afresh where what is loaded does not hold them."""

    def made(getter: Callable[..., tf.Variable], name: str, *args: Any, **kwargs: Any) -> Any:
        variable = getter(name, *args, **kwargs)
        states = _states()
        state = states.get(variable.op.name, dataclasses.replace(TRAINED, shared=name))
        states[variable.op.name] = dataclasses.replace(state, fresh=True)
        return variable

    scope = tf.get_variable_scope()
    with tf.variable_scope(scope, custom_getter=made, auxiliary_name_scope=False):
        yield


def declared() -> dict[str, State]:
    """Declarations of the default graph by variable name; without one it is ``Kind.TRAINED``."""
    return dict(_states())


def _states() -> dict[str, State]:
    collection = tf.get_default_graph().get_collection_ref(_COLLECTION)
    if not collection:
        collection.append({})
    return collection[0]
