"""Finds the tensors of a model in a file that a training saved, whatever wraps them.

torchvision, timm and Lightning, and wrappers of PyTorch, put the same names into different places.
"""

import collections
from collections.abc import Mapping
from typing import Any

import numpy as np

# Names of entries that hold a model, the one to prefer first: averages are kept to be evaluated.
ENTRIES = (
    'state_dict_ema',
    'model_ema',
    'ema_state_dict',
    'ema',
    'state_dict',
    'model_state_dict',
    'model_state',
    'model',
    'net',
    'network',
    'module',
    'weights',
    'params',
)

# Names that wrappers put in front of all others, each with a dot.
WRAPPERS = frozenset(
    ('module', '_orig_mod', 'model', 'net', 'network', 'backbone', 'encoder', 'student')
)


def find_tensors(content: Any) -> dict[str, np.ndarray]:
    """Tensors of the model by name; none if there are none.

    Args:
        content: what the file holds.
    """
    waiting = [content]
    seen = set()
    while waiting:
        found = waiting.pop()
        # A damaged file may hold a dict that holds itself.
        if not isinstance(found, Mapping) or id(found) in seen:
            continue
        seen.add(id(found))
        tensors = tensors_in(found)
        if tensors and found is not content:
            return tensors
        for name in reversed(ENTRIES):
            if name in found:
                waiting.append(found[name])
    return tensors_in(content)


def tensors_in(found: Any) -> dict[str, np.ndarray]:
    """The named tensors directly in a dict."""
    tensors = {}
    if isinstance(found, Mapping):
        for name, value in found.items():
            if isinstance(name, str) and isinstance(value, np.ndarray):
                tensors[name] = value
    return tensors


def unwrapped(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Tensors of a model without what wrappers put in front of their names.

    Of several models in one file, as a student and its average, this is done to the one with the
    most tensors; all others keep their whole names.

    >>> sorted(unwrapped({'model.module.fc.bias': 0, 'model.module.fc.weight': 0, 'loss.w': 0}))
    ['fc.bias', 'fc.weight', 'loss.w']
    """
    counts = collections.Counter(map(_wrapper, tensors))
    if not counts:
        return {}
    start, _ = counts.most_common(1)[0]
    others = {}
    found = {}
    for name, value in tensors.items():
        if name.startswith(start):
            found[name.removeprefix(start)] = value
        else:
            others[name] = value
    return {**others, **found}


def _wrapper(name: str) -> str:
    """The start of a name that wrappers put in front of a layer and its part, with the dot."""
    parts = name.split('.')
    count = 0
    while count < len(parts) - 2 and parts[count] in WRAPPERS:
        count += 1
    return ''.join(f'{part}.' for part in parts[:count])
