"""TensorFlow in graph mode. The only place where TensorFlow is imported and its process-wide switches are set.

tensorpack's layers need the legacy Keras, and say so only when a layer is built; resource variables make a read an
immutable snapshot, so that no update of the same step can reach a value that a gradient still needs.
"""

import os

os.environ.setdefault('TF_USE_LEGACY_KERAS', '1')
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

import tensorflow.compat.v1 as tf  # noqa: E402

tf.disable_eager_execution()
tf.enable_resource_variables()

__all__ = ['tf']
