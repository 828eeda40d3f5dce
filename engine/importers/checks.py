"""Checks of published tensors, the same for all formats and families."""

import re
from collections.abc import Iterable, Mapping

import numpy as np

from engine.errors import UsageError

# Ends of names of what a layer has; how long these are says how large a network is.
_PARTS = re.compile(r'(^|[./])(weight|bias|running_mean|running_var|W|b|basis|gamma|beta|EMA)$')


def is_part(name: str) -> bool:
    """Whether a tensor of this name is part of a layer."""
    return _PARTS.search(name) is not None


def check_lengths(path: str, tensors: Mapping[str, np.ndarray]) -> None:
    """Refuses parts of layers that have no dimension, or none of length.

    Args:
        path: of the file, for messages.
        tensors: by the names in it.

    Raises:
        UsageError: there is one.
    """
    for name, value in tensors.items():
        if is_part(name) and (value.ndim == 0 or value.size == 0):
            raise UsageError(
                f'{path}: {name} has shape {list(value.shape)}; a layer has at least one channel '
                'and a classifier at least one class'
            )


def check_numbers(path: str, names: Mapping[str, str], tensors: Mapping[str, np.ndarray]) -> None:
    """Refuses what cannot be the numbers of a trained network.

    Args:
        path: of the file, for messages.
        names: our names by those in the file.
        tensors: by the names in the file.

    Raises:
        UsageError: values are no floating-point numbers, infinite or not a number, or variances
            are negative.
    """
    for name, ours in names.items():
        value = tensors[name]
        if value.dtype.kind != 'f':
            raise UsageError(f'{path}: {name} is of type {value.dtype}, expected float32')
        low, high = np.finfo(np.float32).min, np.finfo(np.float32).max
        # Not a number is neither.
        good = (value >= low) & (value <= high)
        if not good.all():
            raise UsageError(
                f'{path}: {name}: {_some(~good)} are not finite; the file is of a training that '
                'diverged, or damaged'
            )
        if ours.endswith('variance/EMA') and (value < 0).any():
            raise UsageError(
                f'{path}: {name}: {_some(value < 0)} are negative (down to {value.min():g}), '
                'which no variance is'
            )


def _some(bad: np.ndarray) -> str:
    """How many values, and where the first one is."""
    first = [int(k) for k in np.argwhere(bad)[0]]
    return f'{bad.sum()} of {bad.size} values (the first at {first})'


def misfit(shape: Iterable[int], accepted: Iterable[tuple[int, ...]]) -> str:
    """Says which shapes are accepted, and whether a transpose would have one of them.

    >>> misfit((512, 10), [(10, 512)])
    'expected [10, 512] in the file; its transpose would fit'
    """
    shapes = list(accepted)
    expected = ' or '.join(str(list(one)) for one in shapes)
    text = f'expected {expected} in the file; '
    turned = sorted(shape)
    if any(sorted(one) == turned for one in shapes):
        return f'{text}its transpose would fit'
    return f'{text}no transpose of it would fit'
