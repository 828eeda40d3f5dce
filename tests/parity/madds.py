"""Multiply-adds and parameters of the RS-Nets and SAN models.

They are counted from what building our networks leaves behind.
"""

import math
from collections.abc import Sequence
from typing import Any

from nets import cost
from nets.layers.blocks import Blocks
from nets.points import Point
from quant import Policy
from quant.backend import tf
from tests.parity import pytorch
from tests.parity.fixtures import Check, Fixture, Result

CLASSES = 1000


class Bare(Blocks):
    """Leaves out what is not counted, of which nine sizes of a deep network have thousands.

    Attributes:
        normalised: channels of all normalisations of a point, by its spelling.
    """

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.normalised = dict.fromkeys(self.layers, 0)

    def norm(self, name: str, x: tf.Tensor, **_: Any) -> tf.Tensor:
        self.normalised[str(self._point)] += self.channels(x)
        return x

    def act(self, name: str, x: tf.Tensor, **_: Any) -> tf.Tensor:
        return x


def rs_san(fixture: Fixture) -> Result:
    """Every listed size of every model; the counts are integers and must be equal."""
    result, models = Result(fixture.name, 'each count'), fixture.data['models']
    for name, model in models.items():
        result.checks += _counts(name, model)
    sizes = sum(len(model['madds']) for model in models.values())
    result.remark = f'{len(models)} models, {sizes} sizes, {len(result.checks)} counts'
    return result


def _counts(name: str, model: dict[str, Any]) -> list[Check]:
    """Comparisons of one network at all its sizes, and of its parameters."""
    sizes = [int(size) for size in model['madds']]
    with tf.Graph().as_default():
        net = pytorch.network({'arch': name, 'num_classes': CLASSES}, sizes, None)
        # A training tower: one for inference would keep the generated kernels of every size.
        blocks = Bare(Policy(), net.points, training=True, padding=net.padding)
        net.outputs(
            {size: tf.placeholder(tf.float32, [1, size, size, 3]) for size in sizes}, blocks
        )
        shared = sum(math.prod(variable.shape.as_list()) for variable in tf.trainable_variables())
    checks = [
        equal(
            f'{name} {size} {part}', _parts(blocks.layers[str(Point(size=int(size)))])[part], count
        )
        for size, counts in model['madds'].items()
        for part, count in counts.items()
    ]
    ours = _parameters(shared, 2 * next(iter(blocks.normalised.values())), model['params'])
    return checks + [
        equal(f'{name} {part}', count, model['params'][part]) for part, count in ours.items()
    ]


def _parts(layers: list[cost.LayerRecord]) -> dict[str, int]:
    """Multiply-adds by published name."""
    generated = [layer.weights for layer in layers if layer.generated]
    return {
        'conv': cost.madds(layer for layer in layers if layer.role != 'head'),
        'fc': cost.madds(layer for layer in layers if layer.role == 'head'),
        'total': cost.madds(layers),
        'dwconv_part': cost.madds(layer for layer in layers if layer.role == 'depthwise'),
        'weight_generation_per_switch': sum(generated),
    }


def _parameters(shared: int, affine: int, published: dict[str, int]) -> dict[str, int]:
    """Parameters by published name; those that SAN stores and never uses count as published."""
    total = shared + 5 * affine + published['unused_downsample']
    return {
        'shared_conv_fc': shared,
        'private_bn_affine_per_path': affine,
        'private_bn_affine_5': 5 * affine,
        'total_5_paths': total,
    }


def of_dsnet(layers: Sequence[cost.LayerRecord]) -> int:
    """Multiply-adds of one image as DS-Net counts them: average pools, too, one per input value.

    Every depthwise convolution is followed by the pool of a squeeze-excite, the last convolution by
    the global one.
    """
    pooled = [layer for layer in layers if layer.role == 'depthwise'] + [layers[-2]]
    values = [layer.kernel[3] * math.prod(layer.out) for layer in pooled]
    return cost.madds(layers) + sum(values)


def equal(what: str, ours: float, theirs: float) -> Check:
    return Check(f'{what} is {ours}, published {theirs}', abs(ours - theirs) / max(theirs, 1), 0.0)
