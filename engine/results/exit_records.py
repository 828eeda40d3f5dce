"""Records of the exits of a network, as evaluation left them in a run folder. Pure numpy."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from engine import arrays
from engine.errors import UsageError
from engine.files import in_shell, read_json
from engine.results import profiles
from engine.results.records import read_expected_madds, read_layers
from engine.schema import Amount, Percent
from nets import cost
from nets.points import Point

# How images pass a network with exits: leaving it early, or through all of it.
EARLY, WHOLE = 'early exit', 'all exits'

HOLDOUT, VALIDATION = 'hold-out', 'validation'
MADDS, BITOPS, MS = 'MAdds', 'BitOps', 'ms'

_MEASURED = 'batch1_ms'
_EVALUATE = 'imagenet_tf.py --eval -ec RUN writes it'
# Start of the names of the arrays of a set of images.
_STARTS = {HOLDOUT: '', VALIDATION: 'test_'}

RECORD = {
    'confidence': arrays.Array('f', needed=False),
    'right': arrays.Array('b', needed=False),
    'test_confidence': arrays.Array('f', needed=False),
    'test_right': arrays.Array('b', needed=False),
}


class Measured(NamedTuple):
    """A pass over the validation images.

    Attributes:
        top1: Percent right.
        madds: mean multiply-adds of an image.
        images_per_second: of the network alone.
        shares: of the images, by the exit where they leave.
    """

    top1: Percent
    madds: Amount
    images_per_second: Amount
    shares: list[Amount]


class Images(NamedTuple):
    """Predictions of the exits for N images.

    Attributes:
        confidence: [N, K] logarithm of the probability of the predicted class, by exit.
        right: [N, K] bool, whether that class is right.
    """

    confidence: np.ndarray
    right: np.ndarray


@dataclasses.dataclass(frozen=True)
class Exits:
    """Records of the exits at one input size.

    Attributes:
        size: Pixels.
        costs: [K] float64 by exit, of all that is computed up to it.
        unit: Of the costs: ``MAdds`` or ``ms``.
        images: By name, hold-out first; the validation images only if they are there.
    """

    size: int
    costs: np.ndarray
    unit: str
    images: Mapping[str, Images]


def recorded_sizes(folder: Path) -> list[int]:
    """Input sizes in pixels of which a run has records of exits, largest first.

    Thresholds are set by these: not for one precision of several.
    """
    sizes = []
    for path in (folder / 'exits').glob('s*.npz'):
        point = Point.within(path.stem)
        if point.size is not None and point.bits is None:
            sizes.append(point.size)
    return sorted(sizes, reverse=True)


def points_of(size: int, exits: int) -> list[str]:
    """Operating points of the exits at a size in pixels, shallowest first."""
    return [str(Point(size=size, exit=k)) for k in range(exits)]


def read_images(folder: Path, size: int) -> dict[str, Images]:
    """Recorded images by name, those that are there.

    Args:
        folder: Run folder.
        size: Input size in pixels.

    Raises:
        UsageError: The file is damaged, or the network has diverged.
    """
    path = folder / 'exits' / f's{size}.npz'
    remedy = f'`imagenet_tf.py --eval -ec {in_shell(folder)}` writes it anew'
    stored = arrays.read(path, RECORD, remedy)
    found = {}
    for name, start in _STARTS.items():
        if f'{start}confidence' in stored and f'{start}right' in stored:
            found[name] = Images(stored[f'{start}confidence'], stored[f'{start}right'])
    for name, images in found.items():
        _check(images, f'{path}: {name}')
    return found


def _check(images: Images, place: str) -> None:
    confidence, right = images
    if confidence.ndim != 2 or confidence.shape != right.shape or not len(confidence):
        raise UsageError(
            f'{place} confidence {list(confidence.shape)}, right {list(right.shape)}: '
            'expected images x exits in both'
        )
    if not np.isfinite(confidence).all():
        raise UsageError(f'{place} confidence is not finite everywhere: the network has diverged')


def read_madds(folder: Path, points: Sequence[str]) -> np.ndarray:
    """[K] float64: multiply-adds of an image up to each exit.

    Args:
        folder: Run folder.
        points: Operating points of the exits, shallowest first.

    Raises:
        UsageError: The run has no layer records of a point.
    """
    layers = read_layers(folder)
    missing = [point for point in points if point not in layers]
    if missing:
        raise UsageError(
            f'{folder / "layers.json"}: has no cost of {" ".join(missing)}; {_EVALUATE}'
        )
    madds = [cost.madds(cost.cumulative(layers, point)) for point in points]
    return np.array(madds, np.float64)


def read_milliseconds(folder: Path, points: Sequence[str]) -> np.ndarray:
    """[K] float64: measured milliseconds of one image alone up to each exit.

    Args:
        folder: Run folder.
        points: Operating points of the exits, shallowest first.

    Raises:
        UsageError: A point has not been measured.
    """
    path = folder / 'exits' / 'latency.json'
    remedy = '--latency needs measured times; --budget does not'
    times = read_json(path, dict[str, dict[str, Amount]], remedy)
    missing = [point for point in points if _MEASURED not in times.get(point, {})]
    if missing:
        raise UsageError(f'{path}: has no cost of {" ".join(missing)}; {remedy}')
    return np.array([times[point][_MEASURED] for point in points], np.float64)


def pass_costs(folder: Path, points: Sequence[str], unit: str) -> dict[str, float]:
    """Cost of one image at each point, of an exit with all earlier ones; those that are known.

    Gates cost what they were measured to.

    Args:
        folder: Run folder.
        points: Operating points.
        unit: ``MAdds``, ``BitOps`` (each times the bits of its factors), or ``ms`` of one image
            alone as ``scripts.profile`` measures them.

    Raises:
        UsageError: No time was measured, or a record is missing or damaged.
    """
    if unit == MS:
        times = profiles.times_of(folder, profiles.device_of([folder]))
        known = {point: times[point] for point in points if point in times}
        if not known:
            raise UsageError(
                f'--latency: no times of {folder} on this device; python -m scripts.profile '
                f'{in_shell(folder)} measures them; --budget needs none'
            )
        return known
    layers = read_layers(folder)
    found = {}
    for point in points:
        if point in layers:
            passed = cost.cumulative(layers, point)
            madds = cost.madds(passed)
            expected = read_expected_madds(folder, point, None)
            whole = madds if unit == MADDS else cost.bit_ops(passed)
            share = 1.0 if expected is None else expected / madds
            found[point] = whole * share
    return found


def read_exits(folder: Path, size: int | None, unit: str) -> Exits:
    """Records that thresholds are set with.

    Args:
        folder: Run folder.
        size: Input size in pixels; None for the largest one that has records.
        unit: Of the costs: ``MAdds`` or ``ms``.

    Raises:
        UsageError: The records are not there, or damaged.
    """
    known = recorded_sizes(folder)
    if not folder.is_dir():
        raise UsageError(f'{folder}: no such run folder')
    if not known:
        raise UsageError(
            f'{folder}/exits: no records of exits (s<size>.npz); {_EVALUATE} for a network with '
            'exits and a hold-out set'
        )
    if size is not None and size not in known:
        raise UsageError(
            f'--size {size}: {folder}/exits has records of {" ".join(map(str, known))}'
        )
    size = size or known[0]
    images = read_images(folder, size)
    if HOLDOUT not in images:
        raise UsageError(
            f'{folder}/exits/s{size}.npz: no readable record of exits for a hold-out set; '
            f'{_EVALUATE}'
        )
    points = points_of(size, images[HOLDOUT].confidence.shape[1])
    if unit == MS:
        return Exits(size, read_milliseconds(folder, points), unit, images)
    return Exits(size, read_madds(folder, points), unit, images)
