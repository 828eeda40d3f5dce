"""Export as a TensorFlow SavedModel."""

import json
from pathlib import Path

from engine.graph.freeze import Frozen, folded
from engine.runs.literal import literal
from quant.backend import new_graph, tf


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
