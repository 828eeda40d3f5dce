"""Multiply-adds of the RS-Nets and SAN models, counted from the layer records of our networks."""

import re
from typing import Any

from nets import cost
from nets.blocks import Blocks
from nets.points import Point
from nets.resnet import ResNet
from quant import Policy
from quant.backend import tf
from tests.parity.fixtures import Check, Fixture, Result


class _Bare(Blocks):
    """Leaves out what is not counted, of which nine sizes of a deep network have thousands."""

    def norm(self, name: str, x: tf.Tensor, *, zero_gamma: bool = False) -> tf.Tensor:
        return x

    def act(self, name: str, x: tf.Tensor, *, role: str = 'body', relu: bool = True, lower: float = 0.0) -> tf.Tensor:
        return x


def rs_san(fixture: Fixture) -> Result:
    """Every listed size of every model that is built; the counts are integers and must be equal."""
    result = Result(fixture.name, 'each count')
    waiting, sizes = [], 0
    for name, model in fixture.data['models'].items():
        resnet = re.fullmatch(r'parallel_resnet(\d+)', name)
        if resnet is None:
            waiting.append(name)
            continue
        sizes += len(model['madds'])
        result.checks += _counts(name, int(resnet[1]), model)
    result.remark = f'{sizes} sizes' + (f'; not built yet: {len(waiting)} models' if waiting else '')
    return result


def _counts(name: str, depth: int, model: dict[str, Any]) -> list[Check]:
    """Comparisons of one network at all its sizes, and of its shared weights."""
    classes = 1000
    sizes = [int(size) for size in model['madds']]
    with tf.Graph().as_default():
        net = ResNet(depth=depth, mode='resnet', sizes=sizes, classes=classes)
        blocks = _Bare(Policy(), net.points, training=False)
        net.outputs({size: tf.placeholder(tf.float32, [1, size, size, 3]) for size in sizes}, blocks)
    checks = []
    for size, counts in model['madds'].items():
        layers = blocks.layers[str(Point(size=int(size)))]
        parts = {'conv': cost.madds(layer for layer in layers if layer.role != 'head'),
                 'fc': cost.madds(layer for layer in layers if layer.role == 'head'), 'total': cost.madds(layers)}
        checks += [_equal(f'{name} {size} {part}', ours, counts[part]) for part, ours in parts.items()]
    weights = sum(layer.weights + layer.bias for layer in layers)
    return [*checks, _equal(f'{name} weights', weights, model['params']['shared_conv_fc'])]


def _equal(what: str, ours: int, theirs: int) -> Check:
    return Check(f'{what} is {ours}, published {theirs}', abs(ours - theirs) / theirs, 0.0)
