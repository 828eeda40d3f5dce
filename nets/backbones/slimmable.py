"""Backbones of slimmable layers: everything from the stem to the logits, in two parts.

``features`` is the same for all widths but the largest of some architectures, so that these share
it; ``logits`` takes its result and a width.

Reference: Dynamic Slimmable Network, CVPR 2021, https://arxiv.org/abs/2103.13258. MobileNetV1 is
    that of the published
code. The slimmable ResNets of the paper are not published: theirs here have their own widths.
"""

from __future__ import annotations

from typing import NamedTuple

from nets.backbones import resnet
from nets.layers import slimmable
from nets.layers.blocks import SWISH_MIN, Blocks
from nets.layers.slimmable import act, conv, norm
from nets.layers.width import Index, Width
from quant.backend import tf

IMAGE = Width((3,))
# Number of widths, and of the smallest one relative to the largest in ResNets.
WIDTHS, NARROWEST = 14, 0.35


class Stage(NamedTuple):
    """Channels to choose from, ascending, layers, and stride of the first one."""

    choices: tuple[int, ...]
    layers: int
    stride: int


class Form(NamedTuple):
    """Layout of a MobileNetV1; the second width of a stage is that of the largest network alone."""

    stem: Stage
    stages: tuple[Stage, ...]


_STEM, _NARROW = (16, 24), ((32, 88), (48, 168), (96, 264))
_SLIMMED = tuple(range(224, 641, 32)), tuple(range(736, 1153, 32))


def _form(stem: int, layers: tuple[int, ...], strides: tuple[int, ...]) -> Form:
    return Form(Stage(_STEM, 1, stem), tuple(map(Stage, (*_NARROW, *_SLIMMED), layers, strides)))


MOBILENETS = {
    'mobilenetv1': _form(2, (1, 2, 2, 6, 2), (1, 2, 2, 2, 2)),
    'mobilenetv1_small': _form(1, (1, 1, 1, 3, 1), (1, 2, 1, 2, 1)),
}
RESNETS = ('resnet18', 'resnet50', 'resnet20')
ARCHS = (*MOBILENETS, *RESNETS)


class MobileNetV1:
    """Depthwise-separable layers with squeeze-excite and Swish, without residual connections.

    Args:
        arch: ``mobilenetv1``, or ``mobilenetv1_small`` for images of about 32 pixels: half of its
            layers, and two halvings of the resolution instead of five.
        classes: number of classes.
        width: multiplier of all channel counts.
        dropout: of the largest network, in training.

    Attributes:
        largest: index of the largest network: beyond the uniform widths 0 to 13, as only it has
            wide first stages.
        hidden: hidden units that a gate can take from ``features``.
    """

    def __init__(self, *, arch: str, classes: int, width: float, dropout: float):
        form, self.classes, self.dropout = MOBILENETS[arch], classes, dropout
        self.stem, *self.stages = (
            stage._replace(choices=_scaled(stage.choices, width))
            for stage in (form.stem, *form.stages)
        )
        self.split, self.largest = sum(len(stage.choices) == 2 for stage in form.stages), WIDTHS
        self.hidden = _reduced(self.stages[self.split - 1].choices[-1])

    def features(
        self, x: tf.Tensor, b: Blocks, *, wide: bool, passes: int = 1
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Input of the first layer of variable output, and hidden units of its squeeze-excite.

        Args:
            x: images.
            b: the tower's layer builder.
            wide: for the largest network.
            passes: how many passes of a step take the result.
        """
        width = Width(self.stem.choices, int(wide), passes)
        x = conv(b, 'conv0', b.image(x), IMAGE, width, 3, stride=self.stem.stride, role='stem')
        x = act(b, 'act0', norm(b, 'conv0/bn', x, width), width, role='depthwise')
        for g, stage in enumerate(self.stages[: self.split]):
            for i in range(stage.layers):
                with tf.variable_scope(f'group{g}/block{i}'):
                    x, _ = _filter(b, x, width, 1 if i else stage.stride)
                    inputs, width = width, Width(stage.choices, int(wide), passes)
                    x = _mix(b, x, inputs, width)
        with tf.variable_scope(f'group{self.split}/block0'):
            return _filter(b, x, width, self.stages[self.split].stride)

    def logits(self, features: tuple[tf.Tensor, tf.Tensor], b: Blocks, index: Index) -> tf.Tensor:
        """[N, classes] of ``features`` at a width."""
        x, wide = features[0], isinstance(index, int) and index == self.largest
        width = Width(self.stages[self.split - 1].choices, int(wide))
        for g, stage in enumerate(self.stages[self.split :], self.split):
            for i in range(stage.layers):
                with tf.variable_scope(f'group{g}/block{i}'):
                    if i or g > self.split:
                        x, _ = _filter(b, x, width, 1 if i else stage.stride)
                    # The largest network has its own statistics everywhere: its inputs are others.
                    inputs, width = width, Width((*stage.choices, stage.choices[-1]), index)
                    last = g == len(self.stages) - 1 and i == stage.layers - 1
                    x = _mix(b, x, inputs, width, last=last)
        return _classifier(b, x, width, self.classes, self.dropout if wide else 0.0)


class ResNet:
    """Post-activation ResNet with 14 widths.

    They go in equal steps from 0.35 to 1 of the channels of the stem and all stages.

    Args:
        arch: one of ``RESNETS``.
        classes, width, dropout: as of ``MobileNetV1``.

    Attributes:
        largest: index of the largest network, which is the last uniform width.
        hidden: 0, there is no gate.
    """

    hidden = 0

    def __init__(self, *, arch: str, classes: int, width: float, dropout: float):
        plain = resnet.ResNet(arch=arch, mode='pytorch', classes=classes, width=width)
        self.form, self.features_of, self.classes, self.dropout = (
            plain.form,
            plain.features,
            classes,
            dropout,
        )
        self.largest = WIDTHS - 1

    def features(
        self, x: tf.Tensor, b: Blocks, *, wide: bool, passes: int = 1
    ) -> tuple[tf.Tensor, None]:
        """The images: no layer is the same for two widths."""
        return x, None

    def logits(self, features: tuple[tf.Tensor, None], b: Blocks, index: Index) -> tf.Tensor:
        """[N, classes] at a width."""
        width, small = self._width(0, index), self.form.small
        x = conv(
            b,
            'conv0',
            b.image(features[0]),
            IMAGE,
            width,
            3 if small else 7,
            stride=1 if small else 2,
            role='stem',
        )
        x = act(b, 'relu0', norm(b, 'conv0/bn', x, width), width, role='stem', function='relu')
        if not small:
            x = b.max_pool(x, 3, 2)
        for g, count in enumerate(self.form.blocks):
            for i in range(count):
                with tf.variable_scope(f'group{g}/block{i}'):
                    x, width = self._block(b, x, width, g, index, stride=2 if g and not i else 1)
        largest = isinstance(index, int) and index == self.largest
        return _classifier(b, x, width, self.classes, self.dropout if largest else 0.0)

    def _width(self, g: int, index: Index, times: int = 1) -> Width:
        ratios = (NARROWEST + i * (1 - NARROWEST) / (WIDTHS - 1) for i in range(WIDTHS))
        return Width(
            tuple(times * max(1, round(ratio * self.features_of[g])) for ratio in ratios), index
        )

    def _block(
        self, b: Blocks, x: tf.Tensor, inputs: Width, g: int, index: Index, *, stride: int
    ) -> tuple[tf.Tensor, Width]:
        """relu(branch + shortcut), and its width."""
        middle, outputs = (
            self._width(g, index),
            self._width(g, index, 4 if self.form.bottleneck else 1),
        )
        layers = [(middle, 3, stride), (outputs, 3, 1)]
        if self.form.bottleneck:
            layers = [(middle, 1, 1), (middle, 3, stride), (outputs, 1, 1)]
        shortcut = y = act(b, 'quant1', x, inputs, function='none')
        width = inputs
        for n, (out, kernel, step) in enumerate(layers, 1):
            y = norm(b, f'conv{n}/bn', conv(b, f'conv{n}', y, width, out, kernel, stride=step), out)
            y = act(b, f'quant{n + 1}', y, out, function='relu') if n < len(layers) else y
            width = out
        if stride == 1 and inputs.full == outputs.full:
            return tf.nn.relu(y + x), outputs
        shortcut = conv(
            b, 'convshortcut', shortcut, inputs, outputs, 1, stride=stride, role='shortcut'
        )
        return tf.nn.relu(y + norm(b, 'convshortcut/bn', shortcut, outputs)), outputs


def backbone(*, arch: str, classes: int, width: float, dropout: float) -> MobileNetV1 | ResNet:
    """The slimmable backbone of an architecture.

    Raises:
        ValueError: no such architecture.
    """
    if arch not in ARCHS:
        raise ValueError(f'arch {arch!r} is unknown to dsnet; there are {", ".join(ARCHS)}')
    return (MobileNetV1 if arch in MOBILENETS else ResNet)(
        arch=arch, classes=classes, width=width, dropout=dropout
    )


def _scaled(choices: tuple[int, ...], width: float) -> tuple[int, ...]:
    return tuple(max(1, round(count * width)) for count in choices)


def _reduced(channels: int) -> int:
    """Hidden units of the squeeze-excite of a layer; the same for all its widths."""
    return max(1, int(0.25 * channels + 0.5))


def _filter(b: Blocks, x: tf.Tensor, width: Width, stride: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Depthwise convolution and squeeze-excite, with the hidden units of the latter."""
    x = slimmable.depthwise_conv(b, 'depthwise', x, width, 3, stride=stride)
    x = tf.nn.swish(norm(b, 'depthwise/bn', x, width))
    x, hidden = slimmable.squeeze_excite(b, x, width, _reduced(width.full))
    return act(b, 'act_depthwise', x, width, function='none', lower=SWISH_MIN), hidden


def _mix(
    b: Blocks, x: tf.Tensor, inputs: Width, outputs: Width, *, last: bool = False
) -> tf.Tensor:
    """1x1 convolution; the ``last`` one is followed by the pool of the classifier."""
    x = norm(b, 'pointwise/bn', conv(b, 'pointwise', x, inputs, outputs, 1), outputs)
    if last:
        return tf.nn.swish(x)
    return act(b, 'act_pointwise', x, outputs, role='depthwise')


def _classifier(b: Blocks, x: tf.Tensor, width: Width, classes: int, dropout: float) -> tf.Tensor:
    """Global pool, dropout in training, fully connected layer."""
    x, bound = b.global_pool(x), classes**-0.5
    if dropout and b.training:
        x = tf.where_v2(b.uniform(tf.shape(x)) < dropout, 0.0, x / (1 - dropout))
    return slimmable.dense(
        b,
        'linear',
        x,
        width,
        Width((classes,)),
        role='head',
        start=tf.random_uniform_initializer(-bound, bound),
    )
