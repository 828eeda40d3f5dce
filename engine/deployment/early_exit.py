"""Exits as stages: the computation from one exit to the next, see ``engine.deployment.stages``."""

from engine.deployment.stages import Node, Stage, Staged
from engine.graph.freeze import Part, Values, freeze
from engine.graph.inference import InferenceModel
from nets.layers.rows import take_rows
from nets.losses import log_confidence
from quant.backend import tf


class EarlyExit(Staged):
    """Runs a network with exits stage by stage, on constant weights.

    Args:
        model: a configuration with exits.
        values: of its variables.
        size: input size in pixels, one of the network's.
        threads: of one operation; 0 takes all cores.
    """

    def __init__(
        self,
        model: InferenceModel,
        values: Values,
        size: int,
        *,
        threads: int = 0,
    ):
        stages: list[Stage] = []
        frozen = freeze(lambda: _build(model, size, stages), values)
        runs = frozen.runs(threads)
        made = [stage._replace(run=run) for stage, run in zip(stages, runs, strict=True)]
        super().__init__(made)


def _build(model: InferenceModel, size: int, stages: list[Stage]) -> list[Part]:
    """Builds every stage from placeholders, and adds it to ``stages``."""
    parts = []
    blocks = model.blocks(training=False)
    maps: dict[Node, tf.Tensor] = {}
    for k in range(model.net.exits):
        feeds, view = [], None
        if k == 0:
            *specs, _ = model.inputs()
            feeds = [tf.placeholder(spec.dtype, spec.shape) for spec in specs]
            view = model.views(feeds)[size]
        reads = list(maps)
        for node, tensor in maps.items():
            value = tf.placeholder(tensor.dtype, tensor.shape)
            rows = tf.placeholder(tf.int64, [None])
            feeds.extend((value, rows))
            maps[node] = take_rows(value, rows)
        logits, after = model.net.exit(k, size, view, dict(maps), blocks)
        makes = [node for node in after if node not in maps]
        fetches = [tf.argmax(logits, axis=1), log_confidence(logits), logits]
        fetches.extend(after[node] for node in makes)
        parts.append(Part(feeds, fetches))
        stages.append(Stage(reads, makes))
        maps = after
    return parts
