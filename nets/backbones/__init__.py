"""Backbones: they map one input to logits and know no operating points."""
