"""Evaluators of dynamic choices: gates, widths, exits."""
