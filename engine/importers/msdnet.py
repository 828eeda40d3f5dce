"""Published checkpoints of MSDNet.

Which network the tensors are of, and the original's modules by PyTorch names.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import UsageError
from engine.importers import torch_file
from engine.importers.t7_file import Instance, read_t7
from nets.msdnet_plan import PRUNES, Plan

# Names of a branch in front of the number of a module: block, position in it, map from the finest
# that survives, kind.
_BRANCH = r'blocks\.(\d+)\.(\d+)\.layers\.(\d+)\.conv_(normal|down)\.net\.'

# What the published code holds out, by the number of training images: of CIFAR, of ImageNet.
HOLDOUTS = {50000: 5000, 1281167: 50000}

Tensors = Mapping[str, np.ndarray]


def options(path: str, tensors: Tensors) -> dict[str, Any]:
    """Fields of ``Config`` that these tensors, by PyTorch names, tell.

    What no tensor depends on gets a value that fits: the factor of a bottleneck that never binds,
        say.

    Raises:
        UsageError: they are of no MSDNet.
    """
    try:
        return _options(tensors)
    except (ValueError, LookupError, ArithmeticError) as error:
        raise UsageError(
            f'{path}: holds no complete MSDNet ({type(error).__name__}: {error})'
        ) from error


def _options(tensors: Tensors) -> dict[str, Any]:
    stem = [
        tensors[name].shape[0]
        for name in _numbered(tensors, r'blocks\.0\.0\.layers\.(\d+)\.(?:net\.)?0\.weight')
    ]
    bottleneck = 'blocks.0.1.layers.0.conv_normal.net.3.weight' in tensors
    last = 3 if bottleneck else 0
    growth = [
        tensors[name].shape[0] * (1 + (name.replace('normal', 'down') in tensors))
        for name in _numbered(
            tensors, rf'blocks\.0\.1\.layers\.(\d+)\.conv_normal\.net\.{last}\.weight'
        )
    ]
    common = math.gcd(*stem)
    factors = [width // common for width in stem]
    unit = growth[0] // factors[0]
    if growth != [unit * factor for factor in factors]:
        raise ValueError(f'the stem has {stem} channels, the first layer adds {growth}')
    maps = _maps(tensors, rf'{_BRANCH}{last}\.weight')
    blocks = [
        sum(block == b for block, _ in maps) for b in range(1 + max(block for block, _ in maps))
    ]
    transitions = _maps(tensors, r'blocks\.(\d+)\.(\d+)\.m\.(\d+)\.net\.0\.weight')
    reduction = _reduction(
        [
            (tensors[f'blocks.{b}.{j}.m.0.net.0.weight'].shape, factors[-count])
            for (b, j), count in transitions.items()
        ]
    )
    shared = {'channels': common, 'growth': unit, 'reduction': reduction}
    return {
        'nBlocks': len(blocks),
        **_steps(blocks),
        'nChannels': common,
        'growthRate': unit,
        'grFactor': tuple(factors),
        'bnFactor': _widths(tensors, maps, len(stem)) if bottleneck else tuple(factors),
        'bottleneck': bottleneck,
        'prune': _prune(blocks, maps, transitions, len(stem), **shared),
        'reduction': reduction,
        'stem_bias': 'blocks.0.0.layers.0.0.bias' in tensors,
        'classes': len(tensors['classifier.0.linear.bias']),
    }


def _numbered(names: Iterable[str], pattern: str) -> list[str]:
    """Names that fit, by their number."""
    found = {int(m[1]): name for name in names if (m := re.fullmatch(pattern, name))}
    return [found[k] for k in range(len(found))]


def _maps(names: Iterable[str], pattern: str) -> dict[tuple[int, int], int]:
    """Number of maps by (block, position in it)."""
    found: dict[tuple[int, int], int] = {}
    for m in filter(None, (re.fullmatch(pattern, name) for name in names)):
        key = int(m[1]), int(m[2])
        found[key] = max(found.get(key, 0), int(m[3]) + 1)
    return found


def _steps(blocks: Sequence[int]) -> dict[str, Any]:
    """How the blocks got their numbers of layers.

    >>> _steps([4, 2, 2]), _steps([1, 2, 3])
    ({'stepmode': 'even', 'base': 4, 'step': 2}, {'stepmode': 'lin_grow', 'base': 1, 'step': 1})
    """
    base, *rest = blocks
    if len(set(rest)) < 2 and base >= max(rest, default=1):
        return {'stepmode': 'even', 'base': base, 'step': max(rest, default=1)}
    if rest != [(rest[0] - 1) * k + 1 for k in range(1, len(blocks))]:
        raise ValueError(f'blocks of {" ".join(map(str, blocks))} layers')
    return {'stepmode': 'lin_grow', 'base': base, 'step': rest[0] - 1}


def _widths(tensors: Tensors, maps: Mapping[tuple[int, int], int], scales: int) -> tuple[int, ...]:
    """Factor of the bottlenecks that read each scale.

    Min(inputs, factor * outputs) is their width.
    """
    exact, least = {}, dict.fromkeys(range(scales), 1)
    for m in filter(None, (re.fullmatch(rf'{_BRANCH}0\.weight', name) for name in tensors)):
        width, inputs = tensors[m[0]].shape[:2]
        outputs = len(tensors[m[0].replace('.net.0.', '.net.3.')])
        scale = scales - maps[int(m[1]), int(m[2])] + int(m[3]) - (m[4] == 'down')
        if width < inputs:
            exact[scale] = width // outputs
        least[scale] = max(least[scale], -(-width // outputs))
    return tuple(exact.get(scale, least[scale]) for scale in range(scales))


def _reduction(found: Sequence[tuple[Sequence[int], int]]) -> float:
    """The shortest decimal that compresses as these kernels do.

    Each is given as its shape (out, in, 1, 1) and the factor of its scale.

    >>> _reduction([((41, 83, 1, 1), 1), ((2 * 35, 2 * 70, 1, 1), 2)])
    0.5
    """
    if not found:
        return 0.0
    low = max(Fraction(outputs // g, inputs // g) for (outputs, inputs, *_), g in found)
    high = min(Fraction(outputs // g + 1, inputs // g) for (outputs, inputs, *_), g in found)
    for digits in range(1, 7):
        value = Fraction(math.ceil(low * 10**digits), 10**digits)
        if value < high:
            return float(value)
    raise ValueError('the transitions compress by different factors')


def _prune(
    blocks: Sequence[int],
    maps: Mapping[tuple[int, int], int],
    transitions: Mapping[tuple[int, int], int],
    scales: int,
    **shared: Any,
) -> str:
    """The rule by which scales end where they do."""
    found = {
        **{f'block{b}/layer{j}': count for (b, j), count in maps.items()},
        **{f'block{b}/transition{j}': count for (b, j), count in transitions.items()},
    }
    for prune in PRUNES:
        layers = Plan(blocks, scales=scales, prune=prune, **shared).layers
        expected = {
            scope: scales - layer.first
            for layer in layers
            for scope in (layer.scope, layer.transition)
        }
        if found == {scope: count for scope, count in expected.items() if scope}:
            return prune
    raise ValueError('its scales end after other layers than by any published rule')


def read_original(path: str) -> dict[str, np.ndarray]:
    """The tensors of a ``model.t7`` by PyTorch names, float32.

    Raises:
        UsageError: it cannot be read, or is no MSDNet.
    """
    tree = read_t7(Path(path))
    try:
        return {
            f'{name}.{leaf}': value
            for name, module in _modules(tree)
            for leaf, value in _leaves(module)
        }
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise UsageError(
            f'{path}: holds no MSDNet ({type(error).__name__}: {error}); give model.t7 or '
            'model_best.t7, '
            'not latest.t7 or optimState.t7'
        ) from error


def _items(module: Instance) -> list[Instance]:
    """Modules of a container in order."""
    table = module.fields['modules']
    return [table[k] for k in range(1, len(table) + 1)]


def _modules(tree: Instance) -> Iterator[tuple[str, Instance]]:
    """Modules with their PyTorch names; those without variables among them.

    The first half are blocks, then heads.
    """
    joint = tree if tree.name == 'nn.JointTrainModule' else _items(tree)[0]
    parts = _items(joint)
    half = len(parts) // 2
    for b, (block, head) in enumerate(zip(parts[:half], parts[half:], strict=True)):
        for j, item in enumerate(_items(block)):
            yield from _layer(f'blocks.{b}.{j}', item)
        *convs, linear = _items(head)
        for i, module in enumerate(convs):
            yield f'classifier.{b}.m.{i // 3}.net.{i % 3}', module
        yield f'classifier.{b}.linear', linear


def _layer(name: str, item: Instance) -> Iterator[tuple[str, Instance]]:
    """Modules of the stem, of a layer or of a transition."""
    for s, part in enumerate(_items(item)):
        if item.name == 'nn.MSDNet_Layer_first':
            plain = s == 0 and _items(part)[0].fields['kW'] == 7
            yield from _sequence(f'{name}.layers.{s}' if plain else f'{name}.layers.{s}.net', part)
        elif item.name == 'nn.MSDNet_Layer':
            _, *branches = _items(_items(part)[0])
            for kind, branch in zip(('down', 'normal')[-len(branches) :], branches, strict=True):
                yield from _sequence(f'{name}.layers.{s}.conv_{kind}.net', branch)
        else:
            yield from _sequence(f'{name}.m.{s}.net', part)


def _sequence(name: str, sequence: Instance) -> Iterator[tuple[str, Instance]]:
    return ((f'{name}.{i}', module) for i, module in enumerate(_items(sequence)))


def _leaves(module: Instance) -> Iterator[tuple[str, np.ndarray]]:
    """Variables of a module.

    Old normalisations store the inverse deviation; old kernels are flat.
    """
    fields = module.fields
    found = {leaf: fields.get(leaf) for leaf in ('weight', 'bias', 'running_mean', 'running_var')}
    if fields.get('running_std') is not None:
        found['running_var'] = fields['running_std'].astype(np.float64) ** -2 - fields.get(
            'eps', 1e-5
        )
    for leaf, value in found.items():
        if value is not None and value.size:
            flat = leaf == 'weight' and value.ndim == 2 and 'kW' in fields
            shape = (len(value), -1, fields['kH'], fields['kW']) if flat else value.shape
            yield leaf, value.reshape(shape).astype(np.float32)


def read_holdout(path: Path, count: int | None) -> tuple[np.ndarray, int]:
    """Sorted numbers of the images that ``index.pth`` holds out, its last ones.

    And the number of all images.

    Args:
        path: a permutation of the training images.
        count: how many; None for what the published code holds out.

    Raises:
        UsageError: it is no permutation, or the number of held-out images is not known or too
            large.
    """
    order = torch_file.read_torch(path)
    if (
        not isinstance(order, np.ndarray)
        or order.ndim != 1
        or not np.array_equal(np.sort(order), np.arange(order.size))
    ):
        raise UsageError(f'--index {path}: is no permutation of the training images')
    count = HOLDOUTS.get(len(order)) if count is None else count
    if count is None or not 0 < count < len(order):
        raise UsageError(
            f'--holdout {count}: say how many of the {len(order)} images in {path} were held out'
        )
    return np.sort(order[-count:]), len(order)
