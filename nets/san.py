"""Scale Adaptive Network (SAN): one network for several input sizes.

Kernels that are generated from the input size, private normalisation per size.

Reference: Learning to Learn Parameterized Classification Networks for Scalable Input Images, ECCV
2020, https://arxiv.org/abs/2007.06181. The published code takes the encoding from the position in
its list of sizes; here it follows from the size. Projection weights that the published networks
store and never use are not built.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from nets import backbone, losses
from nets.layers.blocks import Blocks
from nets.layers.kernels import MetaConv
from nets.network import Network
from nets.outputs import Outputs
from quant.backend import tf
from quant.options import check, option

STARTS = ('published', 'scaled')


def scaled_start(fan_out: int) -> tuple[Any, Any]:
    """Initializers of slope and offset: a kernel of variance 2 / fan_out at encoding 0.5."""
    deviation = math.sqrt(2 / fan_out / (1 + 0.5**2))
    slope = tf.random_normal_initializer(stddev=deviation)
    offset = tf.random_normal_initializer(stddev=deviation)
    return slope, offset


@dataclasses.dataclass(frozen=True)
class SANOptions:
    """Options of a scale adaptive network. Defaults are those of its paper and published code."""

    encoding: float = option(320.0, 'a size is encoded as size / PIXELS', above=0, metavar='PIXELS')
    init: str = option(
        'published',
        'initial values of the meta layers: as published, whose kernels have a scale that only '
        'normalisation makes trainable, or with the variance of ordinary kernels',
        choices=STARTS,
    )
    kd: bool = option(False, 'every larger size teaches every smaller one')
    kd_type: str = option('topdown', 'what is distilled', choices=('topdown',))


class SAN(Network):
    """A backbone whose kernels are generated, with one operating point per input size.

    Args:
        arch: architecture of the backbone, see ``nets.backbone``.
        mode: ``pytorch``.
        sizes: input sizes in pixels.
        classes: number of classes.
        width: factor on all channel counts.
        options: of this kind of network; None for the defaults.

    Raises:
        ValueError: the backbone or the mode is unknown, or an option is out of its range.
    """

    Options = SANOptions

    def __init__(
        self,
        *,
        arch: str,
        mode: str,
        sizes: Sequence[int],
        classes: int,
        width: float = 1.0,
        options: SANOptions | None = None,
    ):
        options = options or SANOptions()
        check(options)
        if mode != 'pytorch':
            raise ValueError(f'mode {mode!r} is unknown to san; there is pytorch')
        self.backbone = backbone(arch)(arch=arch, mode=mode, classes=classes, width=width)
        super().__init__(sizes, self.backbone.padding)
        self.encodings = {size: size / options.encoding for size in self.sizes}
        self.start = self.backbone.published_start
        if options.init == 'scaled':
            self.start = scaled_start
        self.kd = options.kd

    def encoded_as(self, sizes: Mapping[int, int]) -> SAN:
        """The network with the encoding of another size for each in ``sizes``: proxy inference."""
        other = copy.copy(self)
        ratio = {size: code / size for size, code in self.encodings.items()}
        other.encodings = {size: sizes.get(size, size) * ratio[size] for size in self.sizes}
        return other

    def outputs(self, views: Mapping[int, tf.Tensor], blocks: Blocks) -> Outputs:
        """Logits of every operating point, see ``RSNet.outputs``."""
        logits = {}
        for size, point in zip(self.sizes, self.points):
            with blocks.at(point):
                meta = MetaConv(self.encodings[size], self.start)
                logits[point] = self.backbone.logits(views[size], blocks, meta)
        return Outputs(logits)

    def loss(self, outputs: Outputs, labels: losses.Labels) -> dict[str, tf.Tensor]:
        """Named scalar terms.

        A cross entropy per size and, with distillation, the sum of all divergences.
        """
        parts = self.cross_entropies(outputs, labels)
        if self.kd and len(self.points) > 1:
            weights = losses.weights_of(labels)
            parts['loss/distillation'] = losses.topdown(list(outputs.logits.values()), weights)
        return parts
