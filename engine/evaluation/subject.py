"""Subject of ``--eval``: a checkpoint, its configuration and data, and the machine for them.

All three are as the run recorded them and as flags change them.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine import families
from engine.config import hardware
from engine.config.cli import explicit, peers
from engine.config.config import Config, check_distinct, read_config
from engine.config.options import MachineOptions
from engine.config.resolve import completed_views, resolve
from engine.data import classes, datasets
from engine.data.identity import Identity
from engine.data.spec import Dataset
from engine.errors import UsageError
from engine.quantities import counted
from engine.runs import data_record, holdout
from engine.runs.folder import CONFIG
from nets.points import Point

if TYPE_CHECKING:
    from engine.runs.checkpoint import Checkpoint

# What belongs to the machine or to the data, and is settled anew.
SETTLED_ANEW = ('gpu', 'operation_threads', 'rewriting', 'native', 'classes', 'dataset')


def evaluated(args: argparse.Namespace) -> tuple[Config, Dataset, 'Checkpoint']:
    """The subject of ``--eval``, as the run recorded it and the flags change it.

    Raises:
        UsageError: there is no such checkpoint, or it does not fit the flags or the data.
    """
    from engine.evaluation import borrowing
    from engine.runs import checkpoint

    given = explicit(args)
    # Any number of GPUs evaluates: the batch size of training need not be a multiple of it.
    gpu = given.pop('gpu', MachineOptions.gpu)
    prefix = checkpoint.find(args.eval_checkpoint, args.eval_epoch, '-ec')
    recorded = _recorded(prefix)
    if 'data' not in given and datasets.is_gone(recorded.get('data', '')):
        raise UsageError(
            f'--data {recorded["data"]}: is not there any more, where {prefix} had its data; give '
            '--data and where they are now'
        )
    given = {**recorded, **given, **completed_views(given, recorded)}
    weights = args.weights or 'raw'
    # What the run folder says is checked before TensorFlow is loaded to read the checkpoint.
    if recorded:
        source = checkpoint.recorded(prefix, weights=weights)
    else:
        source = checkpoint.read(prefix, flag='-ec', weights=weights)
    _check_source(source, prefix, given.get('data', ''), bool(recorded))
    given.setdefault('qw', source.qw)
    given.setdefault('qa', source.qa)
    config, dataset, notes = resolve({**given, 'sizes': source.trained})
    _check_sampling(args, config)
    if recorded:
        narrow = narrowed(config, source, args.eval_scale, args.eval_widths, args.eval_bits)
        borrowing.check(source, narrow, args.untrained, args.eval_original_scale)
        source = checkpoint.read(prefix, flag='-ec', weights=weights)
    if source.class_names:
        dataset, note = classes.mapped(dataset, source.class_names, prefix)
        config = config.replacing(classes=len(dataset.classes))
        notes += filter(None, [note])
    print('\n'.join(notes))
    if source.classes != config.classes:
        raise UsageError(
            f'--data {config.data}: has {counted(config.classes, "class")}; {prefix} knows '
            f'{source.classes}'
        )
    config = narrowed(config, source, args.eval_scale, args.eval_widths, args.eval_bits)
    config = config.replacing(gpu=gpu)
    return config, holdout.apply(dataset, config, Path(prefix).parent), source


def check_flags(args: argparse.Namespace) -> None:
    """Refuses flags that do not go together, or that belong to a training.

    Raises:
        UsageError: such a flag is given.
    """
    if peers(args) and args.thresholds:
        raise UsageError(f'--thresholds with --workers {args.workers}: one machine measures that')
    for flag, value, instead in (('--sizes', args.sizes, '-es'), ('--load', args.load, '-ec')):
        if value is not None:
            raise UsageError(f'{flag} with --eval: give {instead}')


def _check_sampling(args: argparse.Namespace, config: Config) -> None:
    """Refuses workers where gates are sampled, and a number of draws where they are not.

    Raises:
        UsageError: one of them is given.
    """
    sampled = getattr(config.options, 'gate_noise', False)
    if sampled and args.workers:
        raise UsageError(
            f'--gate_noise with --workers {args.workers}: what gates draw depends on the batches '
            'before; one machine evaluates'
        )
    if args.draws is not None and not sampled:
        raise UsageError(f'--draws {args.draws}: needs --gate_noise')


def identity(config: Config, dataset: Dataset, source: 'Checkpoint') -> Identity:
    """The identity of the data that are going to be scored.

    Args:
        config: of the evaluation.
        dataset: that is scored.
        source: the checkpoint, whose run may have recorded another identity.

    Raises:
        UsageError: they lie where the run's data were, and are others.
    """
    run = source.config
    there = data_record.read(Path(source.prefix).parent)
    images = Identity(dataset, trains=there is not None and there.val is None)
    if there is None or run is None or datasets.located(run.data) != datasets.located(config.data):
        return images
    fault = data_record.other(there, images)
    if fault:
        raise UsageError(
            f'--data {config.data}: is not what {source.prefix} had there: {fault}. Give the '
            'place of its data, or, to score others, another name of theirs, such as a link'
        )
    return images


def _recorded(prefix: str) -> dict[str, Any]:
    """Options that the run of a checkpoint recorded, by name; none without a record."""
    path = Path(prefix).parent / CONFIG
    if not path.exists():
        return {}
    options = read_config(path).flat()
    return {name: value for name, value in options.items() if name not in SETTLED_ANEW}


def _check_source(source: 'Checkpoint', prefix: str, data: str, recorded: bool) -> None:
    """Checks that a checkpoint is one of ours, and that its data are known.

    Raises:
        UsageError: it is none of ours, or its data are not recorded.
    """
    if not source.sizes:
        raise UsageError(
            f'-ec {prefix}: holds no network of ours (no normalisation statistics of any size)'
        )
    if not data:
        missing = 'no config.json there; give --data, and --arch and --mode'
        if recorded:
            missing = 'was imported without a data set; give --data'
        raise UsageError(f'-ec {prefix}: {missing}')


def narrowed(
    config: Config,
    source: 'Checkpoint',
    sizes: Sequence[int] | None,
    widths: Sequence[int] | None,
    bits: Sequence[int] | None = None,
) -> Config:
    """The configuration at what is evaluated: all that has statistics, or what was asked for.

    Args:
        config: configuration of the run.
        source: the checkpoint.
        sizes: input sizes asked for, in pixels.
        widths: widths asked for.
        bits: bits of weights asked for.

    Raises:
        UsageError: there are no statistics for a width or a precision.
    """
    from engine.runs import checkpoint

    for flag, values in (('-ew', widths), ('-eb', bits)):
        check_distinct(flag, values or ())
    config = config.narrowed(sizes or source.trained)
    kd = config.sizes == source.trained and 'alpha' in source.values
    config = config.adjusted(kd=kd)
    family = families.get(config.net)
    known = [Point.parse(name) for name in checkpoint.available(source)]
    if bits and not config.bits:
        asked = ' '.join(map(str, bits))
        raise UsageError(f'-eb {asked}: {source.prefix} was trained without --bits')
    found = family.evaluated(config, known, widths).at_bits(bits or ())
    found.check()
    if found != config:
        flag = '-ec'
        if bits:
            flag = '-eb'
        if widths:
            flag = '-ew'
        checkpoint.check_points(source, found.network().points, flag)
    return found


def prepared(args: argparse.Namespace, config: Config, dataset: Dataset) -> tuple[Config, str, int]:
    """Prepares the machine for an evaluation.

    Args:
        args: flags of an evaluation.
        config: as they change that of the run.
        dataset: that is evaluated.

    Returns:
        The configuration as ``sessions.begun`` settles it, data format, number of decoding threads.

    Raises:
        UsageError: the machine does not have what they ask for.
    """
    from engine.graph import sessions

    data_format, threads = hardware.prepare(config, dataset, args, exact=True)
    return sessions.begun(config, args.threads), data_format, threads
