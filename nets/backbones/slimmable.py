"""Backbones of slimmable layers: everything from the stem to the logits, in two parts.

``features`` is the same for all widths but the largest of some architectures, so that these share
it; ``logits`` takes its result and a width.

Reference: Dynamic Slimmable Network, CVPR 2021, https://arxiv.org/abs/2103.13258. MobileNetV1 is
that of the published code. The slimmable ResNets of the paper are not published: theirs here have
their own widths.
"""

from __future__ import annotations

from typing import NamedTuple

from nets.backbones import resnet
from nets.layers import slimmable
from nets.layers.activation import SWISH_MIN
from nets.layers.blocks import Blocks
from nets.layers.slimmable import act, conv
from nets.layers.slimmable_norm import norm
from nets.layers.width import Index, Width
from quant.backend import tf
from quant.spelling import unknown

# Number of widths, and of the smallest one relative to the largest in ResNets.
WIDTHS, NARROWEST = 14, 0.35


class Stage(NamedTuple):
    """Channels to choose from, ascending, layers, and stride of the first one."""

    choices: tuple[int, ...]
    layers: int
    stride: int

    @property
    def strides(self) -> list[int]:
        """Stride of every layer."""
        return [self.stride] + [1] * (self.layers - 1)


class Form(NamedTuple):
    """Layout of a MobileNetV1; the second width of a stage is that of the largest network alone."""

    stem: Stage
    stages: tuple[Stage, ...]


_STEM = (16, 24)
_STAGES = (
    (32, 88),
    (48, 168),
    (96, 264),
    tuple(range(224, 641, 32)),
    tuple(range(736, 1153, 32)),
)


def _form(stem: int, layers: tuple[int, ...], strides: tuple[int, ...]) -> Form:
    """A layout with the published channels.

    Args:
        stem: its stride.
        layers: of every stage.
        strides: of every stage.
    """
    stages = map(Stage, _STAGES, layers, strides)
    return Form(Stage(_STEM, 1, stem), tuple(stages))


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
        form = MOBILENETS[arch]
        self.classes = classes
        self.dropout = dropout
        self.largest = WIDTHS
        self.stem = _scaled_stage(form.stem, width)
        self.stages = [_scaled_stage(stage, width) for stage in form.stages]
        # Number of stages in front of those of variable width.
        self.split = sum(len(stage.choices) == 2 for stage in form.stages)
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
        colours = Width((b.channels(x),))
        stride = self.stem.stride
        x = conv(b, 'conv0', b.image(x), colours, width, 3, stride=stride, role='stem')
        x = norm(b, 'conv0/bn', x, width)
        x = b.end(act(b, 'act0', x, width, role='depthwise'))
        for g, stage in enumerate(self.stages[: self.split]):
            outputs = Width(stage.choices, int(wide), passes)
            for i, stride in enumerate(stage.strides):
                with tf.variable_scope(f'group{g}/block{i}'):
                    x, _ = _filter(b, x, width, stride)
                    x = b.end(_mix(b, x, width, outputs))
                    width = outputs
        with tf.variable_scope(f'group{self.split}/block0'):
            return _filter(b, x, width, self.stages[self.split].stride)

    def logits(self, features: tuple[tf.Tensor, tf.Tensor], b: Blocks, index: Index) -> tf.Tensor:
        """[N, classes] at a width.

        Args:
            features: as ``features`` gives them.
            b: the tower's layer builder.
            index: the width.
        """
        x, _ = features
        wide = isinstance(index, int) and index == self.largest
        width = Width(self.stages[self.split - 1].choices, int(wide))
        for g, stage in enumerate(self.stages[self.split :], self.split):
            # The largest network has its own statistics everywhere: its inputs are others.
            outputs = Width((*stage.choices, stage.choices[-1]), index)
            for i, stride in enumerate(stage.strides):
                with tf.variable_scope(f'group{g}/block{i}'):
                    if i or g > self.split:
                        x, _ = _filter(b, x, width, stride)
                    last = g == len(self.stages) - 1 and i == stage.layers - 1
                    x = b.end(_mix(b, x, width, outputs, last=last))
                    width = outputs
        dropout = self.dropout if wide else 0.0
        return _classifier(b, x, width, self.classes, dropout)


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
        self.form = plain.form
        self.features_of = plain.features
        self.classes = classes
        self.dropout = dropout
        self.largest = WIDTHS - 1

    def features(
        self, x: tf.Tensor, b: Blocks, *, wide: bool, passes: int = 1
    ) -> tuple[tf.Tensor, None]:
        """The images: no layer is the same for two widths.

        Args:
            x: images, as of ``MobileNetV1.features``.
            b: the tower's layer builder.
            wide: as of ``MobileNetV1.features``.
            passes: as of ``MobileNetV1.features``.
        """
        return x, None

    def logits(self, features: tuple[tf.Tensor, None], b: Blocks, index: Index) -> tf.Tensor:
        """[N, classes] at a width.

        Args:
            features: as returned by ``features``.
            b: the tower's layer builder.
            index: of the width, as of ``MobileNetV1.logits``.
        """
        images, _ = features
        width = self._width(0, index)
        kernel, stride = (3, 1) if self.form.small else (7, 2)
        x = b.image(images)
        colours = Width((b.channels(x),))
        x = conv(b, 'conv0', x, colours, width, kernel, stride=stride, role='stem')
        x = norm(b, 'conv0/bn', x, width)
        x = act(b, 'relu0', x, width, role='stem', function='relu')
        if not self.form.small:
            x = b.max_pool(x, 3, 2)
        x = b.end(x)
        for g, count in enumerate(self.form.blocks):
            for i in range(count):
                stride = 2 if g and not i else 1
                with tf.variable_scope(f'group{g}/block{i}'):
                    x, width = self._block(b, x, width, g, index, stride=stride)
                    x = b.end(x)
        largest = isinstance(index, int) and index == self.largest
        dropout = self.dropout if largest else 0.0
        return _classifier(b, x, width, self.classes, dropout)

    def _width(self, g: int, index: Index, times: int = 1) -> Width:
        """Channels of group ``g``, ``times`` as many, at a width."""
        choices = []
        for i in range(WIDTHS):
            ratio = NARROWEST + i * (1 - NARROWEST) / (WIDTHS - 1)
            channels = max(1, round(ratio * self.features_of[g]))
            choices.append(times * channels)
        return Width(tuple(choices), index)

    def _block(
        self, b: Blocks, x: tf.Tensor, inputs: Width, g: int, index: Index, *, stride: int
    ) -> tuple[tf.Tensor, Width]:
        """relu(branch + shortcut), and its width.

        Args:
            b: the tower's layer builder.
            x: input of the block.
            inputs: its width.
            g: number of the group.
            index: the width of the network.
            stride: of the block.
        """
        middle = self._width(g, index)
        if self.form.bottleneck:
            outputs = self._width(g, index, 4)
            layers = [(middle, 1, 1), (middle, 3, stride), (outputs, 1, 1)]
        else:
            outputs = self._width(g, index)
            layers = [(middle, 3, stride), (outputs, 3, 1)]
        q = act(b, 'quant1', x, inputs, function='none')
        y, width = q, inputs
        for n, (out, kernel, step) in enumerate(layers, 1):
            y = conv(b, f'conv{n}', y, width, out, kernel, stride=step)
            y = norm(b, f'conv{n}/bn', y, out)
            if n < len(layers):
                y = act(b, f'quant{n + 1}', y, out, function='relu')
            width = out
        if stride == 1 and inputs.full == outputs.full:
            return tf.nn.relu(y + x), outputs
        shortcut = conv(b, 'convshortcut', q, inputs, outputs, 1, stride=stride, role='shortcut')
        shortcut = norm(b, 'convshortcut/bn', shortcut, outputs)
        return tf.nn.relu(y + shortcut), outputs


def backbone(*, arch: str, classes: int, width: float, dropout: float) -> MobileNetV1 | ResNet:
    """The slimmable backbone of an architecture.

    Args:
        arch: one of ``ARCHS``.
        classes: number of classes.
        width: multiplier of all channel counts.
        dropout: of the largest network, in training.

    Raises:
        ValueError: no such architecture.
    """
    if arch not in ARCHS:
        raise ValueError(f'arch {arch!r} of dsnet is {unknown(arch, ARCHS)}')
    kind = MobileNetV1 if arch in MOBILENETS else ResNet
    return kind(arch=arch, classes=classes, width=width, dropout=dropout)


def _scaled_stage(stage: Stage, width: float) -> Stage:
    """A stage with ``width`` times the channels."""
    choices = tuple(max(1, round(count * width)) for count in stage.choices)
    return stage._replace(choices=choices)


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
    x = conv(b, 'pointwise', x, inputs, outputs, 1)
    x = norm(b, 'pointwise/bn', x, outputs)
    if last:
        return tf.nn.swish(x)
    return act(b, 'act_pointwise', x, outputs, role='depthwise')


def _classifier(b: Blocks, x: tf.Tensor, width: Width, classes: int, dropout: float) -> tf.Tensor:
    """Global pool, dropout in training, fully connected layer."""
    x = b.global_pool(x)
    if dropout and b.training:
        dropped = b.uniform(tf.shape(x)) < dropout
        x = tf.where_v2(dropped, 0.0, x / (1 - dropout))
    bound = classes**-0.5
    start = tf.random_uniform_initializer(-bound, bound)
    return slimmable.dense(b, 'linear', x, width, Width((classes,)), role='head', start=start)
