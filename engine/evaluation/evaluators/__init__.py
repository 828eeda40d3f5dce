"""Evaluators: what is reported about choices made image by image - gates, widths, exits."""
