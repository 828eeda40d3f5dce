"""All uses of what TensorFlow and tensorpack do not promise to keep, and why there is no other way.

They are frozen at tensorflow 2.21 and tensorpack 0.11; a new version has to be tried with these
functions first. What tensorpack's documentation tells subclasses to override is not among them.
"""

import weakref
from collections.abc import Iterable, Iterator
from typing import Any


def replace_input(op: Any, place: int, tensor: Any) -> None:
    """Lets an operation of a graph read another tensor.

    Towers are built one after the other, and the first reads what the last one makes: TensorFlow
    has no public way to use a tensor that does not exist yet. No session may know the graph.

    Args:
        op: TensorFlow operation.
        place: which input.
        tensor: of the same type, whose operation does not depend on ``op``.
    """
    op._update_input(place, tensor)


def wait_for(op: Any, other: Any) -> None:
    """Lets an operation of a graph begin when another one has ended.

    TensorFlow's public way is for operations that are being made, and gradients are made by
    TensorFlow. No session may know the graph.

    Args:
        op: TensorFlow operation.
        other: one that does not depend on it.
    """
    op._add_control_input(other)


def prepared(session: Any, options: Any) -> Any:
    """A function of arrays that a session computes.

    TensorFlow's public ``make_callable`` looks up all tensors anew at every call, which takes half
    a millisecond. Keras uses this function.

    Args:
        session: TensorFlow session.
        options: ``CallableOptions``, which name what is fed and fetched.
    """
    return session._make_callable_from_options(options)


def join_handle(handle: Any, variable: Any, name: str) -> None:
    """Lets the handle of a resource variable and the variable be known from each other.

    TensorFlow does so where it makes both, see ``quant.slim_variables``.

    Args:
        handle: tensor that is the handle.
        variable: of that handle.
        name: of both, in its graph.
    """
    handle._parent_trackable = weakref.ref(variable)
    handle._unique_id = name


def count_epochs(loop: Any, epochs: Iterable[int]) -> Iterator[int]:
    """Yields numbers of epochs, each of which is then the present one of a training loop.

    tensorpack's own loop begins every training with a whole epoch; ours goes on within one, and its
    callbacks ask ``loop`` for the number.

    Args:
        loop: tensorpack's ``TrainLoop``.
        epochs: their numbers.
    """
    for epoch in epochs:
        loop._epoch_num = epoch
        yield epoch


def count_steps(loop: Any, steps: Iterable[int]) -> Iterator[int]:
    """Yields numbers of steps within an epoch, see ``count_epochs``.

    Args:
        loop: tensorpack's ``TrainLoop``.
        steps: their numbers.
    """
    for step in steps:
        loop._local_step = step
        yield step


def callbacks_of(trainer: Any) -> Any:
    """The callbacks of a tensorpack trainer, which its own loop calls and so does ours."""
    return trainer._callbacks


def prepare_state(state: Any) -> None:
    """Adds to the graph what a tensorpack ``SessionInit`` needs, which ours wrap."""
    state._setup_graph()


def restore_state(state: Any, session: Any) -> None:
    """Sets the variables of a session as a tensorpack ``SessionInit`` has them."""
    state._run_init(session)
