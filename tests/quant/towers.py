"""A tower with one quantizer, as its tests need it: weights, activations, variables, codebooks."""

import numpy as np

from quant import Policy, Rule
from quant.backend import tf
from quant.scope import Quantization


def quantization(spec, *, training=True, half=None):
    """A tower that has a quantizer for the role ``body``, by default for both halves."""
    halves = [half] if half else ['weight', 'activation']
    rule = Rule(roles=('body',), **dict.fromkeys(halves, spec))
    return Quantization(Policy((rule,)), training=training)


def weigh(q, w, **options):
    with tf.variable_scope('conv'):
        return q.weight(tf.convert_to_tensor(w), scope='conv', role='body', init_std=9.0, **options)


def activate(q, x, *, relu=True, lower=0.0, point='s8', strongest=True):
    with tf.variable_scope(tf.get_variable_scope(), reuse=tf.AUTO_REUSE):
        return q.activation(
            'quant1',
            tf.convert_to_tensor(x),
            scope='quant1',
            role='body',
            relu=relu,
            lower=lower,
            point=point,
            strongest=strongest,
        )


def variable(name):
    (found,) = (v for v in tf.global_variables() if v.op.name == name)
    return found


def shipped(book, x):
    """What the codebook gives for values, channels last; denormal numbers are zero, as there."""
    columns = book.levels.shape[1]
    values = np.where(np.abs(x) < np.finfo('float32').tiny, 0, x).reshape(-1, columns)
    found = np.empty_like(values)
    for c in range(columns):
        index = (values[:, c, None] > book.thresholds[:, c]).sum(1)
        found[:, c] = book.levels[index, c]
    return found.reshape(x.shape)
