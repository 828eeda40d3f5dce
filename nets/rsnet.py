"""Resolution-switchable networks (RS-Net): one set of kernels for several input sizes.

Normalisation is private to each size.

Reference: Resolution Switchable Networks for Runtime Efficient Image Recognition, ECCV 2020,
https://arxiv.org/abs/2007.09558, and its two published codes (quantized in TensorFlow, float in
PyTorch).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from nets import backbone, losses
from nets.layers.blocks import Blocks
from nets.network import Network
from nets.outputs import Outputs
from quant.backend import tf
from quant.options import check, option

KD_TYPES = ('ens_topdown', 'ens', 'none')


@dataclasses.dataclass(frozen=True)
class RSNetOptions:
    """Options of a resolution-switchable network.

    Defaults are those of the published quantization code.
    """

    kd: bool = option(False, 'learn an ensemble of the sizes, or distil larger sizes into smaller')
    kd_type: str = option(
        'ens_topdown',
        'what is distilled: the ensemble and larger sizes into each size, the ensemble alone, or '
        'nothing beside learning the ensemble',
        choices=KD_TYPES,
    )


class RSNet(Network):
    """A backbone with one operating point per input size.

    Args:
        arch: architecture of the backbone, see ``nets.backbone``.
        mode: form of its blocks.
        sizes: input sizes in pixels.
        classes: number of classes.
        width: factor on all channel counts.
        options: of this kind of network; None for the defaults.

    Raises:
        ValueError: the backbone is unknown, or an option is out of its range.
    """

    Options = RSNetOptions

    def __init__(
        self,
        *,
        arch: str,
        mode: str,
        sizes: Sequence[int],
        classes: int,
        width: float = 1.0,
        options: RSNetOptions | None = None,
    ):
        options = options or RSNetOptions()
        check(options)
        self.backbone = backbone(arch)(arch=arch, mode=mode, classes=classes, width=width)
        super().__init__(sizes, self.backbone.padding)
        self.kd = options.kd
        self.kd_type = options.kd_type
        self.distance = losses.divergence if mode == 'pytorch' else losses.soft_cross_entropy

    def outputs(self, views: Mapping[int, tf.Tensor], blocks: Blocks) -> Outputs:
        """Logits of every operating point (and ``extras['ensemble']`` with distillation).

        Args:
            views: float32 images by size, in the data format of ``blocks``.
            blocks: the tower's layer builder.
        """
        logits = {}
        for size, point in zip(self.sizes, self.points):
            with blocks.at(point):
                logits[point] = self.backbone.logits(views[size], blocks)
        extras = {}
        if self.kd:
            with tf.variable_scope(tf.get_variable_scope(), reuse=tf.AUTO_REUSE):
                extras['ensemble'] = losses.ensemble(list(logits.values()))
        return Outputs(logits, extras)

    def loss(self, outputs: Outputs, labels: losses.Labels) -> dict[str, tf.Tensor]:
        """Named scalar terms, whose sum is the training loss without weight decay."""
        parts = self.cross_entropies(outputs, labels)
        weights = losses.weights_of(labels)
        if self.kd:
            teacher = outputs.extras['ensemble']
            by_labels = losses.cross_entropy(teacher, labels)
            parts['loss/ensemble'] = outputs.teaching.joined(by_labels, teacher, weights)
        if self.kd and self.kd_type != 'none':
            parts['loss/distillation'] = losses.distillation(
                teacher, list(outputs.logits.values()), self.kd_type, self.distance, weights
            )
        return parts
