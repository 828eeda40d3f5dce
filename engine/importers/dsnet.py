"""Published checkpoints of DS-Net.

Names and layouts of their tensors, which network they are of, which widths have statistics.
"""

import collections
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from engine.config.config import Config
from engine.errors import UsageError
from engine.importers.checks import misfit
from engine.importers.importer import Importer, Published, Tensors, converted
from engine.runs.checkpoint import POINTS
from nets.backbones.slimmable import MOBILENETS, WIDTHS, MobileNetV1
from nets.layers.routing import SCOPE
from nets.points import Point

# The largest network: beyond the uniform widths.
LARGEST = WIDTHS

_LAYERS = {
    'conv_dw': 'depthwise',
    'conv_pw': 'pointwise',
    'bn1': 'depthwise/bn',
    'bn2': 'pointwise/bn',
    'gate.conv_reduce': 'se/reduce',
    'gate.conv_expand': 'se/expand',
}
_FIXED = {
    'conv_stem': 'conv0',
    'bn1': 'conv0/bn',
    'classifier': 'linear',
    'blocks.3.first_block.gate.gate.0': 'slimming_gate',
}
_BLOCK = r'blocks\.(\d+)\.(?:first_block|residual_blocks\.(\d+))\.(.+)'
_AFFINE = {'weight': 'gamma', 'bias': 'beta'}
_STATISTICS = {'running_mean': 'mean/EMA', 'running_var': 'variance/EMA'}
_PLAIN = {'weight': 'W', 'bias': 'b'}


class DSNetImporter(Importer):
    """Slimmable networks. Every file holds weights of a gate, trained or not."""

    holds = 'DS-Net'
    stages = True

    def recognizes(self, tensors: Tensors) -> bool:
        """Whether a normalisation has statistics of its own for every width."""
        return any('.aux_bn.' in name for name in tensors)

    def fields(self, published: Published) -> dict[str, Any]:
        """Fields of ``Config``; widths follow from the arrays.

        Raises:
            UsageError: they are of no DS-Net, or several sizes were given.
        """
        tensors = published.tensors
        stem, bias = tensors.get('conv_stem.weight'), tensors.get('classifier.bias')
        if stem is None or bias is None:
            raise UsageError(
                f'{published.path}: holds no complete DS-Net (conv_stem.weight and classifier.bias)'
            )
        arch = published.arch or _arch(published.path, tensors)
        width = 1.0
        if arch in MOBILENETS:
            width = len(stem) / MOBILENETS[arch].stem.choices[-1]
        sizes = published.one_size(224)
        stage = published.stage or 'supernet'
        # Any width has all variables; those with statistics follow.
        widths = () if stage == 'gate' else (0,)
        return {
            **self.family.defaults(arch),
            'arch': arch,
            'width': width,
            'classes': len(bias),
            'stage': stage,
            'widths': widths,
            'sizes': sizes,
            'image_size': sizes[0],
        }

    def name(self, published: str, config: Config) -> str | None:
        """Our name of a published tensor, several of which can be rows of one variable.

        Raises:
            ValueError: it is no part of a DS-Net.
        """
        place = from_dsnet(published)
        if place is None or (place.name.startswith(SCOPE) and config.stage != 'gate'):
            return None
        return place.name

    def converted(
        self,
        tensors: Tensors,
        names: Mapping[str, str],
        shapes: Mapping[str, Sequence[int]],
        config: Config,
    ) -> dict[str, np.ndarray]:
        """Arrays in our layout by our name, the statistics of all widths as one table.

        Args:
            tensors: by published name.
            names: our name by published name, of those to convert.
            shapes: of our variables by name.
            config: of the network.

        Raises:
            ValueError: a tensor does not fit its variable, or has not the channels of its width.
        """
        if config.arch in MOBILENETS:
            _check_channels({name: tensors[name] for name in names}, shapes, config)
        return assemble({name: tensors[name] for name in names}, shapes)

    def completed(
        self, path: str, config: Config, values: dict[str, np.ndarray]
    ) -> tuple[Config, dict[str, np.ndarray]]:
        """The widths that have statistics, and their points.

        Args:
            path: of the file, for messages.
            config: of a network of any width.
            values: arrays by our name.

        Raises:
            UsageError: no width has statistics.
        """
        found = widths(path, values)
        points = np.array([str(Point(width=width)) for width in found])
        return config.replacing(widths=found), {**values, POINTS: points}


def widths(path: str, values: Mapping[str, np.ndarray]) -> tuple[int, ...]:
    """Widths with statistics: those that are not 0 and 1 any more.

    The published calibration sets all of them to 0 and 1 and runs the uniform widths, so that the
    largest network has none afterwards.

    Args:
        path: of the file, for messages.
        values: by our name.

    Raises:
        UsageError: there are none.
    """
    touched = []  # for every normalisation: [rows] bool
    for name, mean in values.items():
        if name.endswith('mean/EMA'):
            variance = values[name.replace('mean/EMA', 'variance/EMA')]
            touched.append(mean.any(axis=1) | (variance != 1).any(axis=1))
    found = []
    for width in range(LARGEST + 1):
        # Stages of two rows are wide in the largest network only.
        of_two = int(width == LARGEST)
        if all(rows[width if len(rows) > 2 else of_two] for rows in touched):
            found.append(width)
    if not found:
        raise UsageError(f'{path}: no width has statistics; give a checkpoint of a trained network')
    return tuple(found)


def _arch(path: str, names: Iterable[str]) -> str:
    """The architecture of which these are names of the layers.

    Raises:
        UsageError: no architecture has so many layers in its stages.
    """
    layers = set()
    for name in names:
        if match := re.match(r'blocks\.(\d+)\.(first_block|residual_blocks\.\d+)\.', name):
            layers.add((int(match[1]), match[2]))
    counter = collections.Counter(stage for stage, _ in sorted(layers))
    counts = tuple(counter.values())
    for arch, form in MOBILENETS.items():
        if tuple(stage.layers for stage in form.stages) == counts:
            return arch
    text = ' '.join(map(str, counts)) or '0'
    raise UsageError(f'{path}: no DS-Net has {text} layers in its stages')


class Place(NamedTuple):
    """Where a published tensor goes.

    Attributes:
        name: of our variable.
        row: of it, if it holds the statistics of all widths.
    """

    name: str
    row: int | None = None


def from_dsnet(name: str) -> Place | None:
    """The place of a published tensor, with or without the ``module.`` of DataParallel.

    None for unused counters.

    Raises:
        ValueError: the name is no part of a DS-Net.

    >>> from_dsnet('blocks.3.residual_blocks.0.bn2.aux_bn.7.running_var')
    Place(name='group3/block1/pointwise/bn/variance/EMA', row=7)
    >>> from_dsnet('module.conv_stem.weight')
    Place(name='conv0/W', row=None)
    """
    name = name.removeprefix('module.')
    if name.endswith('num_batches_tracked'):
        return None
    layer, _, leaf = name.rpartition('.')
    leaves, row = _PLAIN, None
    if private := re.fullmatch(r'(.+)\.aux_bn\.(\d+)', layer):
        layer, leaves = private[1], _AFFINE | _STATISTICS
        row = int(private[2]) if leaf in _STATISTICS else None
    scope = _scope(layer)
    if scope is None or leaf not in leaves:
        raise ValueError(f'{name} is no part of a DS-Net')
    return Place(f'{scope}/{leaves[leaf]}', row)


def _scope(layer: str) -> str | None:
    if layer in _FIXED:
        return _FIXED[layer]
    block = re.fullmatch(_BLOCK, layer)
    if not block or block[3] not in _LAYERS:
        return None
    number = int(block[2]) + 1 if block[2] else 0
    return f'group{block[1]}/block{number}/{_LAYERS[block[3]]}'


def _check_channels(
    published: Tensors, shapes: Mapping[str, Sequence[int]], config: Config
) -> None:
    """Checks that the statistics of every width are of all channels that it has.

    Args:
        published: tensors by published name.
        shapes: of our variables by name.
        config: of the network.

    Raises:
        ValueError: they are of more or fewer.
    """
    net = MobileNetV1(arch=config.arch, classes=2, width=config.width, dropout=0)
    known: dict[tuple[int, int], set[int]] = {}  # channels by row and all channels
    for stage in (net.stem, *net.stages):
        for row, channels in enumerate((*stage.choices, stage.choices[-1])):
            known.setdefault((row, stage.choices[-1]), set()).add(channels)
    for name, value in published.items():
        place = from_dsnet(name)
        if place is None or place.row is None or place.name not in shapes:
            continue
        counts = known.get((place.row, shapes[place.name][-1]), set())
        expected = [(count,) for count in sorted(counts)]
        if value.shape not in expected:
            raise ValueError(
                f'{name}: {place.name}: row {place.row} of {list(value.shape)} does not fit '
                f'{list(shapes[place.name])}, {misfit(value.shape, expected)}'
            )


def assemble(published: Tensors, shapes: Mapping[str, Sequence[int]]) -> dict[str, np.ndarray]:
    """Published tensors by our name and in our layout.

    The published largest network shares the statistics of the widest uniform one in the last
    stages. Here they have a row each, and get the same values. Any other width that is not
    published keeps means of 0 and variances of 1, by which it is known to have no statistics.

    Args:
        published: tensors by published name.
        shapes: shapes of our variables by name; what is not among them (a gate that is not built)
            is left out.

    Raises:
        ValueError: a name or a shape does not fit.
    """
    values, rows, places = {}, [], set()
    for name, value in published.items():
        place = from_dsnet(name)
        if place is None or place.name not in shapes:
            continue
        if place in places:
            raise ValueError(f'{name} and another tensor are both {place.name}')
        places.add(place)
        if place.row is None:
            values[place.name] = converted(name, value, place.name, shapes[place.name])
        else:
            rows.append((place.name, place.row, value))
    there = {(name, row) for name, row, _ in rows}
    for name, table in tables(rows, shapes).items():
        if len(table) > 2 and (name, len(table) - 1) not in there:
            table[-1] = table[-2]
        values[name] = table
    return values


def tables(
    rows: Iterable[tuple[str, int, np.ndarray]], shapes: Mapping[str, Sequence[int]]
) -> dict[str, np.ndarray]:
    """Statistics of all widths by name of their variable, from those of single widths.

    Args:
        rows: (name of the variable, row, the values of the active channels).
        shapes: shapes of the variables.

    Raises:
        ValueError: a row does not fit.
    """
    found: dict[str, np.ndarray] = {}
    for name, row, value in rows:
        if name not in found:
            start = float(name.endswith('variance/EMA'))
            found[name] = np.full(shapes[name], start, 'float32')  # [widths, channels]
        table = found[name]
        if row >= len(table) or value.ndim != 1 or len(value) > table.shape[1]:
            raise ValueError(
                f'{name}: row {row} of {list(value.shape)} does not fit {list(shapes[name])}'
            )
        table[row, : len(value)] = value
    return found
