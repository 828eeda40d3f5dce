"""Published checkpoints of MSDNet: which network the tensors are of, and what was held out."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from engine.errors import UsageError
from engine.importers import torch_file
from engine.importers.importer import Importer, Published, Tensors
from engine.importers.msdnet_t7 import read_original
from nets.msdnet_plan import PRUNES, Plan

# Names of a branch in front of the number of a module: block, position in it, map from the finest
# that survives, kind.
_BRANCH = r'blocks\.(\d+)\.(\d+)\.layers\.(\d+)\.conv_(normal|down)\.net\.'

# What the published code holds out, by the number of training images: of CIFAR, of ImageNet.
HOLDOUTS = {50000: 5000, 1281167: 50000}

# Number of maps by (block, position in it).
Maps = Mapping[tuple[int, int], int]


class MSDNetImporter(Importer):
    """Networks with a classifier after every block."""

    holds = 'MSDNet'
    readers = {'.t7': read_original}

    def recognizes(self, tensors: Tensors) -> bool:
        """Whether there is a first classifier of several."""
        return 'classifier.0.linear.bias' in tensors

    def fields(self, published: Published) -> dict[str, Any]:
        """Fields of ``Config``.

        Raises:
            UsageError: they are of no MSDNet, or several sizes were given.
        """
        found = options(published.path, published.tensors)
        if 'blocks.0.0.layers.0.0.weight' in published.tensors:
            usual, inputs, augmentation = 224, 'normalized_rgb', 'area_crop'
        elif found['classes'] == 100:
            usual, inputs, augmentation = 32, 'cifar100_rgb', 'shift'
        else:
            usual, inputs, augmentation = 32, 'cifar10_rgb', 'shift'
        sizes = published.one_size(usual)
        return {
            **self.family.defaults('msdnet'),
            **found,
            'arch': 'msdnet',
            'inputs': inputs,
            'augmentation': augmentation,
            'sizes': sizes,
            'image_size': sizes[0],
        }


def options(path: str, tensors: Tensors) -> dict[str, Any]:
    """Options of the network, and number of classes, that tensors by PyTorch names tell.

    What no tensor depends on gets a value that fits: the factor of a bottleneck that never binds,
    say.

    Raises:
        UsageError: they are of no MSDNet.
    """
    try:
        return _options(tensors)
    except (ValueError, LookupError, ArithmeticError, TypeError) as error:
        raise UsageError(
            f'{path}: holds no complete MSDNet ({type(error).__name__}: {error})'
        ) from error


def _options(tensors: Tensors) -> dict[str, Any]:
    bottleneck = 'blocks.0.1.layers.0.conv_normal.net.3.weight' in tensors
    last = 3 if bottleneck else 0  # number of the convolution that makes a branch's channels
    stem = _stem_channels(tensors)
    growth = _growth_channels(tensors, last)
    common = math.gcd(*stem)
    factors = tuple(width // common for width in stem)
    unit = growth[0] // factors[0]
    if growth != [unit * factor for factor in factors]:
        raise ValueError(f'the stem has {stem} channels, the first layer adds {growth}')
    maps = _maps(tensors, rf'{_BRANCH}{last}\.weight')
    transitions = _maps(tensors, r'blocks\.(\d+)\.(\d+)\.m\.(\d+)\.net\.0\.weight')
    blocks = _layers_by_block(maps)
    reduction = _reduction(_compressions(tensors, transitions, factors))
    widths = _bottleneck_factors(tensors, maps, len(stem)) if bottleneck else factors
    shared = {'channels': common, 'growth': unit, 'reduction': reduction}
    prune = _prune(blocks, maps, transitions, len(stem), **shared)
    return {
        'nBlocks': len(blocks),
        **_steps(blocks),
        'nChannels': common,
        'growthRate': unit,
        'grFactor': factors,
        'bnFactor': widths,
        'bottleneck': bottleneck,
        'prune': prune,
        'reduction': reduction,
        'stem_bias': 'blocks.0.0.layers.0.0.bias' in tensors,
        'classes': len(tensors['classifier.0.linear.bias']),
    }


def _stem_channels(tensors: Tensors) -> list[int]:
    """Channels of the stem by scale, the finest first."""
    names = _numbered(tensors, r'blocks\.0\.0\.layers\.(\d+)\.(?:net\.)?0\.weight')
    return [tensors[name].shape[0] for name in names]


def _growth_channels(tensors: Tensors, last: int) -> list[int]:
    """Channels that the first layer adds by scale: from one branch, or from two alike."""
    pattern = rf'blocks\.0\.1\.layers\.(\d+)\.conv_normal\.net\.{last}\.weight'
    channels = []
    for name in _numbered(tensors, pattern):
        branches = 2 if name.replace('normal', 'down') in tensors else 1
        channels.append(tensors[name].shape[0] * branches)
    return channels


def _numbered(names: Iterable[str], pattern: str) -> list[str]:
    """Names that fit, by their number."""
    found = {}
    for name in names:
        if match := re.fullmatch(pattern, name):
            found[int(match[1])] = name
    return [found[k] for k in range(len(found))]


def _maps(names: Iterable[str], pattern: str) -> dict[tuple[int, int], int]:
    """Number of maps by (block, position in it)."""
    found: dict[tuple[int, int], int] = {}
    for name in names:
        if match := re.fullmatch(pattern, name):
            place = int(match[1]), int(match[2])
            found[place] = max(found.get(place, 0), int(match[3]) + 1)
    return found


def _layers_by_block(maps: Maps) -> list[int]:
    """Number of layers of each block.

    Raises:
        ValueError: blocks are missing between others.
    """
    blocks = {block for block, _ in maps}
    if blocks != set(range(len(blocks))):
        raise ValueError('numbers of its blocks are missing')
    counts = [0] * len(blocks)
    for block, _ in maps:
        counts[block] += 1
    return counts


def _steps(blocks: Sequence[int]) -> dict[str, Any]:
    """How the blocks got their numbers of layers.

    Raises:
        ValueError: no step mode gives these numbers.

    >>> _steps([4, 2, 2]), _steps([1, 2, 3])
    ({'stepmode': 'even', 'base': 4, 'step': 2}, {'stepmode': 'lin_grow', 'base': 1, 'step': 1})
    """
    base, *rest = blocks
    if len(set(rest)) < 2 and base >= max(rest, default=1):
        return {'stepmode': 'even', 'base': base, 'step': max(rest, default=1)}
    step = rest[0] - 1
    if rest != [step * k + 1 for k in range(1, len(blocks))]:
        raise ValueError(f'blocks of {" ".join(map(str, blocks))} layers')
    return {'stepmode': 'lin_grow', 'base': base, 'step': step}


def _bottleneck_factors(tensors: Tensors, maps: Maps, scales: int) -> tuple[int, ...]:
    """Factor by scale of the bottlenecks that read it: min(inputs, factor * outputs) wide."""
    exact: dict[int, int] = {}
    least = [1] * scales
    for name, kernel in tensors.items():
        match = re.fullmatch(rf'{_BRANCH}0\.weight', name)
        if not match:
            continue
        width, inputs = kernel.shape[:2]
        outputs = len(tensors[name.replace('.net.0.', '.net.3.')])
        first = scales - maps[int(match[1]), int(match[2])]
        scale = first + int(match[3]) - (match[4] == 'down')
        if width < inputs:
            exact[scale] = width // outputs
        least[scale] = max(least[scale], -(-width // outputs))
    return tuple(exact.get(scale, least[scale]) for scale in range(scales))


class _Compression(NamedTuple):
    """Channels of a transition's kernel over the factor of its scale."""

    outputs: int
    inputs: int


def _compressions(
    tensors: Tensors, transitions: Maps, factors: Sequence[int]
) -> list[_Compression]:
    """The compression of the finest map of every transition."""
    found = []
    for (block, position), count in transitions.items():
        outputs, inputs = tensors[f'blocks.{block}.{position}.m.0.net.0.weight'].shape[:2]
        factor = factors[-count]
        found.append(_Compression(outputs // factor, inputs // factor))
    return found


def _reduction(found: Sequence[_Compression]) -> float:
    """The shortest decimal that compresses as these kernels do.

    Raises:
        ValueError: no factor gives all of them.

    >>> _reduction([_Compression(41, 83), _Compression(35, 70)])
    0.5
    """
    if not found:
        return 0.0
    low = max(Fraction(outputs, inputs) for outputs, inputs in found)
    high = min(Fraction(outputs + 1, inputs) for outputs, inputs in found)
    for digits in range(1, 7):
        value = Fraction(math.ceil(low * 10**digits), 10**digits)
        if value < high:
            return float(value)
    raise ValueError('the transitions compress by different factors')


def _prune(blocks: Sequence[int], maps: Maps, transitions: Maps, scales: int, **shared: Any) -> str:
    """The rule by which scales end where they do.

    Raises:
        ValueError: no published rule does.
    """
    found = {}
    for (b, j), count in maps.items():
        found[f'block{b}/layer{j}'] = count
    for (b, j), count in transitions.items():
        found[f'block{b}/transition{j}'] = count
    for prune in PRUNES:
        expected = {}
        for layer in Plan(blocks, scales=scales, prune=prune, **shared).layers:
            expected[layer.scope] = scales - layer.first
            if layer.transition:
                expected[layer.transition] = scales - layer.first
        if found == expected:
            return prune
    raise ValueError('its scales end after other layers than by any published rule')


def read_holdout(path: Path, count: int | None) -> tuple[np.ndarray, int]:
    """Numbers of the images that ``index.pth`` holds out, its last ones, sorted; and of all.

    Args:
        path: a permutation of the training images.
        count: how many; None for what the published code holds out.

    Raises:
        UsageError: it is no permutation, or the number of held-out images is not known or too
            large.
    """
    order = torch_file.read_torch(path)
    vector = isinstance(order, np.ndarray) and order.ndim == 1
    if not vector or not np.array_equal(np.sort(order), np.arange(order.size)):
        raise UsageError(f'--index {path}: is no permutation of the training images')
    if count is None:
        count = HOLDOUTS.get(len(order))
    if count is None or not 0 < count < len(order):
        raise UsageError(
            f'--holdout {count}: say how many of the {len(order)} images in {path} were held out'
        )
    return np.sort(order[-count:]), len(order)
