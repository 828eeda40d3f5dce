"""Data flow, towers, trainers, evaluation, checkpoints and run folders. Imports ``nets`` and ``quant``, never the
reverse.
"""

import quant  # noqa: F401  (sets the environment before any module here imports tensorpack)
