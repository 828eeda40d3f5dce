"""Budgeted-batch classification: at which confidence an image leaves a network at which exit.

Pure numpy. The arithmetic is that of MSDNet (Huang et al., Multi-Scale Dense Networks for Resource
Efficient Image Classification, ICLR 2018, https://arxiv.org/abs/1703.09844, section 3) as published
in PyTorch. There, a confidence is the largest float32 probability, of which many are exactly 1 on
easy data; where it matters, give logarithms of probabilities in float64, which rank the same and do
not saturate.
"""

import dataclasses
from pathlib import Path
from typing import Annotated

import numpy as np

from engine.errors import UsageError
from engine.files import read_json, write_json
from engine.quantities import counted
from engine.results.exit_records import BITOPS, MADDS, MS
from engine.schema import Amount, Count
from quant.options import Limits

# Confidence that no image, or that every image, has.
NEVER, ALWAYS = 1e8, -1e8

Unit = Annotated[str, Limits('of a cost', choices=(MADDS, BITOPS, MS))]

# From here on float32 powers overflow.
_LARGEST_EXPONENT = 80

# At these, all images of fewer than 16 million leave at the first exit, or at the last one.
_SMALLEST_P, _LARGEST_P = 1e-8, 1e8

# Halvings of the interval of log p: down to the resolution of float32.
_HALVINGS = 32


def shares(p: float, exits: int) -> np.ndarray:
    """Shares of the images that are to leave at each exit, proportional to p, p^2, p^3 ...

    Every step is rounded to float32 as published, so that quotas round alike; logarithm and powers
    are the nearest float32, since those of float32 routines differ between processors.

    Args:
        p: Less than 1 prefers early exits, 1 treats all alike.
        exits: Number of exits, K.

    Returns:
        [K] float32, of sum 1.
    """
    log_p = np.float32(np.log(np.float64(np.float32(p))))
    exponents = log_p * np.arange(1, exits + 1, dtype=np.float32)  # [K]
    exponents -= max(exponents.max() - np.float32(_LARGEST_EXPONENT), np.float32(0))
    powers = np.exp(exponents.astype(np.float64)).astype(np.float32)
    return powers / powers.sum()


def thresholds(confidence: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Thresholds that make a share of the images leave at each exit.

    From the first exit on, the ``floor(N * share)`` most confident images of those still there
    leave, and with them all that are as confident as the last of these. If so many are not left,
    none leaves.

    Args:
        confidence: [N, K] of the hold-out images at the exits.
        share: [K] float32.

    Returns:
        [K] of the type of ``confidence``: an image leaves at the first exit where its confidence is
        at least this. The last exit takes all that reach it.
    """
    images, exits = confidence.shape
    quotas = np.floor(np.float32(images) * share[:-1]).astype(int)  # [K - 1]
    left = confidence  # [images still there, K]
    found = np.full(exits, NEVER, confidence.dtype)
    for k, quota in enumerate(quotas):
        if 0 < quota <= len(left):
            rank = len(left) - quota
            found[k] = np.partition(left[:, k], rank)[rank]
            left = left[left[:, k] < found[k]]
    found[-1] = ALWAYS
    return found


def only_exit(exit: int, exits: int) -> list[float]:
    """Thresholds by which every image leaves at one exit.

    Args:
        exit: Its index.
        exits: Number of exits.
    """
    return [NEVER] * exit + [ALWAYS] * (exits - exit)


def chosen(confidence: np.ndarray, threshold: np.ndarray) -> np.ndarray:
    """Exit [N] at which each image leaves: the first where ``confidence`` [N, K] is high enough."""
    return np.argmax(confidence >= threshold, axis=1)


def expected_cost(share: np.ndarray, costs: np.ndarray) -> float:
    """Mean cost of an image, in the precision of ``costs`` [K], that of all up to an exit."""
    return (share.astype(costs.dtype) * costs).cumsum()[-1].item()


def dynamic(
    confidence: np.ndarray, right: np.ndarray, threshold: np.ndarray, costs: np.ndarray
) -> tuple[float, float, np.ndarray]:
    """Accuracy and cost of images that leave by thresholds.

    Args:
        confidence: [N, K] of images at exits.
        right: [N, K] bool, whether the class predicted there is right.
        threshold: [K].
        costs: [K] cumulative cost of the exits.

    Returns:
        Percent right, expected cost of an image, and the share [K] of the images by exit.
    """
    leaves = chosen(confidence, threshold)  # [N]
    share = _share_of(leaves, len(costs))
    hits = np.count_nonzero(np.take_along_axis(right, leaves[:, None], axis=1))
    return 100 * hits / len(leaves), expected_cost(share, costs), share


def _share_of(leaves: np.ndarray, exits: int) -> np.ndarray:
    """[K] share of the images by exit, from the exit [N] of each."""
    return np.bincount(leaves, minlength=exits) / len(leaves)


def solve(confidence: np.ndarray, costs: np.ndarray, budget: float) -> np.ndarray:
    """Thresholds whose expected cost on the hold-out images is at most ``budget``, and close to it.

    Bisection over p of ``shares``: the cost grows with p, up to a few images by which quotas round.

    Args:
        confidence: [N, K] of the hold-out images; of float64 logarithms no two are alike.
        costs: [K] cumulative cost of the exits, ascending.
        budget: Mean cost of an image, in the unit of ``costs``. If it pays for the last exit, none
            leaves earlier.

    Returns:
        [K] thresholds.

    Raises:
        UsageError: Not even the first exit is within the budget, or the costs do not ascend.
    """
    exits = len(costs)
    if (np.diff(costs) < 0).any():
        raise UsageError(
            f'costs of the exits {", ".join(f"{cost:g}" for cost in costs)}: a later exit includes '
            'the earlier ones and cannot cost less'
        )
    if budget < costs[0]:
        raise UsageError(
            f'the smallest possible budget is {costs[0]:,.10g}, the cost of the first exit; got '
            f'{budget:,.10g}'
        )
    if budget >= costs[-1]:
        return thresholds(confidence, np.eye(exits, dtype=np.float32)[-1])
    found = thresholds(confidence, shares(_SMALLEST_P, exits))
    low, high = np.log(_SMALLEST_P), np.log(_LARGEST_P)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        tried = thresholds(confidence, shares(np.exp(middle), exits))
        share = _share_of(chosen(confidence, tried), exits)
        if expected_cost(share, costs) <= budget:
            found, low = tried, middle
        else:
            high = middle
    return found


def sweep(confidence: np.ndarray, costs: np.ndarray, n: int) -> list[tuple[float, np.ndarray]]:
    """Thresholds for budgets evenly from the cost of the first exit to that of the last.

    Args:
        confidence: [N, K] of the hold-out images.
        costs: [K] cumulative cost of the exits, ascending.
        n: Number of budgets.

    Returns:
        Each budget with its thresholds [K].
    """
    budgets = np.linspace(costs[0], costs[-1], n).tolist()
    return [(budget, solve(confidence, costs, budget)) for budget in budgets]


@dataclasses.dataclass(frozen=True)
class ExitPolicy:
    """Thresholds by which images leave a network, and their cost.

    Attributes:
        size: Input size in pixels.
        exits: Indices of the exits, shallowest first.
        thresholds: By exit, the least logarithm of the probability of the predicted class with
            which an image leaves; ``NEVER`` where none does, ``ALWAYS`` at the last exit.
        budget: The mean cost of an image that was asked for.
        cost: The mean cost on the hold-out images.
        unit: Of both: ``MAdds``, ``BitOps`` or ``ms``.
        source: Checkpoint on whose outputs the thresholds were set.
    """

    size: Count
    exits: tuple[Count, ...]
    thresholds: tuple[float, ...]
    budget: Amount
    cost: Amount
    unit: Unit
    source: str

    def write(self, path: Path) -> None:
        """Writes it as JSON."""
        write_json(path, dataclasses.asdict(self))


def read_policy(path: Path) -> ExitPolicy:
    """A policy from a file that ``scripts.thresholds`` wrote.

    Raises:
        UsageError: It cannot be read, or is none.
    """
    policy = read_json(
        path, ExitPolicy, 'python -m scripts.thresholds RUN --budget writes thresholds'
    )
    _check(policy, path)
    return policy


def policy(folder: Path, size: int, file: Path | None) -> ExitPolicy:
    """The policy of a size.

    Args:
        folder: of the run.
        size: in pixels.
        file: that holds it; None looks for the only one that the run folder has.

    Raises:
        UsageError: there is none, there are several, or it is of another size.
    """
    if file is not None:
        found = read_policy(file)
        if found.size != size:
            raise UsageError(f'--thresholds {file}: is for size {found.size}, not {size}')
        return found
    known = {}
    for path in sorted((folder / 'exits').glob('thresholds-*.json')):
        if 'sweep' not in path.name and (one := read_policy(path)).size == size:
            known[path] = one
    if len(known) != 1:
        spelled = ' '.join(map(str, known)) or 'none'
        raise UsageError(
            f'--thresholds FILE says where images leave at size {size}; {folder} has {spelled}; '
            'python -m scripts.thresholds RUN --budget writes one'
        )
    return next(iter(known.values()))


def _check(policy: ExitPolicy, path: Path) -> None:
    if len(policy.thresholds) != len(policy.exits) or not policy.exits:
        raise UsageError(
            f'{path}: {counted(len(policy.thresholds), "threshold")} for '
            f'{counted(len(policy.exits), "exit")}; there '
            'must be one each'
        )
