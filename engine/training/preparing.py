"""Checks of a training before anything takes time: TensorFlow is not loaded."""

import argparse
import dataclasses
from collections.abc import Collection, Sequence
from pathlib import Path

from engine.config import hardware, overview
from engine.config.cli import worker_count
from engine.config.config import Config
from engine.config.unrecorded import RESUMING
from engine.data import checks
from engine.data.identity import Identity
from engine.data.spec import Dataset
from engine.errors import UsageError
from engine.quantities import counted
from engine.runs import holdout
from engine.runs.folder import continued
from engine.training import teachers


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A training that can begin, or go on.

    Attributes:
        config: with which it does, as far as the folder knows it; else as asked for.
        dataset: its data, without the images that are set aside.
        identity: of the data.
        images: training images, with those that are set aside.
        goes_on: whether the folder holds a run already.
    """

    config: Config
    dataset: Dataset
    identity: Identity
    images: int
    goes_on: bool


def prepare(
    args: argparse.Namespace,
    config: Config,
    dataset: Dataset,
    notes: Sequence[str],
    folder: Path | None,
    *,
    given: Collection[str],
    dry: bool = False,
) -> Prepared:
    """Checks a training, and says what it is about.

    Args:
        args: flags of this machine and of the folder.
        config: what is going to be run.
        dataset: its data.
        notes: on how that came about.
        folder: of the run; None on workers that write nothing.
        given: names of the options that flags set.
        dry: whether nothing may be changed, not even a damaged record of images that are set aside.

    Raises:
        UsageError: flags, data or folder do not allow it.
    """
    workers = worker_count(args)
    images = len(dataset.train)
    record = folder if args.action in RESUMING else None
    dataset = holdout.apply(dataset, config, record, anew=not dry)
    _check_batch(config, len(dataset.train), workers)
    checks.check_trainable(dataset)
    teachers.check_there(config)
    identity = Identity(dataset)
    there = None
    if folder is not None:
        there = continued(config, folder, args.action, images=identity, given=given)
    about = [*notes, *overview.data_lines(config, dataset), *checks.notes(dataset, identity)]
    print('\n'.join(about), flush=True)
    hardware.check_native(config)
    return Prepared(there or config, dataset, identity, images, there is not None)


def _check_batch(config: Config, images: int, workers: int) -> None:
    """Checks that every tower of every machine gets its part of a batch.

    Raises:
        UsageError: there are too few images, or the batch cannot be divided or shared.
    """
    if config.batch_size > images:
        raise UsageError(
            f'--batch_size {config.batch_size}: for only {counted(images, "training image")}'
        )
    if config.batch_size % (workers * len(config.gpu)):
        raise UsageError(
            f'--batch_size {config.batch_size}: not divisible by the {workers} --workers times '
            f'{counted(len(config.gpu), "tower")} of --gpu'
        )
    if config.mixing.mixes and config.batch_size < 2 * workers * len(config.gpu):
        raise UsageError(
            f'--batch_size {config.batch_size} with --mixup or --cutmix: each of the {workers} '
            f'--workers times {counted(len(config.gpu), "tower")} of --gpu needs two images to mix'
        )
    if workers > 1 and config.sync_bn:
        raise UsageError(
            '--sync-bn with --workers: batch statistics are shared by the GPUs of one machine '
            'only; leave one of them out'
        )
