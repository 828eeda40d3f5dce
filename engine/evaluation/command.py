"""The command that evaluates: from flags and a checkpoint to records in a run folder."""

import argparse
import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from engine import families
from engine.config import hardware, overview
from engine.config.config import Config
from engine.data.spec import Dataset
from engine.errors import UsageError
from engine.evaluation import subject
from engine.results import cascades, exit_thresholds
from engine.runs.folder import merge_layers

if TYPE_CHECKING:
    from engine.evaluation.borrowing import Borrowed
    from engine.graph.tower import Model
    from engine.graph.worker import SingleWorker
    from engine.runs.checkpoint import Checkpoint
    from quant.state import State

# Passes over the validation set with sampled gates.
DRAWS = 5


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
    _check_flags(args)
    cascade = None
    if args.cascade:
        _check_cascade(args)
        cascade = cascades.read(Path(args.cascade))
    elif args.thresholds:
        exit_thresholds.read_policy(Path(args.thresholds))
    config, dataset, source = subject.evaluated(args)
    hardware.check_native(config)
    images = subject.identity(config, dataset, source)
    if cascade is not None:
        from engine.evaluation.cascade import evaluate as evaluate_cascade

        print(evaluate_cascade(args, cascade, config, dataset, source, images))
        return
    from engine.evaluation import borrowing, evaluate, exit_policy, records

    network = _network(args, config, dataset, source)
    if args.dry_run:
        print('dry run: nothing was evaluated or written')
        return
    model = network.model
    values = borrowing.variable_values(
        source, network.variables, network.borrowed, model.net.detachable
    )
    worker = evaluate.ALONE
    if join is not None and args.workers:
        worker = join(args)
        _start(worker, model.config, dataset, values)
    if not worker.first:
        evaluate.evaluate(model, values, dataset, threads=network.threads, worker=worker)
        print(f'worker {worker.index} of {worker.size} has scored its part')
        return
    policy = None
    if args.thresholds:
        policy = exit_policy.read_policy(model, args.thresholds)
    logdir = Path(args.logdir) if args.logdir else None
    folder = records.record_folder(model.config, source, logdir, images)
    with _saved_in(folder):
        if policy is None:
            _score(args, network, values, dataset, folder, source, worker)
            return
        merge_layers(folder, network.layers)
        measured = exit_policy.evaluate_policy(
            model,
            values,
            dataset,
            policy,
            network.layers,
            folder,
            name=Path(args.thresholds).stem,
            threads=network.threads,
        )
    print(measured)


def _check_flags(args: argparse.Namespace) -> None:
    """Refuses flags that say nothing to evaluate, or do not go together.

    Raises:
        UsageError: such flags are given.
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
    subject.check_flags(args)
    if args.logdir and Path(args.logdir).is_file():
        raise UsageError(f'--logdir {args.logdir}: is a file; choose another place')
    if args.measure:
        raise UsageError('--measure: is about training; leave --eval out')


def _check_cascade(args: argparse.Namespace) -> None:
    """Refuses flags that a cascade does not have.

    Raises:
        UsageError: one is given.
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


class _Network(NamedTuple):
    """A network that is going to be evaluated, before it has values.

    Attributes:
        model: makes its graphs.
        variables: declarations by name.
        layers: records of its layers by operating point.
        borrowed: what some sizes take from others.
        threads: that decode.
    """

    model: 'Model'
    variables: Mapping[str, 'State']
    layers: Any
    borrowed: 'Borrowed'
    threads: int


def _network(
    args: argparse.Namespace, config: Config, dataset: Dataset, source: 'Checkpoint'
) -> _Network:
    """Prepares the machine, makes the network, and says what is going to be evaluated.

    Args:
        args: flags.
        config: as they change that of the run.
        dataset: that is evaluated.
        source: the checkpoint.

    Raises:
        UsageError: nothing lends what the checkpoint lacks, or the machine lacks what flags say.
    """
    from engine.evaluation import borrowing
    from engine.graph import sessions, tower

    borrowed = borrowing.borrow(
        source,
        config,
        untrained=args.untrained,
        eos=args.eval_original_scale,
        fix_mean_var=args.fix_mean_var,
        epoch=args.eval_epoch,
    )
    config, data_format, threads = subject.prepared(args, config, dataset)
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
    return _Network(model, variables, layers, borrowed, threads)


def _start(worker: 'SingleWorker', config: Config, dataset: Dataset, values: Any) -> None:
    """Starts a worker among others, which must have the same labels and values.

    Args:
        worker: of this process.
        config: of the evaluation.
        dataset: that is evaluated.
        values: of the variables, by name.

    Raises:
        WorkerError: another worker is gone, or has others.
    """
    from engine.evaluation import evaluate

    labels = evaluate.eval_flow(config, dataset, 0).source.labels
    contents = {'data': _digest({'labels': labels}), 'eval_checkpoint': _digest(values)}
    worker.start(config, dataset, 0, contents)


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
    network: _Network,
    values: Any,
    dataset: Dataset,
    folder: Path,
    source: 'Checkpoint',
    worker: 'SingleWorker',
) -> None:
    """Scores every operating point, and reports what the family has beside."""
    from engine.evaluation import evaluate, records
    from engine.evaluation.evaluators.evaluator import Evaluation

    model = network.model
    config = model.config
    noisy = getattr(config.options, 'gate_noise', False)
    passes = 1
    if noisy:
        passes = args.draws or DRAWS
    scores = evaluate.evaluate(
        model, values, dataset, threads=network.threads, passes=passes, worker=worker
    )
    scored = []
    for score in scores:
        found = records.records(
            model.names,
            score,
            data=config.data,
            dataset=config.dataset,
            prefix=source.prefix,
            lenders=network.borrowed.names(),
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
    merge_layers(folder, network.layers)
    # What the family has beside describes the weights that were trained.
    if weights != 'raw':
        print(f'{len(found)} records in {place}')
        return
    evaluation = Evaluation(
        model,
        network.layers,
        scores[0],
        folder,
        values,
        dataset,
        network.threads,
        sampled=noisy,
        borrowed=bool(network.borrowed.lenders),
    )
    for evaluator in families.get(config.net).evaluators(config):
        print(evaluator.report(evaluation))
    print(f'{len(found)} records in {place}')
