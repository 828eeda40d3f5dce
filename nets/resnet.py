"""Resolution-switchable ResNets: one set of kernels, private normalisation per input size.

References:
    Resolution Switchable Networks for Runtime Efficient Image Recognition, ECCV 2020, https://arxiv.org/abs/2007.09558;
    architecture, names and padding as its quantization code (TensorFlow).
"""

import re
from collections.abc import Callable, Mapping, Sequence

from nets import losses
from nets.blocks import Blocks, Outputs
from nets.points import Point
from quant.backend import tf

MODES = ('resnet', 'preact', 'preact_typeA')

# Depth -> blocks per group, and whether they are bottlenecks. Three groups: the CIFAR form (3x3 stem, no pool).
_Groups = tuple[tuple[int, ...], bool]
_IMAGENET: dict[int, _Groups] = {18: ((2, 2, 2, 2), False), 34: ((3, 4, 6, 3), False), 50: ((3, 4, 6, 3), True),
                                 101: ((3, 4, 23, 3), True), 152: ((3, 8, 36, 3), True)}
_CIFAR: dict[int, _Groups] = {depth: (((depth - 2) // 6,) * 3, False) for depth in (8, 20, 32, 56, 110)}
DEPTHS = tuple(sorted(_CIFAR | _IMAGENET))


# Published name -> ours, applied in order. The moving-average shadows carry their whole scope twice.
_RENAMES: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r'^(?:.*/)?imagenet/', ''),
    (r'/bn-(preact|last)(\d+)/bn/', lambda m: f'/bn_{m[1]}/s{int(m[2])}/'),
    (r'/bn(\d+)/', lambda m: f'/bn/s{int(m[1])}/'),
    (r'/ActivationQuantization/', '/'),
)


def from_published(name: str) -> str | None:
    """Our name of a variable of the published RS-Nets quantization code; None for what is no part of the model.

    >>> from_published('imagenet/group0/block1/bn-preact096/bn/mean/EMA')
    'group0/block1/bn_preact/s96/mean/EMA'
    """
    if not name.startswith(('imagenet/', 'alpha')):
        return None
    for pattern, ours in _RENAMES:
        name = re.sub(pattern, ours, name)
    return name


class ResNet:
    """ResNet with one operating point per input size.

    Args:
        depth: one of ``DEPTHS``.
        mode: ``resnet`` (post-activation), ``preact`` (projection shortcuts; one quantizer at the end of a group feeds
            both branches of the next) or ``preact_typeA`` (pooled and zero-padded shortcuts).
        sizes: input sizes in pixels.
        classes: number of classes.
        width: multiplier of all channel counts.
        kd: whether an ensemble of the sizes is learned and distilled from.
        kd_type: see ``losses.distillation``.

    Raises:
        ValueError: unknown depth or mode.
    """

    from_published = staticmethod(from_published)

    def __init__(self, *, depth: int, mode: str, sizes: Sequence[int], classes: int, width: float = 1.0,
                 kd: bool = False, kd_type: str = 'ens_topdown'):
        if depth not in DEPTHS:
            raise ValueError(f'depth {depth} is unknown; there are {", ".join(map(str, DEPTHS))}')
        if mode not in MODES:
            raise ValueError(f'mode {mode!r} is unknown; there are {", ".join(MODES)}')
        self.sizes = sorted(sizes, reverse=True)
        self.points = tuple(Point(size=size) for size in self.sizes)
        self.mode, self.classes, self.kd, self.kd_type = mode, classes, kd, kd_type
        self.counts, self.bottleneck = (_CIFAR | _IMAGENET)[depth]
        self.small = depth in _CIFAR
        self.features = [max(1, round(width * (16 if self.small else 64) * 2 ** g)) for g in range(len(self.counts))]

    def outputs(self, views: Mapping[int, tf.Tensor], blocks: Blocks) -> Outputs:
        """Logits of every operating point (and ``extras['ensemble']`` with distillation).

        Args:
            views: normalised float32 images by size, in the data format of ``blocks``.
            blocks: the tower's layer builder.
        """
        logits = {}
        for size, point in zip(self.sizes, self.points):
            with blocks.at(point):
                logits[point] = self._logits(views[size], blocks)
        extras = {}
        if self.kd:
            with tf.variable_scope(tf.get_variable_scope(), reuse=tf.AUTO_REUSE):
                extras['ensemble'] = losses.ensemble(list(logits.values()))
        return Outputs(logits, extras)

    def loss(self, outputs: Outputs, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        """Named scalar terms, whose sum is the training loss without weight decay."""
        parts = {f'loss/{point}': losses.cross_entropy(logits, labels) for point, logits in outputs.logits.items()}
        if self.kd:
            teacher = outputs.extras['ensemble']
            parts['loss/ensemble'] = losses.cross_entropy(teacher, labels)
            parts['loss/distillation'] = losses.distillation(teacher, list(outputs.logits.values()), self.kd_type)
        return parts

    def _logits(self, x: tf.Tensor, b: Blocks) -> tf.Tensor:
        stem = {'kernel': 3} if self.small else {'kernel': 7, 'stride': 2}
        x = b.conv('conv0', x, self.features[0], role='stem', **stem)
        x = b.act('relu0', b.norm('conv0/bn', x), role='stem')
        if not self.small:
            x = b.max_pool(x, 3, 2)
        group = self._group if self.mode == 'resnet' else self._preact_group
        for g, count in enumerate(self.counts):
            with tf.variable_scope(f'group{g}'):
                x = group(b, x, g, count)
        return b.dense('linear', b.global_pool(x), self.classes)

    def _group(self, b: Blocks, x: tf.Tensor, g: int, count: int) -> tf.Tensor:
        """Post-activation group: every block ends in shortcut + branch, then ReLU."""
        for i in range(count):
            stride = 2 if g and not i else 1
            with tf.variable_scope(f'block{i}'):
                branch = self._branch(b, x, g, stride, zero_gamma=True)
                x = b.act('relu_last', branch + self._shortcut(b, x, g, stride))
        return x

    def _preact_group(self, b: Blocks, x: tf.Tensor, g: int, count: int) -> tf.Tensor:
        """Pre-activation group of the quantization code: a branch ends in normalisation, the sum is left as it is.

        In ``preact`` the input of groups 1-3 comes quantized from the group before, and the shortcut takes it too;
        elsewhere the first block quantizes for its branch only.
        """
        for i in range(count):
            stride = 2 if g and not i else 1
            with tf.variable_scope(f'block{i}'):
                if i:
                    branch = b.act('quant1', b.norm('bn_preact', x))
                elif g and self.mode == 'preact':
                    branch = x
                else:
                    branch = b.act('quant1', x, relu=False)
                x = self._branch(b, branch, g, stride) + self._shortcut(b, x, g, stride)
        feeds_head = g == len(self.counts) - 1
        feeds_group = self.mode == 'preact' and not feeds_head
        return b.act('quant_last', b.norm('bn_last', x), role='body' if feeds_group else 'head')

    def _branch(self, b: Blocks, x: tf.Tensor, g: int, stride: int, *, zero_gamma: bool = False) -> tf.Tensor:
        """Two 3x3 convolutions, or 1x1, 3x3 with the stride, 1x1; each normalised, all but the last activated."""
        channels = self.features[g]
        layers = [(channels, 1, 1), (channels, 3, stride), (4 * channels, 1, 1)] if self.bottleneck else [
            (channels, 3, stride), (channels, 3, 1)]
        for n, (out, kernel, step) in enumerate(layers, 1):
            last = n == len(layers)
            x = b.norm(f'conv{n}/bn', b.conv(f'conv{n}', x, out, kernel, stride=step), zero_gamma=zero_gamma and last)
            if not last:
                x = b.act(f'quant{n + 1}', x)
        return x

    def _shortcut(self, b: Blocks, x: tf.Tensor, g: int, stride: int) -> tf.Tensor:
        channels = self.features[g] * (4 if self.bottleneck else 1)
        if b.channels(x) == channels and stride == 1:
            return x
        if self.mode == 'preact_typeA':
            return b.pad_channels(b.avg_pool(x, stride) if stride > 1 else x, channels)
        y = b.conv('convshortcut', x, channels, 1, stride=stride, role='shortcut')
        return b.norm('convshortcut/bn', y)
