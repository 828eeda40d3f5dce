"""Data flow, towers, trainers, evaluation, checkpoints and run folders. Imports ``nets`` and ``quant``, never the reverse."""
