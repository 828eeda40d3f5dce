"""Learned quantization (LQ-Nets): levels that are sums of a basis, refit while training."""
