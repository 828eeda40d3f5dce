"""A cascade carried out on the validation images, in turns with the fixed points it replaces."""

import argparse
import dataclasses
import functools
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tabulate import tabulate

from engine.config.config import Config
from engine.console import Progress
from engine.data.batches import EvalFlow
from engine.data.identity import Identity
from engine.data.spec import Dataset
from engine.deployment.cascade import Chain, ascending, views_of
from engine.deployment.stages import Left, Queue
from engine.deployment.tensorflow_backend import TensorFlowBackend
from engine.evaluation import cascade_picture, records
from engine.evaluation.point_answers import backend_of, of_one_view
from engine.evaluation.subject import prepared
from engine.files import write_json
from engine.results import chains, exit_records
from engine.results.cascades import FOLDER, MEASURED, Cascade, Measured, Measurement
from engine.results.exit_records import MADDS, MS
from engine.runs.checkpoint import Checkpoint

# Images of a batch, and classes of an answer.
BATCH, TOP = 128, 5

# How a cascade is called among fixed points.
CASCADE = 'cascade'


class Way(NamedTuple):
    """One way to run a network.

    Attributes:
        chain: of its points.
        thresholds: by stage; None leaves nobody early.
        costs: [K] multiply-adds of an image up to each point.
    """

    chain: Chain
    thresholds: list[float] | None
    costs: np.ndarray

    def ran(self, answers: Left) -> np.ndarray:
        """[N] the number of the point that answered an image."""
        return np.array([self.chain.point_of(int(stage)) for stage in answers.exits])


def evaluate(
    args: argparse.Namespace,
    cascade: Cascade,
    config: Config,
    dataset: Dataset,
    source: Checkpoint,
    images: Identity,
) -> str:
    """Runs the validation images by a cascade and by fixed points, batch by batch in turns.

    Args:
        args: flags of the evaluation.
        cascade: to run.
        config: as the flags change that of the run.
        dataset: whose validation images are run.
        source: the checkpoint.
        images: identity of the data.

    Returns:
        The files. The tables are printed before they are written.

    Raises:
        UsageError: the cascade is none of this checkpoint.
    """
    _, _, threads = prepared(args, config, dataset)
    backend = backend_of(config, source)
    place = f'--cascade {args.cascade}'
    cascade.check_identity(backend.identity(), place)
    single = _checked(cascade, backend, Path(source.prefix).parent, place)
    if args.dry_run:
        return f'{cascade.name} fits {source.prefix}; dry run: nothing was evaluated or written'
    ways = _ways(cascade, backend, single)
    labels, answers, seconds = _run(ways, dataset, threads)
    found = {}
    for name, way in ways.items():
        found[name] = _measured(way, answers[name], labels, seconds[name])
    print(f'{_points(found)}\n\n{_stages(cascade, found[CASCADE])}', flush=True)
    logdir = Path(args.logdir) if args.logdir else None
    folder = records.record_folder(config, source, logdir, images) / FOLDER
    folder.mkdir(exist_ok=True)
    name = Path(args.cascade).stem
    path = folder / f'{name}{MEASURED}.json'
    measured = Measurement(cascade, len(labels), BATCH, found)
    write_json(path, dataclasses.asdict(measured))
    of_cascade = answers[CASCADE]
    ran = ways[CASCADE].ran(of_cascade)  # [N]
    picture = cascade_picture.draw(
        folder / f'{name}.png', cascade.points, dataset, ran, of_cascade.labels
    )
    return '\n'.join(map(str, [_compared(found), path, *picture]))


def _checked(
    cascade: Cascade, backend: TensorFlowBackend, run: Path, place: str
) -> dict[str, float]:
    """Multiply-adds of a pass by point, once it is known that a cascade goes on to dearer ones.

    Args:
        cascade: to run.
        backend: of the checkpoint.
        run: its folder.
        place: starts what is said of a fault.

    Raises:
        UsageError: a point is none of the checkpoint's, or costs no more than the one before.
    """
    single = exit_records.pass_costs(run, backend.points, MADDS)
    if cascade.unit == MS:
        # By milliseconds it ascends on the device that it was chosen for.
        chains.check_known(cascade.points, single, place)
    else:
        ascending_in = exit_records.pass_costs(run, backend.points, cascade.unit)
        chains.check(cascade.points, ascending_in, place)
    return single


def _ways(
    cascade: Cascade, backend: TensorFlowBackend, single: Mapping[str, float]
) -> dict[str, Way]:
    """The cascade, and the fixed points that could stand for it, cheapest first, by name.

    Args:
        cascade: to run.
        backend: of the checkpoint.
        single: multiply-adds of a pass by point.
    """
    turns = functools.cache(backend.turns)
    chain = Chain(turns, cascade.points, cascade.combination)
    costs = chains.costs(cascade.points, single)
    ways = {CASCADE: Way(chain, chain.thresholds(cascade.thresholds), costs)}
    known = [name for name in of_one_view(backend) if name in single]
    fixed = dict.fromkeys([*ascending(known), *cascade.points])
    for name in sorted(fixed, key=lambda name: single[name]):
        ways[name] = Way(Chain(turns, [name]), None, np.array([single[name]]))
    return ways


def _run(
    ways: Mapping[str, Way], dataset: Dataset, threads: int
) -> tuple[np.ndarray, dict[str, Left], dict[str, float]]:
    """Every way on the validation images, in turns.

    Args:
        ways: by name.
        dataset: that has the images.
        threads: decoding threads.

    Returns:
        Right classes [N], answers and seconds by way.
    """
    whole = views_of([way.chain for way in ways.values()])
    batches = EvalFlow(dataset, whole, batch_size=BATCH, threads=threads)
    top = min(TOP, len(dataset.classes))
    queues = {}
    for name, way in ways.items():
        queues[name] = Queue(way.chain, way.thresholds, BATCH, top)
    seconds = dict.fromkeys(ways, 0.0)
    shown: list[np.ndarray] = []
    with Progress('evaluating', len(dataset.val), 'images') as bar:
        for *views, labels in batches:
            for name, way in ways.items():
                sides = way.chain.preprocessing.view_sizes
                own = [views[whole.view_sizes.index(side)] for side in sides]
                if not shown:
                    # What is run first, prepares itself.
                    way.chain.every(own)
                started = time.perf_counter()
                queues[name].add(own)
                seconds[name] += time.perf_counter() - started
            shown.append(labels)
            bar.update(len(labels))
    answers = {}
    for name, queue in queues.items():
        started = time.perf_counter()
        answers[name] = queue.finish()
        seconds[name] += time.perf_counter() - started
    return np.concatenate(shown), answers, seconds


def _measured(way: Way, answers: Left, labels: np.ndarray, seconds: float) -> Measured:
    """The result of a way.

    Args:
        way: that was run.
        answers: that it gave.
        labels: [N], the right classes.
        seconds: that it took.
    """
    ran = way.ran(answers)  # [N]
    right = answers.labels == labels
    shares, top1 = [], []
    for point in range(len(way.costs)):
        own = right[ran == point]
        shares.append(len(own) / len(labels))
        top1.append(100 * float(own.mean()) if len(own) else None)
    near = (answers.best == labels[:, None]).any(axis=1)
    return Measured(
        100 * float(right.mean()),
        100 * float(near.mean()),
        float(way.costs[ran].mean()),
        len(labels) / seconds,
        tuple(shares),
        tuple(top1),
    )


def _points(found: Mapping[str, Measured]) -> str:
    """Table of the cascade and the fixed points, with how much faster it is than each."""
    cascade = found[CASCADE]
    rows = []
    for name, one in found.items():
        speed = cascade.images_per_second / one.images_per_second
        less = cascade.madds / one.madds
        rows.append((name, one.top1, one.top5, one.madds / 1e6, one.images_per_second, less, speed))
    headers = ('', 'top-1', 'top-5', 'M MAdds', 'images/s', 'MAdds ratio', 'speed ratio')
    return tabulate(rows, headers=headers, floatfmt='.2f')


def _stages(cascade: Cascade, found: Measured) -> str:
    """Table of the stages: where images leave, and how many of these are right."""
    rows = []
    for point, share, top1 in zip(cascade.points, found.shares, found.stage_top1, strict=True):
        rows.append((point, 100 * share, top1))
    headers = ('leaves at', '% of images', 'top-1 of these')
    return tabulate(rows, headers=headers, floatfmt='.2f')


def _compared(found: Mapping[str, Measured]) -> str:
    """The cheapest fixed point that is as accurate as a cascade, or else the most accurate one."""
    cascade = found[CASCADE]
    fixed = {name: one for name, one in found.items() if name != CASCADE}
    as_good = [name for name, one in fixed.items() if one.top1 >= cascade.top1]
    if as_good:
        name = min(as_good, key=lambda name: fixed[name].madds)
        start = f'{name} is the cheapest point that is as accurate'
    else:
        name = max(fixed, key=lambda name: fixed[name].top1)
        start = f'{name} is the most accurate point, and less so'
    other = fixed[name]
    return (
        f'{start} ({other.top1:.2f} to {cascade.top1:.2f}): the cascade takes '
        f'{cascade.madds / other.madds:.2f} of its multiply-adds and '
        f'{other.images_per_second / cascade.images_per_second:.2f} of its time'
    )
