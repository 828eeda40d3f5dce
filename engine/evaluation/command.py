"""The command that evaluates: from flags and a checkpoint to records in a run folder."""

import argparse
import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engine import families
from engine.config import hardware, overview
from engine.config.cli import explicit, peers
from engine.config.config import Config, read_config
from engine.config.options import MachineOptions
from engine.config.resolve import completed_views, resolve
from engine.data import classes, datasets
from engine.data.identity import Identity
from engine.data.spec import Dataset
from engine.errors import UsageError
from engine.quantities import counted
from engine.results import cascades
from engine.runs import data_record, holdout
from engine.runs.folder import CONFIG, merge_layers
from nets.points import Point

if TYPE_CHECKING:
    from engine.graph.worker import SingleWorker
    from engine.runs.checkpoint import Checkpoint

# Passes over the validation set with sampled gates.
DRAWS = 5

# What belongs to the machine or to the data, and is settled anew.
SETTLED_ANEW = ('gpu', 'operation_threads', 'rewriting', 'native', 'classes', 'dataset')


def run_evaluation(
    args: argparse.Namespace, join: Callable[[argparse.Namespace], 'SingleWorker'] | None = None
) -> None:
    """Scores a checkpoint, and writes and prints its records.

    Args:
        args: flags.
        join: makes this process one of the workers that the flags name.

    Raises:
        UsageError: there is no such checkpoint, or it does not fit the flags or the data.
        WorkerError: another worker is gone.
    """
    if not args.eval_checkpoint:
        raise UsageError(
            '--eval needs -ec: a run folder, a checkpoint prefix, or the folder of a published '
            'checkpoint'
        )
    if args.thresholds and args.weights == 'ema':
        raise UsageError('--thresholds with --weights ema: they were chosen for the raw weights')
    if args.thresholds and args.per_class:
        raise UsageError('--per-class with --thresholds: give one of them')
    if args.measure:
        raise UsageError('--measure: is about training; leave --eval out')
    cascade = None
    if args.cascade:
        cascade = cascades.read(Path(args.cascade))
        _check_cascade(args)
    config, dataset, source = evaluated(args)
    hardware.check_native(config)
    images = _identity(config, dataset, source)
    if cascade is not None:
        from engine.evaluation.cascade import evaluate as evaluate_cascade

        print(evaluate_cascade(args, cascade, config, dataset, source, images))
        return
    from engine.evaluation import borrowing, evaluate, exit_policy, records
    from engine.graph import sessions, tower

    borrowed = borrowing.borrow(
        source,
        config,
        untrained=args.untrained,
        eos=args.eval_original_scale,
        fix_mean_var=args.fix_mean_var,
        epoch=args.eval_epoch,
    )
    config, data_format, threads = prepared(args, config, dataset)
    model = tower.Model(config, data_format=data_format)
    if borrowed.kernels:
        lenders = {size: sizes[0] for size, sizes in borrowed.lenders.items()}
        model.net = model.net.encoded_as(lenders)
    variables, layers = model.inspect()
    about = [
        *overview.data_lines(config, dataset),
        *overview.network_lines(config),
        *overview.cost_lines(layers),
        *overview.machine_lines(config, sessions.line(config, threads)),
    ]
    print('\n'.join(about), flush=True)
    if args.dry_run:
        print('dry run: nothing was evaluated or written')
        return
    values = borrowing.variable_values(source, variables, borrowed, model.net.detachable)
    worker = evaluate.ALONE
    if join is not None and args.workers:
        worker = join(args)
        labels = evaluate.eval_flow(config, dataset, 0).source.labels
        contents = {'data': _digest({'labels': labels}), 'eval_checkpoint': _digest(values)}
        worker.start(config, dataset, 0, contents)
    if not worker.first:
        evaluate.evaluate(model, values, dataset, threads=threads, worker=worker)
        print(f'worker {worker.index} of {worker.size} has scored its part')
        return
    logdir = Path(args.logdir) if args.logdir else None
    if not args.thresholds:
        folder = records.record_folder(config, source, logdir, images)
        with _saved_in(folder):
            _score(args, model, values, dataset, layers, folder, threads, borrowed, source, worker)
        return
    policy = exit_policy.read_policy(model, args.thresholds)
    folder = records.record_folder(config, source, logdir, images)
    merge_layers(folder, layers)
    name = Path(args.thresholds).stem
    with _saved_in(folder):
        measured = exit_policy.evaluate_policy(
            model, values, dataset, policy, layers, folder, name=name, threads=threads
        )
    print(measured)


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

    data_format, threads = hardware.prepare(
        config,
        dataset,
        asked=args.gpu is not None,
        data_format=args.data_format,
        threads=args.threads,
        exact=True,
    )
    return sessions.begun(config, args.threads), data_format, threads


def _check_cascade(args: argparse.Namespace) -> None:
    """Refuses flags that a cascade does not have.

    Raises:
        UsageError: there are some.
    """
    others = {
        '--thresholds': args.thresholds,
        '--per-class': args.per_class,
        '--weights ema': args.weights == 'ema',
        '-es': args.eval_scale,
        '-ew': args.eval_widths,
        '-eb': args.eval_bits,
        '-eos': args.eval_original_scale,
        '--untrained': args.untrained,
        '--fix_mean_var': args.fix_mean_var,
        '--workers': args.workers,
        '--draws': args.draws,
    }
    for flag, given in others.items():
        if given:
            raise UsageError(
                f'{flag} with --cascade: its points, weights and statistics are those that it was '
                'chosen for; leave it out'
            )


def _digest(values: Mapping[str, np.ndarray]) -> str:
    """Digest of arrays by name."""
    digest = hashlib.sha256()
    for name in sorted(values):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(values[name]).tobytes())
    return digest.hexdigest()


@contextlib.contextmanager
def _saved_in(folder: Path) -> Iterator[None]:
    """A block that writes records, which are printed before.

    Raises:
        UsageError: they cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise UsageError(
            f'--logdir {folder}: records cannot be written ({error}); what is printed above is '
            'not saved'
        ) from error


def _score(
    args: argparse.Namespace,
    model: Any,
    values: Any,
    dataset: Dataset,
    layers: Any,
    folder: Path,
    threads: int,
    borrowed: Any,
    source: 'Checkpoint',
    worker: 'SingleWorker',
) -> None:
    """Scores every operating point, and reports what the family has beside."""
    from engine.evaluation import evaluate, records
    from engine.evaluation.evaluators.evaluator import Evaluation

    config = model.config
    noisy = getattr(config.options, 'gate_noise', False)
    passes = 1
    if noisy:
        passes = args.draws or DRAWS
    scores = evaluate.evaluate(
        model, values, dataset, threads=threads, passes=passes, worker=worker
    )
    scored = []
    for score in scores:
        found = records.records(
            model.names,
            score,
            data=config.data,
            dataset=config.dataset,
            prefix=source.prefix,
            lenders=borrowed.names(),
        )
        scored.append(found)
    found = scored[0]
    if noisy:
        found = records.sampled(scored)
    weights = args.weights or 'raw'
    print(records.table(found), flush=True)
    place = records.write_records(folder, found, weights)
    if args.per_class:
        from engine.evaluation import confusion

        print(confusion.report(place, found, scores[0], dataset.classes), flush=True)
    merge_layers(folder, layers)
    # What the family has beside describes the weights that were trained.
    if weights != 'raw':
        print(f'{len(found)} records in {place}')
        return
    evaluation = Evaluation(
        model,
        layers,
        scores[0],
        folder,
        values,
        dataset,
        threads,
        sampled=noisy,
        borrowed=bool(borrowed.lenders),
    )
    for evaluator in families.get(config.net).evaluators(config):
        print(evaluator.report(evaluation))
    print(f'{len(found)} records in {place}')


def evaluated(args: argparse.Namespace) -> tuple[Config, Dataset, 'Checkpoint']:
    """The subject of ``--eval``, as the run recorded it and the flags change it.

    Raises:
        UsageError: there is no such checkpoint, or it does not fit the flags or the data.
    """
    workers = peers(args)
    if workers and args.thresholds:
        raise UsageError(f'--thresholds with --workers {args.workers}: one machine measures that')
    for flag, value, instead in (('--sizes', args.sizes, '-es'), ('--load', args.load, '-ec')):
        if value is not None:
            raise UsageError(f'{flag} with --eval: give {instead}')
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
    source = checkpoint.read(prefix, flag='-ec', weights=args.weights or 'raw')
    _check_source(source, prefix, given.get('data', ''), bool(recorded))
    given.setdefault('qw', source.qw)
    given.setdefault('qa', source.qa)
    config, dataset, notes = resolve({**given, 'sizes': source.trained})
    if workers and getattr(config.options, 'gate_noise', False):
        raise UsageError(
            f'--gate_noise with --workers {args.workers}: what gates draw depends on the batches '
            'before; one machine evaluates'
        )
    if args.draws is not None and not getattr(config.options, 'gate_noise', False):
        raise UsageError(f'--draws {args.draws}: needs --gate_noise')
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


def _identity(config: Config, dataset: Dataset, source: 'Checkpoint') -> Identity:
    """The identity of the data that are going to be scored.

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
