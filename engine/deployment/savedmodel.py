"""Export as a TensorFlow SavedModel."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from engine.deployment import tf_graph, trace
from engine.deployment.description import describe
from engine.deployment.forms import Exporter, Runtime
from engine.errors import UsageError, reason
from engine.graph.freeze import Frozen
from engine.runs.checkpoint import Checkpoint
from engine.runs.literal import literal
from quant import backend
from quant.backend import new_graph, tf

DEFAULT = 'serving_default'

# Texts of a SavedModel, in its folder: an object with a member for each.
TEXTS = 'assets.extra/texts.json'


class SavedModel(Exporter):
    """A folder with a signature for each operating point, over the same weights in float32."""

    static = True

    def __init__(self) -> None:
        self._points: Sequence[str] = ()

    def write(self, source: Checkpoint, points: Sequence[str], path: Path) -> None:
        """Operating points in a new folder.

        Args:
            source: where they are from.
            points: their spellings, strongest first.
            path: to make.
        """
        self._points = points
        whole = trace.of_points(source, points)
        save(tf_graph.graph_of(whole, points), points, path)
        (path / TEXTS).parent.mkdir()
        self._store(path, describe(source, whole, 'savedmodel', library='tensorflow').spelled())

    def runtimes(self, path: Path) -> dict[str, Runtime]:
        with new_graph() as graph, literal(path) as folder:
            threads = tf.ConfigProto(intra_op_parallelism_threads=1)
            session = backend.session(graph, threads)
            meta = tf.saved_model.load(session, ['serve'], folder)
        signatures = [meta.signature_def[point] for point in self._points]

        def run(views: Sequence[np.ndarray], number: int) -> np.ndarray:
            (images,) = views
            signature = signatures[number]
            feed = {signature.inputs['images'].name: images}
            return session.run(signature.outputs['logits'].name, feed)

        return {f'tensorflow {tf.__version__}': run}

    def note(self, path: Path, texts: Mapping[str, str]) -> None:
        self._store(path, {**described(path), **texts})

    def _store(self, path: Path, texts: Mapping[str, str]) -> None:
        values = {name: json.loads(text) for name, text in texts.items()}
        (path / TEXTS).write_text(json.dumps(values, indent=1) + '\n')


def described(path: Path) -> dict[str, str]:
    """Texts of a SavedModel by name.

    Raises:
        UsageError: it has none.
    """
    try:
        values = json.loads((path / TEXTS).read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f'--show {path}: is no exported SavedModel ({error})') from error
    return {name: json.dumps(value) for name, value in values.items()}


def save(frozen: Frozen, points: Sequence[str], folder: Path) -> None:
    """Writes a SavedModel with signatures ``images`` -> ``logits``.

    Args:
        frozen: a graph with a part for each operating point.
        points: names of their signatures; the first is ``serving_default``, too.
        folder: to be made.

    Raises:
        UsageError: it cannot be written.
    """
    signatures = {}
    with new_graph() as graph, backend.session() as session, literal(folder) as path:
        tf.import_graph_def(frozen.graph_def, name='')
        for point, part in zip(points, frozen.signatures):
            images = graph.get_tensor_by_name(part.feeds[0])
            logits = graph.get_tensor_by_name(part.fetches[0])
            signatures[point] = tf.saved_model.predict_signature_def(
                {'images': images}, {'logits': logits}
            )
        signatures[DEFAULT] = signatures[points[0]]
        builder = tf.saved_model.Builder(path)
        builder.add_meta_graph_and_variables(session, ['serve'], signatures)
        try:
            builder.save()
        except tf.errors.OpError as error:
            place = folder.parent
            raise UsageError(f'--out: {place} cannot be written ({reason(error)})') from error
