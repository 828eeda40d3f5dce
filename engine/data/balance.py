"""Balances classes of different sizes, in how often they are drawn or in the losses."""

import numpy as np

SAMPLER, BY_WEIGHT = 'sampler', 'weights'


def balanced(labels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Images of a pass, as many as there are, drawn alike from every class.

    Each class gives its images in a random order, again and again; the places that do not divide go
    to random classes.

    Args:
        labels: class index of every image, int64 [N].
        rng: source of all chance.

    Returns:
        Numbers of images int64 [N], and how often each was there before in this pass, int64 [N].

    >>> numbers, again = balanced(np.array([0, 0, 0, 0, 0, 1]), np.random.default_rng(0))
    >>> sorted(numbers.tolist())[3:], int(again.max())
    ([5, 5, 5], 2)
    """
    count = len(labels)
    present = np.unique(labels)
    quotas = np.full(len(present), count // len(present))
    quotas[rng.permutation(len(present))[: count % len(present)]] += 1
    numbers = []
    again = []
    for label, quota in zip(present, quotas):
        own = rng.permutation(np.flatnonzero(labels == label))
        places = np.arange(quota)
        numbers.append(own[places % len(own)])
        again.append(places // len(own))
    order = rng.permutation(count)
    return np.concatenate(numbers)[order], np.concatenate(again)[order]


def class_weights(labels: np.ndarray, classes: int) -> tuple[float, ...]:
    """Weight of an image in the losses, by class: classes count alike, and images 1 on average.

    Args:
        labels: class index of every image, int64 [N].
        classes: number of classes; one without images has 0.

    >>> class_weights(np.array([0, 0, 0, 2]), 3)
    (0.6666666666666666, 0.0, 2.0)
    """
    counts = np.bincount(labels, minlength=classes)  # [classes]
    present = np.count_nonzero(counts)
    weights = len(labels) / (present * np.maximum(counts, 1)) * (counts > 0)
    return tuple(weights.tolist())


def is_uneven(labels: np.ndarray) -> bool:
    """Whether some class has more than twice the images of another one that has any."""
    counts = np.bincount(labels)
    counts = counts[counts > 0]
    return bool(counts.max() > 2 * counts.min())
