"""Quantizers. Knows tensors and bits; knows no network.

Nothing here imports TensorFlow until a graph is built: policies and specs are plain data. But whoever imports
    TensorFlow
or tensorpack later must find this environment: tensorpack's layers need the legacy Keras, and say so only when one is
    built.
"""

import os

os.environ.setdefault('TF_USE_LEGACY_KERAS', '1')
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

from quant.policy import ROLES, Policy, Rule, low_bit  # noqa: E402

__all__ = ['ROLES', 'Policy', 'Rule', 'low_bit']
