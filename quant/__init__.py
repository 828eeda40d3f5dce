"""Quantizers. Knows tensors and bits; knows no network.

Nothing here imports TensorFlow until a graph is built: policies and specs are plain data.
"""

from quant.policy import ROLES, Policy, Rule, low_bit

__all__ = ['ROLES', 'Policy', 'Rule', 'low_bit']
