"""MobileNetV2: inverted residuals with linear bottlenecks.

Reference: MobileNetV2: Inverted Residuals and Linear Bottlenecks, https://arxiv.org/abs/1801.04381;
details and initial values as the RS-Nets and SAN codes (PyTorch).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from nets.layers.blocks import Blocks
from nets.layers.kernels import MetaConv
from quant.backend import tf
from quant.spelling import unknown


class Form(NamedTuple):
    """Layout of an architecture.

    Attributes:
        stages: (expansion, channels, blocks, stride of the first) of each.
        stem: stride of the stem.
        last: channels of the last convolution.
    """

    stages: tuple[tuple[int, int, int, int], ...]
    stem: int
    last: int


FORMS = {
    'mobilenetv2': Form(
        (
            (1, 16, 1, 1),
            (6, 24, 2, 2),
            (6, 32, 3, 2),
            (6, 64, 4, 2),
            (6, 96, 3, 1),
            (6, 160, 3, 2),
            (6, 320, 1, 1),
        ),
        stem=2,
        last=1280,
    ),
    'mobilenetv2_small': Form(
        ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 2, 2), (6, 64, 2, 1), (6, 96, 1, 1)),
        stem=1,
        last=320,
    ),
}
ARCHS = tuple(FORMS)


def round_channels(wanted: float) -> int:
    """The nearest multiple of 8 (half goes up) from 90 % of ``wanted`` on, and at least 8.

    >>> round_channels(20), round_channels(17), round_channels(9.6)
    (24, 16, 16)
    """
    channels = max(8, int(wanted + 4) // 8 * 8)
    if channels < 0.9 * wanted:
        channels += 8
    return channels


class MobileNetV2:
    """Everything from the stem to the logits, for one input.

    Args:
        arch: ``mobilenetv2``, or ``mobilenetv2_small`` for images of about 32 pixels: half of its
            blocks, and two halvings of the resolution instead of five.
        mode: ``pytorch``; no other is published.
        classes: number of classes.
        width: multiplier of all channel counts, of the last convolution's only where it exceeds 1.

    Attributes:
        padding: padding rule, see ``Blocks``.

    Raises:
        ValueError: unknown architecture or mode.
    """

    padding = 'symmetric'

    def __init__(self, *, arch: str, mode: str, classes: int, width: float = 1.0):
        if arch not in ARCHS:
            raise ValueError(f'arch {arch!r} is {unknown(arch, ARCHS)}')
        if mode != 'pytorch':
            raise ValueError(f'mode {mode!r} is unknown; {arch} is defined in mode pytorch only')
        self.form = FORMS[arch]
        self.classes = classes
        self.width = width

    def logits(self, x: tf.Tensor, b: Blocks, meta: MetaConv | None = None) -> tf.Tensor:
        """Logits [N, classes].

        Args:
            x: float32 images, in the data format of ``b``.
            b: the tower's layer builder.
            meta: generates the kernels of all convolutions; None: they are stored.
        """
        last = round_channels(self.form.last * max(1.0, self.width))
        with b.generated(meta):
            channels = round_channels(32 * self.width)
            x = b.image(x)
            x = b.conv('conv0', x, channels, 3, stride=self.form.stem, role='stem')
            x = b.end(b.act('relu0', b.norm('conv0/bn', x), role='depthwise', function='relu6'))
            for i, layout in enumerate(self._layouts()):
                with tf.variable_scope(f'block{i}'):
                    x = b.end(self._block(b, x, *layout))
            x = b.act('quant_last', x, function='none', lower=-math.inf)
            x = b.conv('conv_last', x, last, 1)
            x = tf.nn.relu6(b.norm('conv_last/bn', x))
        start = tf.random_normal_initializer(stddev=0.01)
        return b.dense('linear', b.global_pool(x), self.classes, start=start)

    def published_start(self, fan_out: int) -> tuple[Any, Any]:
        """Initializers of a meta layer's slope and offset as SAN has them."""
        return tf.random_normal_initializer(stddev=0.01), tf.zeros_initializer()

    def _layouts(self) -> list[tuple[int, int, int]]:
        """Expansion, output channels and stride of every block."""
        layouts = []
        for expansion, channels, count, stride in self.form.stages:
            outputs = round_channels(channels * self.width)
            layouts.append((expansion, outputs, stride))
            layouts += [(expansion, outputs, 1)] * (count - 1)
        return layouts

    def _block(
        self, b: Blocks, x: tf.Tensor, expansion: int, channels: int, stride: int
    ) -> tf.Tensor:
        """Expand, filter each channel, project; the input is added where the shapes allow.

        The output has any sign.
        """
        inputs, y = b.channels(x), x
        if expansion > 1:
            y = b.act('quant_in', y, function='none', lower=-math.inf)
            y = b.norm('expand/bn', b.conv('expand', y, inputs * expansion, 1))
            y = b.act('relu_expand', y, role='depthwise', function='relu6')
        y = b.depthwise_conv('depthwise', y, 3, stride=stride, fan_out=9 * inputs * expansion)
        y = b.act('relu_depthwise', b.norm('depthwise/bn', y), function='relu6')
        y = b.norm('project/bn', b.conv('project', y, channels, 1))
        if stride == 1 and inputs == channels:
            return x + y
        return y
