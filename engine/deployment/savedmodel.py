"""Export as a TensorFlow SavedModel."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from engine.deployment.forms import Exporter, Runtime
from engine.errors import UsageError
from engine.graph.freeze import Frozen, folded, named
from engine.runs.checkpoint import Checkpoint
from engine.runs.literal import literal
from quant.backend import new_graph, tf


class SavedModel(Exporter):
    """A folder with one operating point, whose weights are constants in float32."""

    def write(self, source: Checkpoint, points: Sequence[str], path: Path) -> None:
        """One operating point in a new folder.

        Args:
            source: where it is from.
            points: its spelling alone.
            path: to make.

        Raises:
            UsageError: there are several points.
        """
        if len(points) > 1:
            raise UsageError(
                f'--points {" ".join(points)}: a SavedModel holds one; give it, or --out NAME.onnx'
            )
        save(named(source, points[0]), path)

    def runtimes(self, path: Path) -> dict[str, Runtime]:
        with new_graph() as graph, literal(path) as folder:
            session = tf.Session(graph=graph)
            meta = tf.saved_model.load(session, ['serve'], folder)
        signature = meta.signature_def['serving_default']
        (feed,) = signature.inputs.values()

        def run(images: np.ndarray, _: int) -> np.ndarray:
            return session.run(signature.outputs['logits'].name, {feed.name: images})

        return {f'tensorflow {tf.__version__}': run}


def save(frozen: Frozen, folder: Path) -> None:
    """Writes a SavedModel with the signature ``serving_default``: ``images`` -> ``logits``.

    The names of the classes, if they are known, are in ``assets.extra/classes.json`` in the order
    of the logits.

    Args:
        frozen: a graph of one part, whose weights become constants of the file.
        folder: to be made.
    """
    frozen = folded(frozen)
    (part,) = frozen.signatures
    with new_graph() as graph, tf.Session() as session:
        tf.import_graph_def(frozen.graph_def, name='')
        inputs = {}
        for name in part.feeds:
            spelled = 'images' if len(part.feeds) == 1 else name.partition(':')[0]
            inputs[spelled] = graph.get_tensor_by_name(name)
        outputs = {'logits': graph.get_tensor_by_name(part.fetches[0])}
        with literal(folder) as path:
            tf.saved_model.simple_save(session, path, inputs, outputs)
    if frozen.classes:
        extra = folder / 'assets.extra'
        extra.mkdir()
        (extra / 'classes.json').write_text(json.dumps(frozen.classes, indent=1) + '\n')
