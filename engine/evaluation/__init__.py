"""Evaluation of all operating points, and calibration of normalisation statistics."""
