"""Identity of a checkpoint by its content, without reading it as one."""

import hashlib
from pathlib import Path

from engine.errors import UsageError
from engine.runs.checkpoint import CALIBRATED

DIGITS = 16


def identity(prefix: str) -> str:
    """The identity of a checkpoint with the statistics that were calibrated for it.

    A copy has the same, and one that was trained further or calibrated anew another.

    Raises:
        UsageError: there is no such checkpoint.
    """
    path = Path(prefix)
    # A name may hold what patterns are made of.
    files = [one for one in path.parent.iterdir() if one.name.startswith(f'{path.name}.data-')]
    files += [one for one in (Path(f'{prefix}{CALIBRATED}'),) if one.exists()]
    if not files:
        raise UsageError(f'{prefix}: no such checkpoint')
    digest = hashlib.sha256()
    for one in sorted(files):
        digest.update(hashlib.sha256(one.read_bytes()).digest())
    return digest.hexdigest()[:DIGITS]
