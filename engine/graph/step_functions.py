"""Quantizers as functions, found by running their graphs on typical values.

Weights are normal, of three output channels with deviations 0.5, 1 and 1.5; activations are normal
with deviation 1 and come through a ReLU or as they are, or with deviation 2 through Swish. What a
quantizer learns is where training starts: of these weights, and of these activations as its first
batch; what it refits has been refit until it stands still. A gradient is what reaches one value
from what comes out of it: the upstream gradient is 1, or -1, there and 0 elsewhere.
"""

from __future__ import annotations

import math
import statistics
from typing import Any, NamedTuple

import numpy as np

from engine.results.quantizer_figure import Curve, StepFunction
from quant import backend, quantizer, specs
from quant.backend import new_graph, tf
from quant.policy import Policy, Rule
from quant.scope import Quantization
from quant.updates import refit, starts

WEIGHTS, ACTIVATIONS = 'weights', 'activations'

# Deviations of the channels of weights.
DEVIATIONS = (0.5, 1.0, 1.5)

# Values of all channels: what a statistic says of them is what it says of the distribution.
COUNT = 4803

# Values of which the gradient is taken.
PROBES = 401

# A refit that starts from its own levels has then come to rest.
REFITS = 40

# What is shown of weights.
WEIGHT_LIMITS = (-3.5, 3.5)


class Inputs(NamedTuple):
    """The function before a quantizer of activations.

    Attributes:
        relu: whether it rectifies what it reads.
        lower: smallest value that it can read, where it does not.
        limits: of the values to show.
    """

    relu: bool
    lower: float
    limits: tuple[float, float]


# The smallest value of Swish, as networks have it.
INPUTS = {
    'relu': Inputs(True, 0.0, (-1.0, 3.5)),
    'swish': Inputs(False, -0.2784645, (-0.5, 3.5)),
    'signed': Inputs(False, -math.inf, (-3.5, 3.5)),
}


def served(spec: str) -> list[str]:
    """The halves of a layer that a quantizer serves: ``weights``, ``activations`` or both.

    Raises:
        ValueError: the spec is wrong, or is that of float.
    """
    found = specs.parse(spec)
    if found is None or found.bits == quantizer.FLOAT_BITS:
        raise ValueError(f'quantizer spec {spec!r}: quantizes nothing')
    halves = []
    for half in (WEIGHTS, ACTIVATIONS):
        if not found.refuses('body', weights=half == WEIGHTS):
            halves.append(half)
    return halves


def curve(spec: str, what: str, inputs: str = 'relu') -> Curve:
    """A quantizer as a function.

    Args:
        spec: of the quantizer.
        what: ``weights`` or ``activations``.
        inputs: of ``INPUTS``, what comes before activations.

    Raises:
        ValueError: the quantizer does not serve these.
    """
    found = specs.parse(spec)
    assert found is not None
    with new_graph(), backend.session(config=_plain()) as session:
        graph = _Graph(spec, what, INPUTS[inputs])
        graph.start(session)
        channels = graph.channels(session)
    limits = WEIGHT_LIMITS
    if what == ACTIVATIONS:
        limits = INPUTS[inputs].limits
    return Curve(specs.spelled(found), what, channels, limits)


def _plain() -> Any:
    """Sessions of small graphs: rewriting them takes longer than running them."""
    config = tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    return config


def normal(deviations: tuple[float, ...]) -> np.ndarray:
    """[COUNT / C, C] values at equal steps of probability, ascending in every channel."""
    distribution = statistics.NormalDist()
    count = COUNT // len(deviations)
    shares = (np.arange(count) + 0.5) / count
    values = np.array([distribution.inv_cdf(share) for share in shares])
    return (values[:, None] * deviations).astype('float32')


def applied(
    spec: str, what: str, x: tf.Tensor, inputs: Inputs = INPUTS['relu']
) -> tuple[Quantization, tf.Tensor]:
    """A training tower with one quantizer, in the current variable scope, and what it gives.

    Args:
        spec: of the quantizer.
        what: ``weights`` or ``activations``.
        x: float32, channels last.
        inputs: what comes before activations.

    Raises:
        ValueError: the quantizer does not serve these.
    """
    rule = Rule(roles=('body',), **{what.removesuffix('s'): spec})
    tower = Quantization(Policy((rule,)), training=True)
    if what == WEIGHTS:
        return tower, tower.weight(x, scope='layer', role='body', init_std=1.0)
    y = tower.activation(
        'layer',
        x,
        scope='layer',
        role='body',
        relu=inputs.relu,
        lower=inputs.lower,
        point='',
        strongest=True,
    )
    return tower, y


class _Graph:
    """The graph of one quantizer on typical values.

    Args:
        spec: of the quantizer.
        what: ``weights`` or ``activations``.
        inputs: what comes before activations.
    """

    def __init__(self, spec: str, what: str, inputs: Inputs):
        if what == WEIGHTS:
            self._x = tf.constant(normal(DEVIATIONS)[None, None])  # [1, 1, N, C]
        else:
            self._x = self._activations(inputs)
        self._tower, self._y = applied(spec, what, self._x, inputs)
        self._number = tf.placeholder(tf.int32, [])
        self._sign = tf.placeholder(tf.float32, [])
        size = self._x.shape.num_elements()
        upstream = self._sign * tf.one_hot(self._number, size)
        shaped = tf.reshape(upstream, self._x.shape)
        (gradient,) = tf.gradients(self._y, [self._x], shaped)
        self._slope = self._sign * tf.reshape(gradient, [-1])[self._number]
        self._refits = refit([self._tower])

    def _activations(self, inputs: Inputs) -> tf.Tensor:
        """[N, 1] float32."""
        values = tf.constant(normal((1.0,)))
        if inputs.lower < 0 and math.isfinite(inputs.lower):
            return tf.nn.swish(2 * values)
        return values

    def start(self, session: tf.Session) -> None:
        """Gives the variables the values that training starts from."""
        session.run(tf.global_variables_initializer())
        for start in starts([self._tower]).values():
            session.run(start)
        if self._refits:
            for _ in range(REFITS):
                session.run(self._refits)

    def channels(self, session: tf.Session) -> tuple[StepFunction, ...]:
        """A function for every grid."""
        (make,) = self._tower.codebooks.values()
        book = make()
        columns = book.levels.shape[1]
        fetches = self._x, self._y, book.levels, book.thresholds
        x, y, levels, thresholds = session.run(fetches)
        run = session.make_callable(self._slope, [self._number, self._sign])
        numbers = np.arange(x.size).reshape(-1, columns)  # of values; a column shares a grid
        found = []
        for column in range(columns):
            own = numbers[:, column]
            order = own[x.flat[own].argsort(kind='stable')]
            probes = _spread(order, x.flat[order])
            rising = np.array([run(number, 1.0) for number in probes])
            falling = np.array([run(number, -1.0) for number in probes])
            edges = thresholds[:, min(column, thresholds.shape[1] - 1)]
            name = ''
            if columns > 1:
                name = f'deviation {DEVIATIONS[column]:g}'
            values = x.flat[order], y.flat[order], levels[:, column], edges
            found.append(StepFunction(*values, x.flat[probes], rising, falling, name))
        return tuple(found)


def _spread(numbers: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Numbers of values at about equal distances.

    Args:
        numbers: [N] of the values.
        values: [N] ascending.
    """
    wanted = np.linspace(values[0], values[-1], PROBES)
    places = np.searchsorted(values, wanted).clip(0, len(values) - 1)
    return numbers[np.unique(places)]
