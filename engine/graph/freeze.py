"""Inference graphs without variables: weights are constants."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from engine import families
from engine.errors import UsageError
from engine.graph.inference import InferenceModel
from engine.runs import checkpoint, matching
from engine.runs.checkpoint import Checkpoint, Restore
from nets.points import Point
from quant import backend
from quant.backend import new_graph, tf
from quant.spelling import unknown
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

    def runs(
        self, threads: int = 0, config: tf.ConfigProto | None = None
    ) -> list[Callable[..., list[np.ndarray]]]:
        """A callable (feeds in order) -> fetches for every part, in one new session.

        Args:
            threads: of one operation; 0 takes all cores.
            config: what else is to be said of the session.
        """
        runs = []
        config = config or tf.ConfigProto()
        config.intra_op_parallelism_threads = threads
        with new_graph() as graph:
            tf.import_graph_def(self.graph_def, name='')
            session = backend.session(config=config)
            for part in self.signatures:
                feeds = [graph.get_tensor_by_name(name) for name in part.feeds]
                fetches = [graph.get_tensor_by_name(name) for name in part.fetches]
                runs.append(backend.function(session, feeds, fetches))
        return runs


def freeze(build: Callable[[], Sequence[Part]], values: Values) -> Frozen:
    """Builds a graph and turns its variables into constants.

    Args:
        build: adds to the current graph; returns its parts.
        values: of its variables.
    """
    with new_graph() as graph, backend.session() as session:
        signatures = _built(build, values, session)
        # Feeds are kept by name, those too which nothing reads: a caller gives all views.
        kept = []
        for part in signatures:
            kept += [name.partition(':')[0] for name in (*part.feeds, *part.fetches)]
        graph_def = graph.as_graph_def()
        graph_def = tf.graph_util.convert_variables_to_constants(session, graph_def, kept)
    return Frozen(graph_def, signatures)


def freeze_folded(build: Callable[[], Sequence[Part]], values: Values) -> Frozen:
    """``folded(freeze(build, values))`` in half the time.

    Nothing is written into a graph but what is left of it in the end.

    Args:
        build: adds to the current graph; returns its parts. What is fed reaches no variable.
        values: of its variables.
    """
    with new_graph() as graph, backend.session() as session:
        signatures = _built(build, values, session)
        constants = _constants(graph, session, signatures)
        graph_def = graph.as_graph_def()
    return _with_constants(Frozen(graph_def, signatures), constants)


def _built(
    build: Callable[[], Sequence[Part]], values: Values, session: tf.Session
) -> list[Signature]:
    """Adds parts to the current graph, and gives its variables their values.

    Args:
        build: as of ``freeze``.
        values: as of ``freeze``.
        session: that has the variables.
    """
    signatures = []
    for feeds, fetches in build():
        outputs = list(map(tf.identity, fetches))
        feed_names = [tensor.name for tensor in feeds]
        output_names = [tensor.name for tensor in outputs]
        signatures.append(Signature(feed_names, output_names))
    if callable(values):
        values = values(variables())
    Restore(values).init(session)
    return signatures


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
    check_point(source, name, 'point')
    point = Point.parse(name)
    config = source.config
    assert config is not None
    if point.size is not None and point.size in config.sizes:
        config = config.narrowed([point.size])
    config = families.get(config.net).at_point(config, point).at_bits([point.bits])
    model = InferenceModel(config.adjusted(kd=False), data_format=data_format)
    return model, functools.partial(matching.select, source, flag='RUN', partial=True)


def check_point(source: Checkpoint, name: str, flag: str) -> None:
    """Checks that a checkpoint has an operating point.

    Args:
        source: the checkpoint, as ``checkpoint.recorded`` has it or read.
        name: spelling of the point.
        flag: that names it, for messages.

    Raises:
        UsageError: it has none of this spelling.
    """
    known = points(source)
    if name not in known:
        raise UsageError(f'{flag} {name!r}: {unknown(name, known)} (in {source.prefix})')


def points(source: Checkpoint) -> list[str]:
    """Spellings of all operating points that can be run: trained, or calibrated.

    Those of the network come first, strongest first.
    """
    if source.config is None:
        return []
    known = checkpoint.available(source)
    declared = [str(point) for point in source.config.network().points]
    sizes = {*source.config.sizes, *(Point.parse(name).size for name in known)}
    extra = [f's{size}' for size in source.sizes if size not in sizes]
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


def choosing_model(source: Checkpoint, name: str) -> tuple[InferenceModel, Values]:
    """A model of a network that chooses image by image, and its variables.

    Args:
        source: the checkpoint.
        name: one of ``Network.choosing``.
    """
    assert source.config is not None
    config = source.config.at_bits([Point.within(name).bits])
    model = InferenceModel(config.adjusted(kd=False), data_format='NHWC')
    return model, functools.partial(matching.select, source, flag='RUN', partial=True)


def of_choices(
    source: Checkpoint, name: str, thresholds: Sequence[float] = ()
) -> tuple[Frozen, list[str]]:
    """The graph of a network that chooses image by image.

    Args:
        source: the checkpoint.
        name: one of ``Network.choosing``.
        thresholds: as of ``Network.chosen``.

    Returns:
        The graph, whose output are logits and a whole number for each choice, and names of these.
    """
    model, values = choosing_model(source, name)
    told: list[str] = []

    def build() -> list[Part]:
        feeds, blocks = _images(model), model.blocks(training=False)
        size = model.net.choosing[name]
        logits, executed = model.net.chosen(size, model.views(feeds), blocks, thresholds)
        told.extend(executed)
        return [Part(feeds, [logits, *executed.values()])]

    return freeze(build, values), told


def _images(model: InferenceModel) -> list[tf.Tensor]:
    """Placeholders of the images, uint8 [N, side, side, C], one for each view size."""
    *specs, _ = model.inputs()
    return [tf.placeholder(spec.dtype, spec.shape, spec.name) for spec in specs]


def folded(frozen: Frozen) -> Frozen:
    """A frozen graph in which all is computed already that no feed reaches.

    Of a weight, say, only the channels in use are left. Feeds that nothing reads are left out.
    """
    with new_graph() as graph, backend.session() as session:
        tf.import_graph_def(frozen.graph_def, name='')
        constants = _constants(graph, session, frozen.signatures)
    return _with_constants(frozen, constants)


def _constants(
    graph: tf.Graph, session: tf.Session, signatures: Sequence[Signature]
) -> dict[str, np.ndarray]:
    """Values of the tensors that no feed reaches and that something reads which one reaches.

    Args:
        graph: that has the parts.
        session: to compute them with.
        signatures: the parts.
    """
    reached: set[tf.Operation] = set()
    wanted: list[tf.Operation] = []
    for part in signatures:
        reached.update(graph.get_tensor_by_name(name).op for name in part.feeds)
        wanted += [graph.get_tensor_by_name(name).op for name in part.fetches]
    needed = set(wanted)
    while wanted:
        for op in _sources(wanted.pop()):
            if op not in needed:
                needed.add(op)
                wanted.append(op)
    border: set[str] = set()
    for op in graph.get_operations():
        if op in needed and not reached.isdisjoint(_sources(op)):
            reached.add(op)
    for op in reached & needed:
        border.update(tensor.name for tensor in op.inputs if tensor.op not in reached)
    names = sorted(border)
    return dict(zip(names, session.run(names)))


def _sources(op: tf.Operation) -> list[tf.Operation]:
    """The nodes that a node reads, or waits for."""
    return [*op.control_inputs, *(tensor.op for tensor in op.inputs)]


def _with_constants(frozen: Frozen, constants: Mapping[str, np.ndarray]) -> Frozen:
    """A graph with constants in place of some tensors, and without what nothing reads any more.

    Args:
        frozen: the graph.
        constants: values by name of the tensor.
    """
    with new_graph() as graph:
        with tf.name_scope('folded'):
            inputs = {name: tf.constant(value) for name, value in constants.items()}
        tf.import_graph_def(frozen.graph_def, name='', input_map=inputs)
        nodes = []
        for part in frozen.signatures:
            nodes += [name.partition(':')[0] for name in part.fetches]
        graph_def = tf.graph_util.extract_sub_graph(graph.as_graph_def(), nodes)
    left = {f'{node.name}:0' for node in graph_def.node}
    signatures = []
    for part in frozen.signatures:
        read = [name for name in part.feeds if name in left]
        signatures.append(Signature(read, part.fetches))
    return Frozen(graph_def, signatures)
