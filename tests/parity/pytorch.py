"""Networks of the PyTorch codes of RS-Nets, SAN and ConvNet-AIG in the default graph.

Filled from a fixture.
"""

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import nets
from engine.importers.names import convert, from_pytorch
from nets.layers.blocks import Blocks
from nets.layers.kernels import generate
from nets.outputs import Outputs
from nets.points import Point
from quant import Policy
from quant.backend import tf
from tests.parity import graphs
from tests.parity.fixtures import Fixture, draw, fill

_NETS = {'parallel': 'rsnet', 'meta': 'san'}

# Such as ResNet110_cifar(nclass=10).
_AIG = r'ResNet(\d+)_\w+\(.*\)'


class Watched(Blocks):
    """Keeps the pooled features, by spelling of the operating point."""

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.pooled: dict[str, tf.Tensor] = {}

    def global_pool(self, x: tf.Tensor) -> tf.Tensor:
        self.pooled[str(self._point)] = super().global_pool(x)
        return self.pooled[str(self._point)]


@dataclasses.dataclass(frozen=True)
class Tower:
    """One tower of a published network.

    Attributes:
        net: The network.
        blocks: Its layer builder.
        images: Placeholder [N, size, size, 3] by size; N is free.
        outputs: What the network computes.
    """

    net: Any
    blocks: Watched
    images: dict[int, tf.Tensor]
    outputs: Outputs

    def feed(self, inputs: Mapping[int, np.ndarray]) -> dict[tf.Tensor, np.ndarray]:
        return {self.images[size]: value for size, value in inputs.items()}


def described(model: Mapping[str, Any]) -> tuple[str, str]:
    """Names of our network and of our architecture for a published one.

    ``meta_resnet18`` is a SAN of ``resnet18``.
    """
    if constructor := re.fullmatch(_AIG, model.get('constructor', '')):
        return 'aig', f'resnet{constructor[1]}'
    arch = model['arch']
    kind, _, ours = arch.partition('_')
    if kind not in _NETS:
        raise ValueError(f'{arch} is neither {" nor ".join(f"{start}_..." for start in _NETS)}')
    return _NETS[kind], ours


def network(
    model: Mapping[str, Any],
    sizes: Sequence[int],
    encodings: Sequence[float] | None,
    **options: Any,
) -> Any:
    """Our network of a published one.

    Args:
        model: ``model`` of a fixture.
        sizes: input sizes by published position, in any order.
        encodings: of a SAN, by position; by default those that follow from the sizes.
        **options: further options of the network.
    """
    name, arch = described(model)
    net = nets.create(
        name, arch=arch, mode='pytorch', sizes=sizes, classes=model['num_classes'], **options
    )
    net.sizes, net.points = list(sizes), tuple(Point(size=size) for size in sizes)
    if encodings is not None and not np.allclose(
        encodings, [net.encodings[size] for size in sizes], atol=1e-6
    ):
        net.encodings = dict(zip(sizes, encodings))
    return net


def build(net: Any, *, training: bool) -> Tower:
    """Builds a network of ours on placeholders."""
    blocks = Watched(Policy(), net.points, training=training, padding=net.padding)
    images = {size: tf.placeholder(tf.float32, [None, size, size, 3]) for size in net.sizes}
    return Tower(net, blocks, images, net.outputs(images, blocks))


# Threads of one operation. They decide in which order a sum is taken, and where a rectified value
# is zero but for rounding the order decides whether it has a gradient: with one thread some of
# those of msd_cifar_train differ by .0014 of their deviation.
THREADS = 2


def session() -> tf.Session:
    """A session for few runs: rewriting the graph would take longer than they do."""
    # Otherwise the first session of a process settles the threads of all.
    os.environ['TF_OVERRIDE_GLOBAL_THREADPOOL'] = '1'
    config = tf.ConfigProto(intra_op_parallelism_threads=THREADS)
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    return tf.Session(config=config)


def inputs(specs: Sequence[Mapping[str, Any]]) -> dict[int, np.ndarray]:
    """Images by size, channels last."""
    return {spec['size']: draw(spec).transpose(0, 2, 3, 1) for spec in specs}


def names(
    published: Sequence[str], model: Mapping[str, Any], sizes: Sequence[int]
) -> dict[str, str | None]:
    """Our name of each published tensor; None for what no network uses.

    Raises:
        ValueError: two tensors have one name.
    """
    kind, arch = described(model)
    ours = {name: from_pytorch(name, arch=arch, kind=kind, sizes=sizes) for name in published}
    used = [name for name in ours.values() if name]
    if len(set(used)) < len(used):
        raise ValueError(
            f'several tensors map to {next(name for name in used if used.count(name) > 1)}'
        )
    return ours


def published_values(
    fixture: Fixture, sizes: Sequence[int], prefix: str = ''
) -> dict[str, np.ndarray]:
    """Filled tensors of a fixture by our name and in the layout of the default graph's variables.

    Args:
        fixture: whose tensors are filled.
        sizes: sizes by position, to whose normalisations the published ones of that position
            belong.
        prefix: before the published name when it fills: ``dot:`` for the directions on which
            gradients are projected, which are standard normal.
    """
    shapes = {variable.op.name: variable.shape.as_list() for variable in tf.global_variables()}
    rows = {row['name']: row for row in fixture.tensors()}
    change = {'dist': 'normal', 'a': 0, 'b': 1} if prefix else {}
    values = {}
    for name, ours in names(list(rows), fixture.data['model'], sizes).items():
        if ours is not None:
            value = fill({**rows[name], **change, 'name': prefix + name})
            values[ours] = convert(value, ours, shapes.get(ours, value.shape))
    return values


def restore(session: tf.Session, values: Mapping[str, np.ndarray]) -> None:
    """Gives every variable its value and computes the generated kernels from them.

    See ``graphs.restore``.
    """
    graphs.restore(session, values)
    session.run(generate())
