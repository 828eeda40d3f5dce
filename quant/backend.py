"""TensorFlow in graph mode. The only place where TensorFlow is imported and switched to graph mode.

With resource variables a read is an immutable snapshot: no update of a step can reach a value that a gradient of the
same step still needs. ``quant/__init__.py`` has set the environment before.
"""

import tensorflow.compat.v1 as tf

tf.disable_eager_execution()
tf.enable_resource_variables()

__all__ = ['tf']
