"""Reading checkpoints without our own reader."""

from engine.runs.checkpoint import CLASSES
from quant.backend import tf


def values(prefix):
    """Variables by name: not the names of classes, which a checkpoint holds beside."""
    reader = tf.train.load_checkpoint(str(prefix))
    names = set(reader.get_variable_to_shape_map()) - {CLASSES}
    return {name: reader.get_tensor(name) for name in sorted(names)}
