"""What the variables of a network are: declared where they are created, read wherever variables are matched.

Nothing else decides what a variable is: no regular expression on names.
"""

import dataclasses
import enum

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
        shared: its name with the point taken out: the same for all points that have one of their own.
    """

    kind: Kind
    point: str = ''
    fresh: bool = False
    shared: str = ''


def declare(variable: tf.Variable, kind: Kind, *, point: str = '', fresh: bool = False) -> None:
    """Says what ``variable`` is. The scope of a point is the part of the name that equals its spelling.

    Args:
        variable: just created.
        kind: what it is for.
        point: spelling of the operating point that alone uses it.
        fresh: whether it may start afresh where what is loaded does not hold it.
    """
    name = variable.op.name
    parts = [part for part in name.split('/') if not point or part != point]
    state = State(kind, point, fresh, '/'.join(parts))
    tf.get_default_graph().get_collection_ref(_COLLECTION).append((name, state))


def declared() -> dict[str, State]:
    """Declarations of the default graph by variable name; a variable without one is ``Kind.TRAINED``."""
    return dict(tf.get_collection(_COLLECTION))
