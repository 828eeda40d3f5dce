"""Makes variables of graphs in less time than TensorFlow does.

Making a thousand of them is half the time that building a training step takes. TensorFlow makes
five operations for each, one of which, whether it has been written, hardly anybody asks for: it is
made when it is. And what surrounds the others, scopes and devices, is entered once.

This is made of what TensorFlow does not promise to keep, see ``quant.private_api``: a variable is a
handle and what belongs to it, and no public way puts them together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from quant.backend import resource_variables, tf
from quant.private_api import join_handle

# What is asked for of few variables, which are made as TensorFlow makes them.
_SPECIAL = ('caching_device', 'constraint')

# Zeros of a graph, by type and shape.
_ZEROS = 'shared_zeros'


def slim(next_creator: Callable[..., tf.Variable], **asked: Any) -> tf.Variable:
    """Makes a variable, for ``tf.variable_creator_scope``.

    Args:
        next_creator: makes a variable as TensorFlow does.
        **asked: of ``tf.Variable``.
    """
    special = any(asked.get(name) is not None for name in _SPECIAL)
    known = callable(asked['initial_value']) and asked.get('shape') and asked.get('dtype')
    if special or not known or not asked.get('use_resource'):
        return next_creator(**asked)
    with tf.init_scope():  # outside of branches
        return _made(asked)


def _made(asked: dict[str, Any]) -> tf.Variable:
    """A variable in the current graph, see ``slim``; names are those of TensorFlow's."""
    graph = tf.get_default_graph()
    dtype = asked['dtype']
    with tf.name_scope(asked['name']) as scope:
        name = scope.rstrip('/')
        handle = tf.raw_ops.VarHandleOp(
            dtype=dtype, shape=asked['shape'], shared_name=name, debug_name=name, name=scope
        )
        with graph.colocate_with(handle.op), tf.name_scope('Initializer'):
            value = tf.convert_to_tensor(asked['initial_value'](), dtype=dtype)
    with graph.colocate_with(None, ignore_existing=True), tf.device(handle.device):
        write = tf.raw_ops.AssignVariableOp(resource=handle, value=value, name=f'{scope}Assign/')
        read = tf.raw_ops.ReadVariableOp(
            resource=handle, dtype=dtype, name=f'{scope}Read/ReadVariableOp/'
        )
    trainable = asked.get('trainable') is not False
    variable = resource_variables.BaseResourceVariable(
        trainable=trainable,
        shape=value.shape,
        dtype=dtype,
        handle=handle,
        synchronization=asked.get('synchronization'),
        aggregation=asked.get('aggregation'),
        unique_id=name,
        handle_name=name,
        graph_element=read,
        initial_value=value,
        initializer_op=write,
        in_graph_mode=True,
    )
    join_handle(handle, variable, name)
    collections = list(asked.get('collections') or [tf.GraphKeys.GLOBAL_VARIABLES])
    if trainable:
        collections.append(tf.GraphKeys.TRAINABLE_VARIABLES)
    graph.add_to_collections(set(collections), variable)
    return variable


def zeros(variable: tf.Variable) -> Callable[..., tf.Tensor]:
    """Initializer of what is kept with a variable, in its shape and type: zeros.

    A graph has one tensor of them for all variables of that shape and type, which for this reason
    cannot be fed in the place of each.
    """
    shape, dtype = variable.shape, variable.dtype.base_dtype

    def start(*_: Any, **__: Any) -> tf.Tensor:
        graph = tf.get_default_graph()
        made = graph.get_collection_ref(_ZEROS)
        if not made:
            made.append({})
        key = dtype, tuple(shape)
        if key not in made[0]:
            aside = graph.colocate_with(None, ignore_existing=True)
            with tf.init_scope(), aside, tf.device(None):
                made[0][key] = tf.zeros(shape, dtype)
        return made[0][key]

    return start
