"""TensorFlow's graphs: the only place where TensorFlow is imported, and where graphs are made.

Importing this leaves the program alone: eager execution, the kind of variables and the environment
stay what they are.
"""

import contextlib
import importlib
import os
import types
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from quant import private_api

__all__ = [
    'exact',
    'function',
    'has_gpu',
    'new_graph',
    'pool',
    'resource_variables',
    'rounding_kept',
    'scalar_like',
    'session',
    'tf',
]

_ROUNDING = 'NVIDIA_TF32_OVERRIDE'


class _OnFirstUse(types.ModuleType):
    """A module that is imported when something of it is used: options and help need nothing."""

    def __getattr__(self, name: str) -> Any:
        value = getattr(importlib.import_module(self.__name__), name)
        setattr(self, name, value)
        return value


if TYPE_CHECKING:
    import numpy as np
    import tensorflow.compat.v1 as tf
else:
    np = _OnFirstUse('numpy')
    tf = _OnFirstUse('tensorflow.compat.v1')

# What TensorFlow's variables are made of, which it keeps to itself, see ``quant.slim_variables``.
resource_variables: Any = _OnFirstUse('tensorflow.python.ops.resource_variable_ops')
# Options of sessions, of which ``tf`` has but some.
_config_pb2: Any = _OnFirstUse('tensorflow.core.protobuf.config_pb2')


@contextlib.contextmanager
def new_graph() -> 'Iterator[tf.Graph]':
    """An empty graph that is the current one; its variables are ``slim`` resource variables.

    What is read of a resource variable is an immutable snapshot: no update of a step can reach a
    value that a gradient of the same step still needs.
    """
    from quant.slim_variables import slim  # made of what this gives

    with tf.Graph().as_default() as graph, tf.variable_creator_scope(slim):
        tf.get_variable_scope().set_use_resource(True)
        yield graph


def exact() -> None:
    """Keeps GPUs from rounding what products read to ten bits (TF32), if none is in use yet.

    At low bits these roundings carry values over thresholds, and other answers come out than on a
    CPU. What the environment says already stays.
    """
    # Read by NVIDIA's libraries; TensorFlow's own switch does not reach all of them.
    os.environ.setdefault(_ROUNDING, '0')


@contextlib.contextmanager
def rounding_kept() -> 'Iterator[None]':
    """A block whose sessions leave it to what comes after whether GPUs round: for a training."""
    said = _ROUNDING in os.environ
    try:
        yield
    finally:
        if not said:
            os.environ.pop(_ROUNDING, None)


def pool(threads: int) -> None:
    """Makes the threads that operations of this process divide their work among.

    TensorFlow makes them with its first session, as that one's configuration says, and for all
    sessions: one that only restores or freezes would leave the number to the machine.

    Args:
        threads: of one operation; 0 leaves the number to whichever session comes first.
    """
    if threads:
        counts = tf.ConfigProto(intra_op_parallelism_threads=threads, device_count={'GPU': 0})
        tf.Session(graph=tf.Graph(), config=counts).close()


def session(
    graph: 'tf.Graph | None' = None, config: 'tf.ConfigProto | None' = None
) -> 'tf.Session':
    """A session for inference: exact on GPUs, of whose memory it takes what it needs.

    Args:
        graph: by default the current one.
        config: what else is to be said of it.
    """
    exact()
    config = config or tf.ConfigProto()
    config.gpu_options.allow_growth = True
    return tf.Session(graph=graph, config=config)


def function(
    session: 'tf.Session', feeds: 'Sequence[tf.Tensor]', fetches: 'Sequence[tf.Tensor]'
) -> 'Callable[..., list[np.ndarray]]':
    """Feeds in order -> fetches.

    Args:
        session: that computes.
        feeds: of which the arrays have the types, or are converted.
        fetches: what the function returns. It raises ValueError for an array of a shape that its
            feed cannot have.
    """
    options = _config_pb2.CallableOptions()
    options.feed.extend(tensor.name for tensor in feeds)
    options.fetch.extend(tensor.name for tensor in fetches)
    run = private_api.prepared(session, options)
    types = [tensor.dtype.as_numpy_dtype for tensor in feeds]

    def called(*values: 'np.ndarray') -> 'list[np.ndarray]':
        arrays = [np.asarray(value, dtype) for value, dtype in zip(values, types, strict=True)]
        for array, tensor in zip(arrays, feeds, strict=True):
            tensor.shape.assert_is_compatible_with(array.shape)
        return run(*arrays)

    return called


def has_gpu() -> bool:
    """Whether TensorFlow finds a GPU, on which it then places operations."""
    return bool(tf.config.list_physical_devices('GPU'))


def scalar_like(x: 'tf.Tensor', scalar: 'tf.Tensor') -> 'tf.Tensor':
    """A scalar for broadcasting against ``x``.

    On GPUs it has as many axes as ``x``: where TensorFlow's optimizer of layouts transposes a
    tensor, it stops at a scalar beside it, and leaves the whole graph as it was (seen on an H100).
    On the CPU scalars broadcast faster.
    """
    rank = x.shape.rank
    if rank is None or not has_gpu():
        return scalar
    return tf.reshape(scalar, [1] * rank)
