"""Inference graphs without variables: weights are constants."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from engine import families
from engine.errors import UsageError
from engine.graph.inference import InferenceModel
from engine.runs import checkpoint
from engine.runs.checkpoint import Checkpoint, Restore
from nets.points import Point
from quant.backend import new_graph, tf
from quant.state import State, variables

# Values of variables by name, or what takes them from somewhere by the declarations of a graph.
Values = Mapping[str, np.ndarray] | Callable[[Mapping[str, State]], Mapping[str, np.ndarray]]


class Part(NamedTuple):
    """A part of a graph that is being built: the tensors that it is fed, and what is fetched."""

    feeds: Sequence[tf.Tensor]
    fetches: Sequence[tf.Tensor]


class Signature(NamedTuple):
    """A part of a frozen graph: names of the tensors that it is fed, and of what is fetched."""

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
        runs = []
        with new_graph() as graph:
            tf.import_graph_def(self.graph_def, name='')
            session = tf.Session(config=tf.ConfigProto(intra_op_parallelism_threads=threads))
            for part in self.signatures:
                feeds = map(graph.get_tensor_by_name, part.feeds)
                fetches = map(graph.get_tensor_by_name, part.fetches)
                runs.append(session.make_callable(list(fetches), list(feeds)))
        return runs


def freeze(build: Callable[[], Sequence[Part]], values: Values) -> Frozen:
    """Builds a graph and turns its variables into constants.

    Args:
        build: adds to the current graph; returns its parts.
        values: of its variables.
    """
    with new_graph() as graph, tf.Session() as session:
        kept: list[str] = []
        signatures = []
        for feeds, fetches in build():
            outputs = list(map(tf.identity, fetches))
            # Feeds are kept by name, those too which nothing reads: a caller gives all views.
            kept.extend(tensor.op.name for tensor in (*feeds, *outputs))
            feed_names = [tensor.name for tensor in feeds]
            output_names = [tensor.name for tensor in outputs]
            signatures.append(Signature(feed_names, output_names))
        if callable(values):
            values = values(variables())
        Restore(values).init(session)
        graph_def = graph.as_graph_def()
        graph_def = tf.graph_util.convert_variables_to_constants(session, graph_def, kept)
    return Frozen(graph_def, signatures)


def point_model(
    source: Checkpoint, name: str, data_format: str = 'NHWC'
) -> tuple[InferenceModel, Values]:
    """A model that has the operating point ``name``, at its size alone, and its variables.

    What it has beside is left out by ``of_point``.

    Args:
        source: the checkpoint.
        name: spelling of the point.
        data_format: of its layers.

    Raises:
        UsageError: there is no such point.
    """
    known = points(source)
    if name not in known or source.config is None:
        raise UsageError(f'point {name!r}: {source.prefix} has {" ".join(known)}')
    point = Point.parse(name)
    config = source.config
    if point.size is not None and point.size in config.sizes:
        config = config.narrowed([point.size])
    config = families.get(config.net).at_point(config, point)
    model = InferenceModel(config.adjusted(kd=False), data_format=data_format)
    return model, functools.partial(checkpoint.select, source, flag='RUN', partial=True)


def points(source: Checkpoint) -> list[str]:
    """Spellings of all operating points that can be run: trained, or calibrated.

    Those of the network come first, strongest first.
    """
    if source.config is None:
        return []
    known = checkpoint.available(source)
    declared = [str(point) for point in source.config.network().points]
    extra = [f's{size}' for size in source.sizes if size not in source.config.sizes]
    found = [name for name in declared if name in known]
    found.extend(name for name in (*known, *extra) if name not in declared)
    return list(dict.fromkeys(found))


def named(source: Checkpoint, name: str, *, static: bool = False) -> Frozen:
    """The graph of one operating point.

    Args:
        source: the checkpoint.
        name: spelling of the point.
        static: as of ``of_point``.

    Raises:
        UsageError: there is no such point, or it has no statistics.
    """
    model, values = point_model(source, name)
    return of_point(model, Point.parse(name), values, static=static)


def of_point(
    model: InferenceModel, point: Point, values: Values, *, static: bool = False
) -> Frozen:
    """The graph of one operating point: uint8 images of the data flow -> logits [N, classes].

    Args:
        model: a network that has the point.
        point: what is computed.
        values: of its variables.
        static: whether every layer is computed, also where the network skips some for an image.
    """

    def build() -> list[Part]:
        feeds = _images(model)
        options = model.net.static_options if static else {}
        blocks = model.blocks(training=False)
        outputs = model.net.outputs(model.views(feeds), blocks, **options)
        return [Part(feeds, [outputs.logits[point]])]

    return freeze(build, values)


def dynamic(source: Checkpoint, name: str) -> Frozen:
    """The graph up to the logits ``name`` of a network that chooses its cost image by image."""
    assert source.config is not None
    model = InferenceModel(source.config, data_format='NHWC')

    def build() -> list[Part]:
        feeds, blocks = _images(model), model.blocks(training=False)
        outputs = model.net.outputs(model.views(feeds), blocks, **model.net.dynamic_options)
        return [Part(feeds, [outputs.extras[name]])]

    return freeze(build, functools.partial(checkpoint.select, source, flag='RUN'))


def choosing_model(source: Checkpoint) -> tuple[InferenceModel, Values]:
    """A model of a network that chooses image by image, and its variables."""
    assert source.config is not None
    model = InferenceModel(source.config.adjusted(kd=False), data_format='NHWC')
    return model, functools.partial(checkpoint.select, source, flag='RUN', partial=True)


def of_choices(source: Checkpoint, name: str, thresholds: Sequence[float]) -> Frozen:
    """The graph of a network that chooses image by image: its logits, and each of its choices.

    Args:
        source: the checkpoint.
        name: one of ``Network.choosing``.
        thresholds: as of ``Network.chosen``.
    """
    model, values = choosing_model(source)

    def build() -> list[Part]:
        feeds, blocks = _images(model), model.blocks(training=False)
        size = model.net.choosing[name]
        logits, executed = model.net.chosen(size, model.views(feeds), blocks, thresholds)
        return [Part(feeds, [logits, *executed.values()])]

    return freeze(build, values)


def _images(model: InferenceModel) -> list[tf.Tensor]:
    """Placeholders of the images, uint8 [N, side, side, 3], one for each view size."""
    *specs, _ = model.inputs()
    return [tf.placeholder(spec.dtype, spec.shape, spec.name) for spec in specs]


def folded(frozen: Frozen) -> Frozen:
    """The same with everything computed that no feed reaches.

    Of a weight, say, only the channels in use are left. Feeds that nothing reads are left out.
    """
    feeds: list[str] = []
    fetches: list[str] = []
    for part in frozen.signatures:
        feeds += part.feeds
        fetches += part.fetches
    constants = _constants(frozen.graph_def, feeds)
    with new_graph() as graph:
        with tf.name_scope('folded'):
            inputs = {name: tf.constant(value) for name, value in constants.items()}
        tf.import_graph_def(frozen.graph_def, name='', input_map=inputs)
        nodes = [name.partition(':')[0] for name in fetches]
        graph_def = tf.graph_util.extract_sub_graph(graph.as_graph_def(), nodes)
    left = {f'{node.name}:0' for node in graph_def.node}
    signatures = []
    for part in frozen.signatures:
        read = [name for name in part.feeds if name in left]
        signatures.append(Signature(read, part.fetches))
    return Frozen(graph_def, signatures)


def _constants(graph_def: Any, feeds: Sequence[str]) -> dict[str, np.ndarray]:
    """Values of the tensors that no feed reaches and that something reads which one reaches."""
    with new_graph() as graph, tf.Session() as session:
        tf.import_graph_def(graph_def, name='')
        reached = {graph.get_tensor_by_name(name).op for name in feeds}
        border: set[str] = set()
        for op in graph.get_operations():
            sources = [tensor.op for tensor in op.inputs]
            if not reached.isdisjoint([*op.control_inputs, *sources]):
                reached.add(op)
        for op in reached:
            border.update(tensor.name for tensor in op.inputs if tensor.op not in reached)
        names = sorted(border)
        return dict(zip(names, session.run(names)))
