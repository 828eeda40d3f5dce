"""Quantizers of precisions that were not trained, fitted to what they code."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from engine.graph.inference import InferenceModel
from engine.runs.checkpoint import Restore
from quant import backend, updates
from quant.backend import new_graph, tf
from quant.state import Kind, State

# Refits of levels: their moving average looks back over about ten.
ROUNDS = 40


def lacks(variables: Mapping[str, State], values: Mapping[str, np.ndarray]) -> list[str]:
    """Names of the state of quantizers that values lack.

    Args:
        variables: declarations of a network, by name.
        values: of its variables, by name.
    """
    found = []
    for name, state in variables.items():
        if state.kind is Kind.QUANTIZER and name not in values:
            found.append(name)
    return found


def fitted(
    model: InferenceModel,
    variables: Mapping[str, State],
    values: Mapping[str, np.ndarray],
    batches: Sequence[Sequence[np.ndarray]],
) -> dict[str, np.ndarray]:
    """State of quantizers that values lack, started from a batch and refit on others.

    Normalisation takes the statistics of each batch. What is learned by gradient keeps its start.

    Args:
        model: the network.
        variables: its declarations, by name.
        values: of its other variables.
        batches: images by view size, and labels; one at least.
    """
    missing = lacks(variables, values)
    with new_graph(), backend.session() as session:
        blocks = model.blocks(training=True)
        images = [tf.placeholder(spec.dtype, spec.shape) for spec in model.inputs()[:-1]]
        model.net.outputs(model.views(images), blocks, **model.net.calibration_options)
        tower = blocks.quantization
        for name in set(tower.collected) - set(missing):
            del tower.collected[name]
        starts = updates.starts([tower])
        refits = []
        if tower.collected:
            refits = updates.refit([tower])
        session.run(tf.global_variables_initializer())
        Restore(values).init(session)
        first = dict(zip(images, batches[0][:-1]))
        for name, start in starts.items():
            if name in missing:
                session.run(start, first)
        if refits:
            for *arrays, _ in itertools.islice(itertools.cycle(batches), ROUNDS):
                session.run(refits, dict(zip(images, arrays)))
        named = {variable.op.name: variable for variable in tf.global_variables()}
        return session.run({name: named[name] for name in missing})
