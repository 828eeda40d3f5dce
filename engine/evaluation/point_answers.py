"""Answers of all operating points to the hold-out and the validation images of a run, recorded."""

import argparse
import dataclasses
from pathlib import Path

import numpy as np

from engine.config import hardware
from engine.config.config import Config
from engine.console import Progress
from engine.data.batches import EvalFlow
from engine.data.sources import Source
from engine.data.spec import Dataset
from engine.deployment.cascade import Chain
from engine.deployment.tensorflow_backend import TensorFlowBackend
from engine.errors import UsageError
from engine.evaluation.evaluate import BATCH_SIZE
from engine.evaluation.subject import evaluated, prepared
from engine.results import point_answers
from engine.results.cascades import FOLDER
from engine.results.exit_records import HOLDOUT, VALIDATION
from engine.results.point_answers import Answers
from engine.runs import fingerprint
from engine.runs.checkpoint import Checkpoint
from nets.points import Point


def record(args: argparse.Namespace) -> dict[str, Answers]:
    """Runs the images through all points, and writes what these say into the run folder.

    Args:
        args: flags of an evaluation.

    Returns:
        The answers by name of the set of images.

    Raises:
        UsageError: there is no such run, or it set no images aside.
    """
    config, dataset, source = evaluated(args)
    hardware.check_native(config)
    if dataset.holdout is None:
        raise UsageError(f'{args.eval_checkpoint}: set no images aside; train with --holdout N')
    _, _, threads = prepared(args, config, dataset)
    backend = backend_of(config, source)
    chain = Chain(backend.turns, ordered(backend))
    found = {}
    for name, images in ((HOLDOUT, dataset.holdout), (VALIDATION, dataset.val)):
        found[name] = _answers(chain, dataset, images, name, threads)
    path = Path(source.prefix).parent / FOLDER / point_answers.FILE
    path.parent.mkdir(exist_ok=True)
    point_answers.write(path, found, fingerprint.identity(source.prefix))
    return found


def backend_of(config: Config, source: Checkpoint) -> TensorFlowBackend:
    """The backend that runs a checkpoint as an evaluation asks for it."""
    return TensorFlowBackend(dataclasses.replace(source, config=config), 0)


def of_one_view(backend: TensorFlowBackend) -> list[str]:
    """The operating points that read the view of an image that the run does, strongest first."""
    side = backend.config.image_size
    points = []
    for name in backend.points:
        # A size that was calibrated may be larger than the views of the run.
        if str(Point.within(name)) == name and backend.view_of(name).image_size == side:
            points.append(name)
    return points


def ordered(backend: TensorFlowBackend) -> list[str]:
    """The operating points of one view of an image, exits of one pass next to each other."""
    return sorted(of_one_view(backend), key=lambda name: Point.parse(name).values)


def _answers(chain: Chain, dataset: Dataset, images: Source, name: str, threads: int) -> Answers:
    """Answers of all points to some images.

    Args:
        chain: of all points.
        dataset: that has the images.
        images: that are answered.
        name: of these images, on the progress bar.
        threads: decoding threads.

    Raises:
        UsageError: the network has diverged.
    """
    part = dataclasses.replace(dataset, val=images)
    batches = EvalFlow(part, chain.preprocessing, batch_size=BATCH_SIZE, threads=threads)
    labels = []
    logits: list[list[point_answers.Logits]] = [[] for _ in chain.points]
    classes = 0
    with Progress(f'{name} images', len(images), 'images') as progress:
        for *views, own in batches:
            for place, found in enumerate(chain.every(views)):
                classes = found.shape[1]
                _check(found, chain.points[place])
                logits[place].append(point_answers.sparse(found))
            labels.append(own)
            progress.update(len(own))
    whole = [point_answers.joined(parts) for parts in logits]
    return Answers(np.concatenate(labels), classes, dict(zip(chain.points, whole)))


def _check(logits: np.ndarray, point: str) -> None:
    """Refuses logits that are no numbers.

    Raises:
        UsageError: they are none.
    """
    if not np.isfinite(logits).all():
        raise UsageError(f'{point}: answers are not finite: the network has diverged')
