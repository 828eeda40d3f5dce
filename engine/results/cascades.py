"""A cascade: a chain of operating points with the confidence at which an image leaves each of them.

Pure numpy. Thresholds are those of networks with exits, see ``engine.results.exit_thresholds``.
"""

import dataclasses
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np

from engine.errors import UsageError
from engine.files import read_json, write_json
from engine.results import calibration, chains, exit_thresholds, replays
from engine.results.chains import COMBINES, Combination
from engine.results.exit_thresholds import Unit
from engine.results.point_answers import Answers
from engine.results.replays import Replay, Stages
from engine.schema import Amount, Count, Percent
from nets.points import Point
from quant.options import Limits

# Of a run folder.
FOLDER = 'cascades'

# In the names of files: several of growing budget, and what evaluation measured of one.
SWEEP, MEASURED = 'sweep', '-measured'

_REMEDY = 'python -m scripts.thresholds RUN --cascade writes cascades'

Combine = Annotated[str, Limits('which stages answer', choices=COMBINES)]

# Draws of a bootstrap, its seed, and what lies outside of an interval on either side, percent.
DRAWS, SEED, TAIL = 1000, 0, 2.5


@dataclasses.dataclass(frozen=True)
class Interval:
    """An interval of 95 percent confidence."""

    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Judged:
    """A cascade on a set of images.

    Attributes:
        images: how many.
        top1, top5: percent right.
        top1_interval: by bootstrap over the images.
        cost: mean cost of an image.
        cost_interval: by bootstrap over the images.
        shares: of the images, by the stage where they leave.
        stage_top1: percent right of those that leave at each stage; None where none does.
        gain: percentage points of top-1 above ``Cascade.instead`` on the same images.
        gain_interval: by bootstrap over the images.
    """

    images: Count
    top1: Percent
    top5: Percent
    top1_interval: Interval
    cost: Amount
    cost_interval: Interval
    shares: tuple[Amount, ...]
    stage_top1: tuple[Percent | None, ...]
    gain: float
    gain_interval: Interval


@dataclasses.dataclass(frozen=True)
class Calibrated:
    """Calibration of a point, fitted on the hold-out images.

    Attributes:
        temperature: by which its logits are divided.
        error: expected calibration error without it, on the validation images.
        calibrated_error: with it.
    """

    temperature: Amount
    error: Amount
    calibrated_error: Amount


@dataclasses.dataclass(frozen=True)
class Cascade:
    """A chain of operating points, when an image leaves each, and what that gives.

    Attributes:
        points: spellings, in the order in which they run.
        thresholds: by stage, the least logarithm of the probability of the answer with which an
            image leaves; the last one takes all.
        combine: one of ``chains.COMBINES``.
        temperatures: by which the logits of each stage are divided.
        asked: budget or accuracy that was asked for, as it was.
        unit: of costs.
        checkpoint: prefix of it.
        identity: of it, see ``engine.runs.fingerprint``.
        instead: the most accurate point that costs no more, by the hold-out images.
        holdout: images that all was chosen by.
        validation: others.
        calibration: by point; without any, temperatures are 1.
    """

    points: tuple[str, ...]
    thresholds: tuple[float, ...]
    combine: Combine
    temperatures: tuple[Amount, ...]
    asked: str
    unit: Unit
    checkpoint: str
    identity: str
    instead: str
    holdout: Judged
    validation: Judged
    calibration: dict[str, Calibrated] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its chain in a word."""
        return chains.spelled(self.points)

    @property
    def combination(self) -> Combination:
        """How its stages answer."""
        return Combination(self.combine, self.temperatures)

    def check_identity(self, identity: str, place: str) -> None:
        """Checks that it was chosen for a checkpoint.

        Args:
            identity: of the checkpoint.
            place: start of the message.

        Raises:
            UsageError: it was chosen for another one.
        """
        if self.identity != identity:
            raise UsageError(
                f'{place}: its thresholds were chosen for another checkpoint ({self.checkpoint}, '
                f'{self.identity}, not {identity}); python -m scripts.thresholds RUN --cascade '
                'chooses them anew'
            )


@dataclasses.dataclass(frozen=True)
class Measured:
    """One way to run a network, on the validation images.

    Attributes:
        top1, top5: percent right.
        madds: mean multiply-adds of an image.
        images_per_second: of the network alone.
        shares: of the images, by the point that answered.
        stage_top1: percent right of these; None where there are none.
    """

    top1: Percent
    top5: Percent
    madds: Amount
    images_per_second: Amount
    shares: tuple[Amount, ...]
    stage_top1: tuple[Percent | None, ...]


@dataclasses.dataclass(frozen=True)
class Measurement:
    """A cascade that was carried out, in turns with fixed points.

    Attributes:
        cascade: that was run.
        images: how many.
        batch: images of a batch.
        measured: by ``cascade`` and point.
    """

    cascade: Cascade
    images: Count
    batch: Count
    measured: dict[str, Measured]


def write(path: Path, cascade: Cascade) -> None:
    """Writes it as JSON."""
    write_json(path, dataclasses.asdict(cascade))


def read(path: Path) -> Cascade:
    """A cascade from a file that ``scripts.thresholds`` wrote.

    Raises:
        UsageError: it cannot be read, or is none.
    """
    found = read_json(path, Cascade, _REMEDY)
    _check(found, path)
    return found


class Stored(NamedTuple):
    """A cascade of a run folder.

    Attributes:
        file: that holds it.
        cascade: the cascade.
        of_sweep: whether the file holds many.
    """

    file: Path
    cascade: Cascade
    of_sweep: bool


def read_all(folder: Path) -> list[Stored]:
    """The cascades of a run folder.

    Raises:
        UsageError: one cannot be read.
    """
    found = []
    for path in sorted((folder / FOLDER).glob('*.json')):
        if path.stem.endswith(MEASURED):
            continue
        content = read_json(path, Cascade | list[Cascade], _REMEDY)
        # A file that was named by hand may have any name.
        of_sweep = isinstance(content, list)
        held = content if of_sweep else [content]
        for cascade in held:
            _check(cascade, path)
            found.append(Stored(path, cascade, of_sweep))
    return found


def _check(cascade: Cascade, path: Path) -> None:
    """Checks what the fields of a file mean together.

    Raises:
        UsageError: they are no cascade.
    """
    counts = {len(cascade.thresholds), len(cascade.temperatures), len(cascade.points)}
    if len(counts) > 1 or not cascade.points or not all(cascade.temperatures):
        raise UsageError(
            f'{path}: {len(cascade.thresholds)} thresholds and {len(cascade.temperatures)} '
            f'temperatures for {len(cascade.points)} points; there must be one each'
        )
    try:
        for name in cascade.points:
            Point.parse(name)
    except ValueError as error:
        raise UsageError(f'{path}: {error}') from None


def calibrated(held: Answers, test: Answers) -> dict[str, Calibrated]:
    """Temperatures of all points, fitted on hold-out images and judged on others."""
    found = {}
    for name, logits in held.points.items():
        fitted = replays.temperature(logits, held)
        errors = []
        for temperature in (1.0, fitted):
            outcome = Replay(test, chains.LAST, {name: temperature}).stages([name])
            probability = np.exp(outcome.confidence[:, 0])
            errors.append(calibration.expected_error(probability, outcome.right[:, 0]))
        found[name] = Calibrated(fitted, *errors)
    return found


def judged(
    stages: Stages,
    thresholds: np.ndarray,
    costs: np.ndarray,
    instead: np.ndarray,
) -> Judged:
    """A cascade on the images of a record.

    Args:
        stages: of its chain.
        thresholds: [K].
        costs: [K], up to each stage.
        instead: [N] bool, whether the point that it is compared with is right.
    """
    leaves = exit_thresholds.chosen(stages.confidence, thresholds)  # [N]
    images = len(leaves)
    rows = np.arange(images)
    right = stages.right[rows, leaves]
    shares = np.bincount(leaves, minlength=len(costs)) / images
    of_stages: list[float | None] = []
    for stage in range(len(costs)):
        own = right[leaves == stage]
        of_stages.append(100 * float(own.mean()) if len(own) else None)
    # [N, 3]: percent right, cost, and percentage points of the gain
    values = np.stack([100.0 * right, costs[leaves], 100.0 * right - 100.0 * instead], axis=1)
    top1, cost, gain = values.mean(axis=0).tolist()
    intervals = bootstrap(values)
    return Judged(
        images,
        top1,
        100 * float(stages.near[rows, leaves].mean()),
        intervals[0],
        cost,
        intervals[1],
        tuple(shares.tolist()),
        tuple(of_stages),
        gain,
        intervals[2],
    )


def bootstrap(values: np.ndarray) -> list[Interval]:
    """Intervals of the means of columns [N, C], the same images drawn for all of them."""
    rng = np.random.default_rng(SEED)
    images = len(values)
    means = []
    for _ in range(DRAWS):
        means.append(values[rng.integers(images, size=images)].mean(axis=0))
    low, high = np.percentile(means, [TAIL, 100 - TAIL], axis=0)
    return [Interval(*pair) for pair in zip(low.tolist(), high.tolist())]
