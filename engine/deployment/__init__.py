"""Prediction from a trained run."""
