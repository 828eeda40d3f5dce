"""Benchmarks, each of alternatives that take turns; `python -m scripts.bench` runs them."""
