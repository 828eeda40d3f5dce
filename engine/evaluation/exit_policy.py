"""Runs exit thresholds on the validation images, in turns with the whole network."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from tabulate import tabulate

from engine.console import Progress
from engine.data.datasets import Dataset
from engine.deployment.early_exit import EarlyExit
from engine.deployment.stages import Queue
from engine.errors import UsageError
from engine.evaluation.evaluate import BATCH_SIZE, eval_flow
from engine.evaluation.evaluators.exits import Layers, exit_madds
from engine.files import write_json
from engine.graph.tower import Model
from engine.results import exit_thresholds
from engine.results.exit_records import EARLY, WHOLE, Measured
from engine.runs.checkpoint import Checkpoint


def read_policy(model: Model, file: str) -> exit_thresholds.ExitPolicy:
    """The thresholds in ``file``.

    Raises:
        UsageError: the file cannot be read, or is about another network.
    """
    points = model.net.points
    if all(point.exit is None for point in points):
        raise UsageError(f'--thresholds {file}: --net {model.config.net} has no exits')
    policy = exit_thresholds.read_policy(Path(file))
    exits = sorted({point.exit for point in points})
    if policy.size not in model.net.sizes or policy.exits != tuple(exits):
        spelled = ' '.join(map(str, policy.exits))
        sizes = ' '.join(map(str, model.net.sizes))
        raise UsageError(
            f'--thresholds {file}: is for size {policy.size} and exits {spelled}; '
            f'the network has sizes {sizes} and {len(exits)} exits, from 0 on'
        )
    return policy


def evaluate_policy(
    model: Model,
    values: Mapping[str, np.ndarray],
    dataset: Dataset,
    policy: exit_thresholds.ExitPolicy,
    layers: Layers,
    folder: Path,
    *,
    name: str,
    threads: int,
) -> str:
    """Runs the validation images with early exit by ``policy``, and again to the end.

    Args:
        model: a network with exits.
        values: its variables by name.
        dataset: whose validation images are run.
        policy: thresholds.
        layers: layer records by spelling of the operating point.
        folder: run folder; ``exits/<name>-measured.json`` is written there.
        name: of the file.
        threads: decoding threads.

    Returns:
        The file. The table is printed before it is written.
    """
    madds = exit_madds(model, layers, policy.size)
    source = Checkpoint(str(folder), dict(values), model.config)
    runner = EarlyExit(source, policy.size)
    found = {
        EARLY: _run(runner, model, dataset, policy.thresholds, madds, threads),
        WHOLE: _run(runner, model, dataset, None, madds, threads),
    }
    record = {way: one._asdict() for way, one in found.items()}
    path = folder / 'exits' / f'{name}-measured.json'
    about = {'thresholds': dataclasses.asdict(policy), 'images': len(dataset.val)}
    print(_table(found), flush=True)
    write_json(path, record | about)
    return str(path)


def _table(found: Mapping[str, Measured]) -> str:
    rows = []
    for way, one in found.items():
        shares = ' '.join(f'{100 * share:.0f}' for share in one.shares)
        rows.append((way, one.top1, one.madds / 1e6, one.images_per_second, shares))
    headers = ('', 'top-1', 'M multiply-adds', 'images/s', '% by exit')
    return tabulate(rows, headers=headers, floatfmt='.2f')


def _run(
    runner: EarlyExit,
    model: Model,
    dataset: Dataset,
    thresholds: Sequence[float] | None,
    madds: np.ndarray,
    threads: int,
) -> Measured:
    batches = eval_flow(model.config, dataset, threads)
    queue = Queue(runner, thresholds, BATCH_SIZE)
    shown = []
    seconds = 0.0
    with Progress('early exit', len(batches.source), 'images') as progress:
        for *images, labels in batches:
            started = time.perf_counter()
            queue.add(images)
            seconds += time.perf_counter() - started
            shown.append(labels)
            progress.update(len(labels))
    started = time.perf_counter()
    answers = queue.finish()
    seconds += time.perf_counter() - started
    right = answers.labels == np.concatenate(shown)  # [N]
    share = np.bincount(answers.exits, minlength=len(madds)) / len(right)
    top1 = 100 * float(right.mean())
    return Measured(top1, float(share @ madds), len(right) / seconds, share.tolist())
