"""MSDNet: logits of every exit, operations as published and with lazy evaluation, parameters."""

import collections
import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

import nets
from engine.importers.names import convert, from_pytorch
from nets import cost
from nets.cost import LayerRecord
from nets.msdnet import MSDNet
from nets.msdnet_plan import counted, operations
from nets.points import Point
from quant import Policy
from quant.backend import tf
from tests.parity import pytorch
from tests.parity.fixtures import Check, Fixture, Result, compare, draw, fill, load
from tests.parity.madds import Bare, equal

# Of the standard deviation of the logits.
CONTINUOUS = 1e-4

# Networks of ``msd_lazy`` without a fixture of their own: the one that they differ from, and how.
_CIFAR = {
    'nChannels': 16,
    'growthRate': 6,
    'grFactor': [1, 2, 4],
    'bnFactor': [1, 2, 4],
    'prune': 'max',
    'reduction': 0.5,
    'bottleneck': True,
    'data': 'cifar10',
}
_IMAGENET = {
    **_CIFAR,
    'nChannels': 32,
    'growthRate': 16,
    'grFactor': [1, 2, 4, 4],
    'bnFactor': [1, 2, 4, 4],
    'data': 'ImageNet',
    'nBlocks': 5,
    'stepmode': 'even',
}
RECIPES = {
    'msd_cifar100_anytime7': {
        **_CIFAR,
        'data': 'cifar100',
        'nBlocks': 7,
        'stepmode': 'even',
        'step': 2,
        'base': 4,
    },
    'msd_cifar_lingrow2': {
        **_CIFAR,
        'nBlocks': 3,
        'stepmode': 'lin_grow',
        'step': 2,
        'base': 1,
        'reduction': 0.6,
    },
    'msd_cifar_min_noreduction': {
        **_CIFAR,
        'nBlocks': 4,
        'stepmode': 'even',
        'step': 2,
        'base': 4,
        'prune': 'min',
        'reduction': 0.0,
    },
    'msd_imagenet_step6': {**_IMAGENET, 'step': 6, 'base': 6},
    'msd_imagenet_step7': {**_IMAGENET, 'step': 7, 'base': 7},
}
CLASSES = {'cifar10': 10, 'cifar100': 100, 'ImageNet': 1000}


class Counting(Bare):
    """Keeps the records of all layers, of those that no exit needs too, under the empty spelling.

    Attributes:
        normalised: channels of all normalisations of a size, by its spelling.
    """

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.layers[''] = []
        self.normalised = collections.Counter()

    @contextlib.contextmanager
    def at(self, point: Point, *, serves: Sequence[Point] | None = None) -> Iterator[None]:
        with super().at(point, serves=[*(serves or ()), Point()]):
            yield


def network(model: Mapping[str, Any], size: int, **options: Any) -> MSDNet:
    """Our network of ``model`` of a fixture."""
    given = {
        key: model[key]
        for key in (
            'nBlocks',
            'stepmode',
            'step',
            'base',
            'nChannels',
            'growthRate',
            'grFactor',
            'bnFactor',
            'prune',
            'bottleneck',
            'reduction',
        )
    }
    return nets.create(
        'msdnet',
        arch='msdnet',
        mode='pytorch',
        sizes=[size],
        classes=CLASSES[model['data']],
        stem_bias=model['data'] == 'ImageNet',
        **given,
        **options,
    )


def values(fixture: Fixture, size: int) -> dict[str, np.ndarray]:
    """Filled tensors of a fixture by our name, in the layout of the default graph's variables."""
    shapes = {variable.op.name: variable.shape.as_list() for variable in tf.global_variables()}
    found = {}
    for row in fixture.tensors():
        ours = our_name(row['name'], size)
        found[ours] = convert(fill(row), ours, shapes.get(ours, row['shape']))
    return found


def our_name(name: str, size: int) -> str:
    return from_pytorch(name, arch='msdnet', kind='msdnet', sizes=[size]) or ''


def forward(fixture: Fixture) -> Result:
    """Logits of every exit at inference, operations and parameters."""
    result = Result(fixture.name, 'the std of each tensor')
    images = draw(fixture.data['inputs'][0]).transpose(0, 2, 3, 1)
    net = network(fixture.data['model'], images.shape[1])
    with tf.Graph().as_default(), pytorch.session() as session:
        tower = pytorch.build(net, training=False)
        pytorch.restore(session, values(fixture, images.shape[1]))
        logits = session.run(tower.outputs.logits, tower.feed({images.shape[1]: images}))
    result.checks = [
        compare(
            f'logits_{k}',
            logits[point],
            fixture.arrays[f'logits_{k}'],
            CONTINUOUS,
            scale=float(fixture.arrays[f'logits_{k}'].std()),
        )
        for k, point in exits(net)
    ]
    result.checks += _counts(
        fixture.name,
        net,
        {
            'counter': fixture.data['madds_cumulative'],
            'parameters_total': fixture.data['parameters_total'],
        },
    )
    result.remark = f'{net.exits} exits, their operations and parameters'
    return result


def lazy(fixture: Fixture) -> Result:
    """All three counts of every exit, and the part of heads: integers that must be equal."""
    result, models = Result(fixture.name, 'each count'), fixture.data['models']
    for name, published in models.items():
        model = (
            RECIPES[name]
            if name in RECIPES
            else load(fixture.path.parent / f'{name}.json').data['model']
        )
        result.checks += _counts(
            name, network(model, 224 if model['data'] == 'ImageNet' else 32), published
        )
    result.remark = f'{len(models)} networks, {len(result.checks)} counts'
    return result


def exits(net: MSDNet) -> list[tuple[int, Point]]:
    """Exits by their published number."""
    return [(k, Point(size=net.sizes[0], exit=k - 1)) for k in range(1, net.exits + 1)]


def _counts(name: str, net: MSDNet, published: Mapping[str, Any]) -> list[Check]:
    """One network's counts by published key.

    Published numbers are lists over the exits, or single.
    """
    with tf.Graph().as_default():
        blocks = Counting(Policy(), net.points, training=False, padding=net.padding)
        net.outputs({size: tf.zeros([1, size, size, 3]) for size in net.sizes}, blocks)
        kernels = sum(math.prod(variable.shape.as_list()) for variable in tf.trainable_variables())
    every, points = blocks.layers[''], [str(point) for _, point in exits(net)]
    heads = [
        [layer for layer in every if layer.name.startswith(f'head{k}/')] for k in range(net.exits)
    ]
    affine = 2 * blocks.normalised[f's{net.sizes[0]}']
    ours = {
        'counter': [counted(every, k) for k in range(net.exits)],
        'lazy_incremental': [_sum(cost.cumulative(blocks.layers, point)) for point in points],
        'single_exit_only': [_sum(blocks.layers[point]) for point in points],
        'head_params': [
            sum(
                layer.weights + layer.bias + 2 * layer.kernel[3] * ('conv' in layer.name)
                for layer in head
            )
            for head in heads
        ],
        'head_madds': [_sum(head) for head in heads],
        'parameters_total': [kernels + affine],
    }
    return [
        equal(f'{name} {key} {i}', value, int(number))
        for key, numbers in published.items()
        for i, (value, number) in enumerate(zip(ours[key], np.atleast_1d(numbers), strict=True), 1)
    ]


def _sum(layers: list[LayerRecord]) -> int:
    return sum(operations(layer) for layer in layers)
