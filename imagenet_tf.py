#!/usr/bin/env python
"""Train or evaluate a network whose cost is chosen at run time.

python imagenet_tf.py --preset demo      # real images in a minute
python imagenet_tf.py --qw 2 --qa 2 --sizes 224 192 160 128 96 --kd --data /data/ILSVRC2012
python imagenet_tf.py --eval -ec train_log/RUN -es 224
"""

import argparse
import dataclasses
import os
import signal
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine import families
from engine.config import hardware
from engine.config.cli import explicit, parse, peers
from engine.config.config import Config, read_config
from engine.config.options import MachineOptions
from engine.config.presets import PRESETS
from engine.config.resolve import resolve
from engine.data.spec import Dataset
from engine.entry import quiet
from engine.errors import Terminated, UsageError, WorkerError
from engine.runs import holdout
from engine.runs.folder import Run, merge_layers, open_run
from nets.points import Point

if TYPE_CHECKING:
    from engine.runs.checkpoint import Checkpoint

# Passes over the validation set with sampled gates.
DRAWS = 5


def run_training(args: argparse.Namespace) -> None:
    """Trains, and goes on with what the preset says comes next."""
    if wrong := [
        flag
        for flag, value in _evaluation_flags(args).items()
        if value is not None and value is not False
    ]:
        raise UsageError(f'{wrong[0]}: is about evaluation; add --eval')
    given, logdir = explicit(args), Path(args.logdir) if args.logdir else None
    while True:
        finished, threads = train_one(args, given, logdir)
        then = PRESETS[given['preset']].then if 'preset' in given else ''
        if not then:
            return
        from engine.evaluation import calibrate
        from engine.training import cluster

        machines = cluster.join(peers(args))
        with machines.meeting():
            if machines.first and not calibrate.is_calibrated(str(finished)):
                calibrate.calibrate_run(str(finished), threads=threads)
        print(f'{finished} has statistics of all widths; next: preset {then}', flush=True)
        # Stages differ in their recipes: what was said of this one does not hold for the next.
        given = {key: value for key, value in given.items() if key not in ('lr', 'epochs')}
        given |= {'preset': then, 'load': str(finished)}
        logdir = logdir.with_name(f'{logdir.name}-gate') if logdir else None


def train_one(
    args: argparse.Namespace, given: dict[str, Any], logdir: Path | None
) -> tuple[Path, int]:
    """Trains one network, or finds it trained.

    Returns its folder, and the number of decoding threads.
    """
    others = peers(args)
    config, dataset, notes = resolve(given)
    logdir = logdir or Path('train_log') / config.name
    images, dataset = (
        len(dataset.train),
        holdout.apply(dataset, config, logdir if args.action in (None, 'k') else None),
    )
    if config.batch_size > len(dataset.train):
        raise UsageError(
            f'--batch_size {config.batch_size}: there are only {len(dataset.train)} training images'
        )
    workers = len(others[0]) if others else 1
    if config.batch_size % (workers * len(config.gpu)):
        raise UsageError(
            f'--batch_size {config.batch_size}: not divisible by the {workers} --workers times '
            f'{len(config.gpu)} towers of --gpu'
        )
    if workers > 1 and config.sync_bn:
        raise UsageError(
            '--sync-bn with --workers: batch statistics are shared by the GPUs of one machine '
            'only; '
            'leave one of them out'
        )
    print('\n'.join(notes), flush=True)
    from engine.runs import checkpoint
    from engine.training import cluster, train

    data_format, threads = hardware.prepare(
        config,
        dataset,
        asked=args.gpu is not None,
        data_format=args.data_format,
        threads=args.threads,
    )
    machines = cluster.join(others)
    # The other machines get from the first one what it reads.
    values = train.starting_values(config) if machines.first else None
    run = Run(logdir)
    if machines.first:
        readable = partial(checkpoint.read_variables, flag='--logdir')
        run = open_run(config, logdir, args.action, images=dataset.train, check=readable)
        if dataset.holdout is not None:
            holdout.write(run.path, dataset.holdout.indices, images, config.seed)
    run = dataclasses.replace(run, step=machines.start(config, dataset, run.step))
    if run.step >= config.epochs * config.steps_per_epoch:
        print(f'{run.path} is complete ({config.epochs} epochs); -a n starts a new run')
        return run.path, threads
    place = (
        f'run folder {run.path}'
        if machines.first
        else f'worker {machines.index} of {machines.size}'
    )
    print(place + (f', resuming at step {run.step}' if run.step else ''), flush=True)
    train.train(
        config,
        dataset,
        run,
        values=values,
        data_format=data_format,
        threads=threads,
        machines=machines,
    )
    return run.path, threads


def _evaluation_flags(args: argparse.Namespace) -> dict[str, Any]:
    return {
        '--draws': args.draws,
        '--gate_noise': args.gate_noise,
        '--thresholds': args.thresholds,
        '-ec': args.eval_checkpoint,
        '-es': args.eval_scale,
        '-eos': args.eval_original_scale,
        '-ep': args.eval_epoch,
        '-ew': args.eval_widths,
        '--untrained': args.untrained,
        '--fix_mean_var': args.fix_mean_var,
    }


def evaluated(args: argparse.Namespace) -> tuple[Config, Dataset, 'Checkpoint']:
    """What ``--eval`` is about, as the run recorded it and the flags change it.

    Raises:
        UsageError: there is no such checkpoint, or it does not fit the flags or the data.
    """
    if peers(args):
        raise UsageError(f'--workers {args.workers} with --eval: one machine evaluates')
    for flag, value, instead in (('--sizes', args.sizes, '-es'), ('--load', args.load, '-ec')):
        if value is not None:
            raise UsageError(f'{flag} with --eval: give {instead}')
    from engine.runs import checkpoint

    given = explicit(args)
    # Any number of GPUs evaluates: the batch size of training need not be a multiple of it.
    gpu = given.pop('gpu', MachineOptions.gpu)
    prefix = checkpoint.find(args.eval_checkpoint, args.eval_epoch, '-ec')
    recorded = Path(prefix).parent / 'config.json'
    if recorded.exists():
        # What belongs to the machine or to the data set is settled anew.
        of_run = {
            key: value
            for key, value in read_config(recorded).flat().items()
            if key not in ('gpu', 'classes', 'dataset')
        }
        given = {**of_run, **given}
    source = checkpoint.read(prefix, flag='-ec')
    if not source.sizes:
        raise UsageError(
            f'-ec {prefix}: holds no network of ours (no normalisation statistics of any size)'
        )
    if not given.get('data'):
        known = (
            'was imported without a data set; give --data'
            if recorded.exists()
            else ('no config.json there; give --data, and --arch and --mode')
        )
        raise UsageError(f'-ec {prefix}: {known}')
    for key, bits in (('qw', source.bits('weight')), ('qa', source.bits('activation'))):
        given.setdefault(key, bits)
    config, dataset, notes = resolve({**given, 'sizes': source.trained})
    if args.draws is not None and (args.draws < 1 or not config.gate_noise):
        raise UsageError(f'--draws {args.draws}: needs --gate_noise, and a number of at least 1')
    print('\n'.join(notes))
    if source.classes != config.classes:
        raise UsageError(
            f'--data {config.data}: has {config.classes} classes; {prefix} knows {source.classes}'
        )
    config = narrowed(config, source, args.eval_scale, args.eval_widths)
    config = dataclasses.replace(config, gpu=gpu)
    return config, holdout.apply(dataset, config, Path(prefix).parent), source


def narrowed(
    config: Config,
    source: 'Checkpoint',
    sizes: Sequence[int] | None,
    widths: Sequence[int] | None,
) -> Config:
    """``config`` at what is evaluated.

    All that was trained or has statistics, or what was asked for.

    Args:
        config: configuration of the run.
        source: the checkpoint.
        sizes: input sizes asked for, in pixels.
        widths: widths asked for.

    Raises:
        UsageError: there are no statistics for a width.
    """
    from engine.runs import checkpoint

    config = config.narrowed(sizes or source.trained)
    kd = config.sizes == source.trained and 'alpha' in source.values
    config = dataclasses.replace(config, kd=kd)
    family = families.get(config.net)
    known = [Point.parse(name) for name in checkpoint.available(source)]
    found = family.evaluated(config, known, widths)
    found.check()
    if found != config:
        checkpoint.check_points(source, found.network().points, '-ew' if widths else '-ec')
    return found


def run_evaluation(args: argparse.Namespace) -> None:
    if not args.eval_checkpoint:
        raise UsageError(
            '--eval needs -ec: a run folder, a checkpoint prefix, or the folder of a published '
            'checkpoint'
        )
    config, dataset, source = evaluated(args)
    from engine.evaluation import borrowing, evaluate, exit_policy, records
    from engine.evaluation.evaluators.evaluator import Evaluation
    from engine.graph import tower

    borrowed = borrowing.borrow(
        source,
        config,
        untrained=args.untrained,
        eos=args.eval_original_scale,
        fix_mean_var=args.fix_mean_var,
        epoch=args.eval_epoch,
    )
    data_format, threads = hardware.prepare(
        config,
        dataset,
        asked=args.gpu is not None,
        data_format=args.data_format,
        threads=args.threads,
    )
    model = tower.Model(config, data_format=data_format)
    if borrowed.kernels:
        lenders = {size: sizes[0] for size, sizes in borrowed.lenders.items()}
        model.net = model.net.encoded_as(lenders)
    variables, layers = model.inspect()
    values = borrowing.variable_values(source, variables, borrowed, model.states)
    policy = exit_policy.read_policy(model, args.thresholds) if args.thresholds else None
    folder = records.record_folder(config, source, Path(args.logdir) if args.logdir else None)
    if policy:
        merge_layers(folder, layers)
        name = Path(args.thresholds).stem
        measured = exit_policy.evaluate_policy(
            model, values, dataset, policy, layers, folder, name=name, threads=threads
        )
        print(measured)
        return
    passes = (args.draws or DRAWS) if config.gate_noise else 1
    scores = evaluate.evaluate(model, values, dataset, threads=threads, passes=passes)
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
    found = records.sampled(scored) if config.gate_noise else scored[0]
    records.write_records(folder, found)
    merge_layers(folder, layers)
    print(records.table(found))
    evaluation = Evaluation(
        model,
        layers,
        scores[0],
        folder,
        values,
        dataset,
        threads,
        sampled=config.gate_noise,
        borrowed=bool(borrowed.lenders),
    )
    for evaluator in families.get(config.net).evaluators(config):
        print(evaluator.report(evaluation))
    print(f'{len(found)} records in {folder / "eval"}')


def terminate(*_: object) -> None:
    raise Terminated


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status.

    0 done, 2 bad input, 75 another worker is gone, 130 interrupted, 143 terminated.
    """
    quiet()
    try:
        args = parse(sys.argv[1:] if argv is None else argv, str(__doc__))
        (run_evaluation if args.eval else run_training)(args)
    except UsageError as error:
        print(f'imagenet_tf.py: error: {error}', file=sys.stderr)
        return 2
    except WorkerError as error:
        print(
            f'imagenet_tf.py: {error}. The same command on all workers resumes from the last '
            'checkpoint',
            file=sys.stderr,
        )
        return os.EX_TEMPFAIL
    except KeyboardInterrupt as stop:
        word, status = ('terminated', 143) if isinstance(stop, Terminated) else ('interrupted', 130)
        where = f'at step {stop}' if stop.args else 'from the last checkpoint'
        print(word if args.eval else f'{word}; the same command resumes {where}', file=sys.stderr)
        return status
    return 0


if __name__ == '__main__':
    signal.signal(signal.SIGTERM, terminate)
    sys.exit(main())
