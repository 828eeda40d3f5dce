"""Reading checkpoints without our own reader."""

from engine.runs.checkpoint import CLASSES
from quant.backend import tf


def values(prefix):
    """Variables by name: not the names of classes, which a checkpoint holds beside.

    Nor how full the queue of batches was: that differs with what else the machine does.
    """
    reader = tf.train.load_checkpoint(str(prefix))
    names = set(reader.get_variable_to_shape_map()) - {CLASSES}
    kept = [name for name in sorted(names) if 'queue_size' not in name]
    return {name: reader.get_tensor(name) for name in kept}
