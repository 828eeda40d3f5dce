"""Damaged files for every reader: what was recorded comes back, or a refusal, and nothing else."""
