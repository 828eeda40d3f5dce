"""Copies of runs whose values or quantizers were changed without training."""

import shutil
from pathlib import Path

from engine.importers import pytorch
from engine.runs import checkpoint, data_record, holdout
from engine.runs.checkpoint import Checkpoint
from engine.runs.folder import checkpoint_step


def write(source: Checkpoint, folder: Path) -> str:
    """Makes a run folder of a changed checkpoint, and returns the prefix of its checkpoint.

    It holds what evaluation needs: configuration, weights, statistics that were calibrated, and the
    records of data and of held-out images.

    Args:
        source: the checkpoint, read from a run, with other values or another configuration.
        folder: to make.
    """
    assert source.config is not None
    config = source.config.replacing(load=str(Path(source.prefix).resolve()))
    step = checkpoint_step(source.prefix) or 0
    prefix = pytorch.write(pytorch.Imported(config, source.values, []), folder, step=step)
    before = Path(source.prefix).parent
    known = checkpoint.read_calibrated(source.prefix)
    calibrated = {name: source.values[name] for name in known if name in source.values}
    if calibrated:
        checkpoint.write_calibrated(prefix, calibrated)
    record = data_record.read(before)
    if record is not None:
        data_record.write(folder, record)
    if (before / holdout.FILE).exists():
        shutil.copy(before / holdout.FILE, folder)
    return prefix
