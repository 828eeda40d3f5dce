"""ResNets and ResNeXts of all published forms, by one builder.

The mode of the builder says order of layers, padding and initial values.

References:
    Deep Residual Learning for Image Recognition, https://arxiv.org/abs/1512.03385;
    Aggregated Residual Transformations for Deep Neural Networks, https://arxiv.org/abs/1611.05431.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from nets.layers.blocks import Blocks
from nets.layers.gating import Body
from nets.layers.kernels import MetaConv
from quant.backend import tf
from quant.spelling import unknown

MODES = ('resnet', 'preact', 'preact_typeA', 'pytorch')


class Form(NamedTuple):
    """Layout of an architecture.

    Attributes:
        blocks: residual blocks per group.
        bottleneck: whether a branch is 1x1, 3x3, 1x1.
        small: the CIFAR form: 3x3 stem of 16 channels, no pool, three groups.
        groups: of the 3x3 convolutions.
        base: channels of one of their groups, out of 64.
    """

    blocks: tuple[int, ...]
    bottleneck: bool = False
    small: bool = False
    groups: int = 1
    base: int = 64


FORMS = {
    'resnet18': Form((2, 2, 2, 2)),
    'resnet34': Form((3, 4, 6, 3)),
    'resnet50': Form((3, 4, 6, 3), True),
    'resnet101': Form((3, 4, 23, 3), True),
    'resnet152': Form((3, 8, 36, 3), True),
    'resnext50_32x4d': Form((3, 4, 6, 3), True, groups=32, base=4),
    'resnext101_32x8d': Form((3, 4, 23, 3), True, groups=32, base=8),
}
for _depth in (8, 20, 32, 56, 110):
    FORMS[f'resnet{_depth}'] = Form(((_depth - 2) // 6,) * 3, small=True)


def _order(arch: str) -> tuple[bool, int]:
    """ResNets before ResNeXts, by their depth."""
    return 'x' in arch, int(re.findall(r'\d+', arch)[0])


ARCHS = tuple(sorted(FORMS, key=_order))

# (b, block input, the same quantized, body, shortcut) -> block output.
Execute: TypeAlias = 'Callable[[Blocks, tf.Tensor, tf.Tensor, Body, tf.Tensor], tf.Tensor]'


def plain(b: Blocks, x: tf.Tensor, q: tf.Tensor, body: Body, shortcut: tf.Tensor) -> tf.Tensor:
    """The output of a residual block: the sum of body(q) and shortcut, activated.

    Args:
        b: the tower's layer builder.
        x: input of the block.
        q: the same as the convolutions take it.
        body: the layers of the block.
        shortcut: ``x`` in the shape of the output.
    """
    return b.rectified('sum', body(q) + shortcut)


class ResNet:
    """Everything from the stem to the logits, for one input.

    Args:
        arch: one of ``ARCHS``.
        mode: ``resnet`` (post-activation) and ``preact`` (projection shortcuts; one quantizer at
            the end of a group feeds both branches of the next) and ``preact_typeA`` (pooled and
            zero-padded shortcuts) as the RS-Nets quantization code (TensorFlow); ``pytorch``
            (post-activation, symmetric padding, PyTorch's initial values) as its float code and
            SAN's.
        classes: number of classes.
        width: multiplier of all channel counts.

    Attributes:
        padding: padding rule of the mode, see ``Blocks``.

    Raises:
        ValueError: unknown architecture or mode, or a mode that is not defined for the
            architecture.
    """

    def __init__(self, *, arch: str, mode: str, classes: int, width: float = 1.0):
        if arch not in FORMS:
            raise ValueError(f'arch {arch!r} is {unknown(arch, ARCHS)}')
        if mode not in MODES:
            raise ValueError(f'mode {mode!r} is {unknown(mode, MODES)}')
        self.form = FORMS[arch]
        self.mode = mode
        self.classes = classes
        if self.form.groups > 1 and (mode != 'pytorch' or width != 1):
            raise ValueError(f'{arch} is defined in mode pytorch and at width 1 only')
        self.padding = 'symmetric' if mode == 'pytorch' else 'same'
        first = 16 if self.form.small else 64
        self.features = []  # channels of every group
        for g in range(len(self.form.blocks)):
            channels = width * first * 2**g
            self.features.append(max(1, round(channels)))

    def logits(
        self, x: tf.Tensor, b: Blocks, meta: MetaConv | None = None, execute: Execute = plain
    ) -> tf.Tensor:
        """Logits [N, classes].

        Args:
            x: float32 images.
            b: the tower's layer builder.
            meta: generates the kernels of all residual blocks.
            execute: makes the sum of a post-activation block, see ``plain``.
        """
        kernel, stride = (3, 1) if self.form.small else (7, 2)
        x = b.conv('conv0', b.image(x), self.features[0], kernel, stride=stride, role='stem')
        x = b.act('relu0', b.norm('conv0/bn', x), role='stem')
        if not self.form.small:
            x = b.max_pool(x, 3, 2)
        x = b.end(x)
        for g, count in enumerate(self.form.blocks):
            with tf.variable_scope(f'group{g}'), b.generated(meta):
                if self.mode.startswith('preact'):
                    x = self._preact_group(b, x, g, count)
                else:
                    x = self._group(execute, b, x, g, count)
        return b.dense('linear', b.global_pool(x), self.classes, **self._dense_start(x, b))

    def published_start(self, fan_out: int) -> tuple[Any, Any]:
        """Initializers of slope and offset as SAN has them: PyTorch's for one input."""
        return tf.random_uniform_initializer(-1, 1), tf.random_uniform_initializer(-1, 1)

    def _dense_start(self, x: tf.Tensor, b: Blocks) -> dict[str, Any]:
        """Initializers of the classifier, where they are not those of all layers."""
        if self.mode != 'pytorch':
            return {}
        bound = 1 / math.sqrt(b.channels(x))
        start = tf.random_uniform_initializer(-bound, bound)
        return {'start': start, 'bias_start': start}

    def _group(self, execute: Execute, b: Blocks, x: tf.Tensor, g: int, count: int) -> tf.Tensor:
        """Post-activation group: every block ends in shortcut + branch, then ReLU.

        An identity is never quantized.
        """
        for i in range(count):
            stride = 2 if g and not i else 1
            with tf.variable_scope(f'block{i}'):
                q = b.act('quant1', x, function='none')
                zero_gamma = self.mode == 'resnet'
                body = functools.partial(self._branch, b, g=g, stride=stride, zero_gamma=zero_gamma)
                shortcut = self._shortcut(b, q, g, stride)
                x = b.end(execute(b, x, q, body, x if shortcut is q else shortcut))
        return x

    def _preact_group(self, b: Blocks, x: tf.Tensor, g: int, count: int) -> tf.Tensor:
        """Pre-activation group of the quantization code.

        A branch ends in normalisation, the sum is left as it is. In ``preact`` the input of groups
        1-3 comes quantized from the group before, and the shortcut takes it too; elsewhere the
        first block quantizes for its branch only.
        """
        for i in range(count):
            stride = 2 if g and not i else 1
            with tf.variable_scope(f'block{i}'):
                if i:
                    branch = b.act('quant1', b.norm('bn_preact', x))
                elif g and self.mode == 'preact':
                    branch = x
                else:
                    branch = b.act('quant1', x, function='none')
                y = self._branch(b, branch, g=g, stride=stride)
                x = b.end(y + self._shortcut(b, x, g, stride))
        x = b.norm('bn_last', x)
        feeds_head = g == len(self.form.blocks) - 1
        if self.mode != 'preact' or feeds_head:
            return tf.nn.relu(x)
        return b.act('quant_last', x)

    def _branch(
        self, b: Blocks, x: tf.Tensor, *, g: int, stride: int, zero_gamma: bool = False
    ) -> tf.Tensor:
        """Two 3x3 convolutions, or 1x1, 3x3 with the stride, 1x1.

        Each is normalised, all but the last are activated.
        """
        channels, form = self.features[g], self.form
        layers = [(channels, 3, stride, 1), (channels, 3, 1, 1)]
        if form.bottleneck:
            middle = channels * form.base // 64 * form.groups
            layers = [(middle, 1, 1, 1), (middle, 3, stride, form.groups), (4 * channels, 1, 1, 1)]
        for n, (out, kernel, step, groups) in enumerate(layers, 1):
            last = n == len(layers)
            x = b.conv(f'conv{n}', x, out, kernel, stride=step, groups=groups)
            x = b.norm(f'conv{n}/bn', x, zero_gamma=zero_gamma and last)
            if not last:
                x = b.act(f'quant{n + 1}', x)
        return x

    def _shortcut(self, b: Blocks, x: tf.Tensor, g: int, stride: int) -> tf.Tensor:
        """``x``, itself or brought to the shape of the branch that it is added to."""
        channels = self.features[g]
        if self.form.bottleneck:
            channels *= 4
        if b.channels(x) == channels and stride == 1:
            return x
        if self.mode == 'preact_typeA':
            if stride > 1:
                x = b.avg_pool(x, stride)
            return b.pad_channels(x, channels)
        y = b.conv('convshortcut', x, channels, 1, stride=stride, role='shortcut')
        return b.norm('convshortcut/bn', y)
