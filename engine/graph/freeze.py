"""Inference graphs without variables: weights are constants."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from engine import families
from engine.errors import UsageError
from engine.graph.inference import InferenceModel
from engine.runs import checkpoint
from engine.runs.checkpoint import Checkpoint, Restore
from nets.points import Point
from quant.backend import new_graph, tf


class Signature(NamedTuple):
    """What a part of a graph is fed and what is fetched: names of tensors."""

    feeds: list[str]
    fetches: list[str]


class Frozen(NamedTuple):
    """A graph without variables, and its parts."""

    graph_def: Any
    signatures: list[Signature]

    def runs(self, threads: int = 0) -> list[Callable[..., list[np.ndarray]]]:
        """A callable (feeds in order) -> fetches for every part, in one new session.

        Args:
            threads: of one operation; 0 takes all cores.
        """
        with new_graph() as graph:
            tf.import_graph_def(self.graph_def, name='')
            session = tf.Session(config=tf.ConfigProto(intra_op_parallelism_threads=threads))
            tensor = graph.get_tensor_by_name
            return [
                session.make_callable(
                    list(map(tensor, part.fetches)), list(map(tensor, part.feeds))
                )
                for part in self.signatures
            ]


def freeze(
    build: Callable[[], Sequence[tuple[Sequence[tf.Tensor], Sequence[tf.Tensor]]]],
    values: Mapping[str, np.ndarray],
) -> Frozen:
    """Builds a graph and turns its variables into constants.

    Args:
        build: adds to the current graph; returns (feeds, fetches) of every part.
        values: of its variables, by name.
    """
    with new_graph() as graph, tf.Session() as session:
        parts = [
            (list(feeds), [tf.identity(tensor) for tensor in fetches]) for feeds, fetches in build()
        ]
        Restore(values).init(session)
        # Feeds are named, so that those stay which nothing reads: a caller gives all views.
        names = [tensor.op.name for part in parts for tensors in part for tensor in tensors]
        graph_def = tf.graph_util.convert_variables_to_constants(
            session, graph.as_graph_def(), names
        )
        return Frozen(
            graph_def,
            [
                Signature([tensor.name for tensor in feeds], [tensor.name for tensor in fetches])
                for feeds, fetches in parts
            ],
        )


def point_model(source: Checkpoint, name: str) -> tuple[InferenceModel, dict[str, np.ndarray]]:
    """A model that has the operating point ``name``, and its variables.

    What it has beside is left out by ``of_point``.

    Raises:
        UsageError: there is no such point, or it has no statistics.
    """
    known = points(source)
    if name not in known or source.config is None:
        raise UsageError(f'point {name!r}: {source.prefix} has {" ".join(known)}')
    config, point = source.config, Point.parse(name)
    config = families.get(config.net).at_point(config, point)
    model = InferenceModel(config.adjusted(kd=False), data_format='NHWC')
    variables, _ = model.inspect()
    return model, checkpoint.select(source, variables, flag='RUN', partial=True)


def points(source: Checkpoint) -> list[str]:
    """Spellings of all operating points that can be run: trained, or calibrated."""
    if source.config is None:
        return []
    extra = [f's{size}' for size in source.sizes if size not in source.config.sizes]
    every = [str(point) for point in source.config.network().points]
    known = checkpoint.available(source)
    return [name for name in every if name in known] + [
        name for name in (*known, *extra) if name not in every
    ]


def named(source: Checkpoint, name: str) -> Frozen:
    """What the operating point ``name`` computes, see ``of_point`` and ``point_model``."""
    model, values = point_model(source, name)
    return of_point(model, Point.parse(name), values)


def dynamic(source: Checkpoint, name: str) -> Frozen:
    """The graph up to the logits ``name`` of a network whose gate chooses widths image by image."""
    assert source.config is not None
    model = InferenceModel(source.config, data_format='NHWC')
    variables, _ = model.inspect()

    def build() -> list[tuple[list[tf.Tensor], list[tf.Tensor]]]:
        feeds = _images(model)
        outputs = model.net.outputs(
            model.views(feeds), model.blocks(training=False), **model.net.dynamic_options
        )
        return [(feeds, [outputs.extras[name]])]

    return freeze(build, checkpoint.select(source, variables, flag='RUN'))


def _images(model: InferenceModel) -> list[tf.Tensor]:
    return [tf.placeholder(spec.dtype, spec.shape, spec.name) for spec in model.inputs()[:-1]]


def of_point(model: InferenceModel, point: Point, values: Mapping[str, np.ndarray]) -> Frozen:
    """The graph of one operating point: uint8 images of the data flow -> logits [N, classes]."""

    def build() -> list[tuple[list[tf.Tensor], list[tf.Tensor]]]:
        feeds = _images(model)
        outputs = model.net.outputs(model.views(feeds), model.blocks(training=False))
        return [(feeds, [outputs.logits[point]])]

    return freeze(build, values)


def folded(frozen: Frozen) -> Frozen:
    """The same with everything computed that no feed reaches.

    Of a weight, say, only the channels in use are left.

    Feeds that nothing reads are left out.
    """
    feeds = [name for part in frozen.signatures for name in part.feeds]
    fetches = [name for part in frozen.signatures for name in part.fetches]
    constants = _constants(frozen.graph_def, feeds)
    with new_graph() as graph:
        with tf.name_scope('folded'):
            inputs = {name: tf.constant(value) for name, value in constants.items()}
        tf.import_graph_def(frozen.graph_def, name='', input_map=inputs)
        graph_def = tf.graph_util.extract_sub_graph(
            graph.as_graph_def(), [name.partition(':')[0] for name in fetches]
        )
    left = {f'{node.name}:0' for node in graph_def.node}
    return Frozen(
        graph_def,
        [
            Signature([name for name in part.feeds if name in left], part.fetches)
            for part in frozen.signatures
        ],
    )


def _constants(graph_def: Any, feeds: Sequence[str]) -> dict[str, np.ndarray]:
    """Values by name of the tensors that no feed reaches and operations read that one reaches."""
    with new_graph() as graph, tf.Session() as session:
        tf.import_graph_def(graph_def, name='')
        reached = {graph.get_tensor_by_name(name).op for name in feeds}
        for op in graph.get_operations():
            if not reached.isdisjoint([*op.control_inputs, *(tensor.op for tensor in op.inputs)]):
                reached.add(op)
        names = sorted(
            {tensor.name for op in reached for tensor in op.inputs if tensor.op not in reached}
        )
        return dict(zip(names, session.run(names)))


def save(frozen: Frozen, folder: Path) -> None:
    """Writes a SavedModel with the signature ``serving_default``: ``images`` -> ``logits``."""
    frozen = folded(frozen)
    (part,) = frozen.signatures
    with new_graph() as graph, tf.Session() as session:
        tf.import_graph_def(frozen.graph_def, name='')
        feeds = {
            'images' if len(part.feeds) == 1 else name.partition(':')[0]: graph.get_tensor_by_name(
                name
            )
            for name in part.feeds
        }
        tf.saved_model.simple_save(
            session, str(folder), feeds, {'logits': graph.get_tensor_by_name(part.fetches[0])}
        )
