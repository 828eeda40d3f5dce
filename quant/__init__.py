"""Quantizers. Knows tensors and bits; knows no network.

Importing this package does not load TensorFlow; naming a quantizer does.
"""

from quant.policy import ROLES, Policy, Rule, low_bit
from quant.policy_options import QuantizationOptions

__all__ = ['ROLES', 'Policy', 'QuantizationOptions', 'Rule', 'low_bit']
