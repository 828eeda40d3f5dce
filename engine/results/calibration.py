"""Calibration of confidence: a temperature for the logits of a point, and how far off it was.

Guo et al., On Calibration of Modern Neural Networks, ICML 2017, https://arxiv.org/abs/1706.04599,
section 4.2. Pure numpy.
"""

import numpy as np

# Range of a temperature, and the steps to find it in.
LOWEST, HIGHEST, STEPS = 0.05, 20.0, 60

# Intervals of confidence of the calibration error.
BINS = 15

_GOLDEN = (5**0.5 - 1) / 2


def temperature(logits: np.ndarray, labels: np.ndarray, counts: np.ndarray) -> float:
    """The temperature with which labels are most likely; 1 for answers without any mistake.

    The mean of their negative logarithms is convex in the inverse of the temperature; a golden
    section finds its least value.

    Args:
        logits: [N, columns].
        labels: [N] int, the columns of the right classes.
        counts: [columns], classes that a column stands for, all with its logit.
    """
    values = logits.astype(np.float64)
    values -= values.max(axis=1, keepdims=True)
    right = np.take_along_axis(values, labels[:, None], axis=1)[:, 0]  # [N]
    if not right.any():
        # The colder the likelier, without end.
        return 1.0

    def loss(inverse: float) -> float:
        norm = np.log(np.exp(inverse * values) @ counts)
        return float((norm - inverse * right).mean())

    low, high = 1 / HIGHEST, 1 / LOWEST
    for _ in range(STEPS):
        step = _GOLDEN * (high - low)
        left, right_end = high - step, low + step
        if loss(left) < loss(right_end):
            high = right_end
        else:
            low = left
    return 2 / (low + high)


def expected_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error: mean distance of confidence and accuracy, over equal intervals.

    Args:
        confidence: [N] probability of the answers.
        right: [N] bool.

    >>> round(expected_error(np.array([0.9, 0.9, 0.5]), np.array([True, False, True])), 6)
    0.433333
    """
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, confidence - right, minlength=BINS)
    return float(np.abs(gaps).sum() / len(confidence))
