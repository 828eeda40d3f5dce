"""Milliseconds of every layer of an operating point, by TensorFlow's own trace of a step.

Operations are run as they are written: convolution, shift and ReLU, which ``Predictor`` joins,
stand apart, so that each belongs to a layer. What belongs to none is told together.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from engine.graph import freeze
from engine.graph.freeze import Frozen
from engine.graph.inference import InferenceModel
from engine.runs.checkpoint import Checkpoint
from nets.points import Point
from quant import backend
from quant.backend import new_graph, tf

# Steps before the measured ones.
WARM = 3

# What is no layer: normalisation, activations and their quantizers, sums, resizing.
OTHERS = ''

_AGAIN = re.compile(r'_\d+(?=/|$)')

# Where a GPU's trace has what its kernels took, and not their launch.
_STREAM = 'stream:all'


def of_run(source: Checkpoint, point: str, layers: Sequence[str], rounds: int) -> dict[str, float]:
    """Median milliseconds by layer of a checkpoint, all layers being computed.

    Args:
        source: the checkpoint.
        point: spelling of an operating point.
        layers: scopes.
        rounds: measured steps of one image.

    Raises:
        UsageError: there is no such point.
    """
    return measure(freeze.named(source, point, static=True), layers, rounds)


def of_start(
    model: InferenceModel, point: str, layers: Sequence[str], rounds: int
) -> dict[str, float]:
    """Median milliseconds by layer of a network as training starts it, see ``of_run``.

    Args:
        model: the network.
        point: spelling of an operating point.
        layers: scopes.
        rounds: measured steps of one image.
    """
    values = model.starting_values()
    frozen = freeze.of_point(model, Point.parse(point), values, static=True)
    return measure(frozen, layers, rounds)


def measure(frozen: Frozen, layers: Sequence[str], rounds: int) -> dict[str, float]:
    """Median milliseconds by layer, and of all else under ``OTHERS``.

    Args:
        frozen: graph of one point, from uint8 images.
        layers: scopes.
        rounds: measured steps of one image.
    """
    frozen = freeze.folded(frozen)
    (part,) = frozen.signatures
    taken: dict[str, list[float]] = {}
    # One operation after the other, so that none waits for what another one takes.
    config = tf.ConfigProto(inter_op_parallelism_threads=1)
    rewriting = config.graph_options.rewrite_options
    # Joined operations would be of several layers.
    rewriting.remapping = type(rewriting).OFF
    options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
    with new_graph() as graph, backend.session(config=config) as session:
        tf.import_graph_def(frozen.graph_def, name='')
        feeds = {name: _images(graph.get_tensor_by_name(name)) for name in part.feeds}
        for step in range(WARM + rounds):
            trace = tf.RunMetadata()
            session.run(part.fetches, feeds, options=options, run_metadata=trace)
            if step >= WARM:
                for layer, ms in by_layer(nodes(trace.step_stats), layers).items():
                    taken.setdefault(layer, []).append(ms)
    return {layer: statistics.median(times) for layer, times in taken.items()}


def _images(feed: tf.Tensor) -> np.ndarray:
    """One image of noise, uint8 [1, side, side, C]."""
    shape = [1, *feed.shape.as_list()[1:]]
    return np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8)


def nodes(trace: Any) -> dict[str, float]:
    """Milliseconds by name of an operation: of a GPU's kernels where there are some.

    Args:
        trace: ``StepStats`` of TensorFlow.
    """
    devices = [device for device in trace.dev_stats if _STREAM in device.device]
    found: dict[str, float] = {}
    for device in devices or trace.dev_stats:
        for node in device.node_stats:
            name = node.node_name.partition(':')[0]
            took = 1e-3 * (node.op_end_rel_micros - node.op_start_rel_micros)
            found[name] = found.get(name, 0.0) + took
    return found


def by_layer(times: Mapping[str, float], layers: Iterable[str]) -> dict[str, float]:
    """Times by layer: an operation is of the layer whose scope is the longest that it lies in.

    Args:
        times: by name of an operation.
        layers: scopes; one that computes nothing, as a gate that is not asked, has no time.

    >>> times = {'a/conv/Conv2D': 2.0, 'cond/a_1/conv/bn/add': 1.0, 'a/add': 0.5}
    >>> by_layer(times, ['a/conv', 'a/gate'])
    {'': 0.5, 'a/conv': 3.0}
    """
    longest_first = sorted(layers, key=len, reverse=True)
    found: dict[str, float] = {}
    for name, took in times.items():
        # A scope that is entered again has a number at its end.
        layer = _layer(name, longest_first) or _layer(_AGAIN.sub('', name), longest_first)
        found[layer] = found.get(layer, 0.0) + took
    return {OTHERS: 0.0} | found


def _layer(name: str, layers: Sequence[str]) -> str:
    """The first of some layers whose scope an operation lies in; ``OTHERS`` without one."""
    for layer in layers:
        if f'/{layer}/' in f'/{name}/':
            return layer
    return OTHERS
