"""Data flow, towers, trainers, evaluation, checkpoints and run folders."""

import quant  # noqa: F401  (sets the environment before any module here imports tensorpack)
