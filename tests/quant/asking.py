"""What a quantizer makes of an array: values, gradients, variables and codebook."""

import math
from typing import Any, NamedTuple

import numpy as np

from quant import Policy, Rule
from quant.backend import tf
from quant.scope import Quantization
from quant.updates import starts


class Answer(NamedTuple):
    """Results of one quantizer for one array.

    Attributes:
        y: values.
        gx: gradient of the input.
        gradients: of the trained variables, by the last part of their names.
        state: the variables, likewise.
        book: parts of the codebook.
        read: the values that the codebook codes.
    """

    y: np.ndarray
    gx: np.ndarray
    gradients: dict[str, np.ndarray]
    state: dict[str, np.ndarray]
    book: dict[str, np.ndarray]
    read: np.ndarray

    def coded(self):
        """What the codebook gives."""
        levels, thresholds = self.book['levels'], self.book['thresholds']
        columns = self.read.reshape(-1, levels.shape[1])
        found = np.empty_like(columns)
        for c in range(columns.shape[1]):
            above = columns[:, c, None] > thresholds[:, min(c, thresholds.shape[1] - 1)]
            found[:, c] = levels[above.sum(1), c]
        return found.reshape(self.read.shape)


def ask(run, spec, x, upstream=None, *, half='weight', state=None, **options) -> Answer:
    """What the quantizer of ``spec`` makes of ``x``.

    Args:
        run: the fixture.
        spec: of the quantizer.
        x: array.
        upstream: gradient, by default ones.
        half: ``weight`` or ``activation``.
        state: values to set variables to, by the last part of their names.
        **options: of ``Quantization.activation``.
    """
    x = np.asarray(x, 'float32')
    upstream = np.ones_like(x) if upstream is None else upstream.astype('float32')
    rule: dict[str, Any] = {half: spec}
    asked = Quantization(Policy((Rule(roles=('body',), **rule),)), training=True)
    values = tf.constant(x)
    before = {v.ref() for v in tf.global_variables()}
    with tf.variable_scope(None, 'asked'):
        if half == 'weight':
            y = asked.weight(values, scope='q', role='body', init_std=1.0)
        else:
            known = {'relu': False, 'lower': -math.inf, 'point': 's8', 'strongest': True}
            y = asked.activation('q', values, scope='q', role='body', **{**known, **options})
    own = {}
    for variable in tf.global_variables():
        if variable.ref() not in before:
            own[variable.op.name.rpartition('/')[2]] = variable
    trained = {v.ref() for v in tf.trainable_variables()}
    graded = {name: v for name, v in own.items() if v.ref() in trained}
    gradients = tf.gradients(y, [values, *graded.values()], tf.constant(upstream))
    ((scope, make),) = asked.codebooks.items()
    book = {name: part for name, part in make()._asdict().items() if part is not None}
    run([])
    for op in starts([asked]).values():
        run(op)
    for name, value in (state or {}).items():
        own[name].load(np.asarray(value, 'float32'), run.session)
    read = asked.described.get(scope, values)
    y, (gx, *found), own, book, read = run([y, gradients, own, book, read])
    return Answer(y, gx, dict(zip(graded, found)), own, book, read)


def check_finite(answer: Answer) -> None:
    """Checks that everything but the thresholds is finite."""
    parts = [answer.y, answer.gx, *answer.gradients.values(), *answer.state.values()]
    parts.append(answer.book['levels'])
    for part in parts:
        assert np.isfinite(part).all()


# Weights of 3 channels that a quantizer must survive.
DEGENERATE = {
    'zeros': np.zeros([2, 2, 2, 3]),
    'a channel of zeros': np.ones([2, 2, 2, 3]) * [0, 1, -1],
    'constant': np.full([2, 2, 2, 3], 0.25),
    'one channel': np.linspace(-1, 1, 8).reshape(2, 2, 2, 1),
    'small': np.linspace(-1e-30, 1e-30, 24).reshape(2, 2, 2, 3),
    'large': np.linspace(-1e30, 1e30, 24).reshape(2, 2, 2, 3),
    'denormal': np.linspace(-1e-40, 1e-40, 24).reshape(2, 2, 2, 3),
    'mixed': np.linspace(-1, 1, 24).reshape(2, 2, 2, 3) * [1e-20, 1, 1e20],
    'one': np.full([1, 1, 1, 1], 0.3),
    'minus zeros': np.full([2, 2, 2, 3], -0.0),
}
