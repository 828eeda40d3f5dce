"""Quantizers. Knows tensors and bits; knows no network.

Importing this package does not load TensorFlow; naming a quantizer does. It sets the environment
that TensorFlow must find: tensorpack's layers need the legacy Keras, and say so only when one is
built.
"""

import os

os.environ.setdefault('TF_USE_LEGACY_KERAS', '1')
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

from quant.policy import (  # noqa: E402
    ROLES,
    Policy,
    QuantizationOptions,
    Rule,
    low_bit,
)

__all__ = ['ROLES', 'Policy', 'QuantizationOptions', 'Rule', 'low_bit']
