"""Layers: the vocabulary in which networks are written."""
