"""MSDNet: a network with exits, at which easy images can leave early.

A network of several scales with a classifier after every block, one operating point per size and
exit.

Reference: Multi-Scale Dense Networks for Resource Efficient Image Classification, ICLR 2018,
https://arxiv.org/abs/1703.09844, and its two published codes (https://github.com/gaohuang/MSDNet in
Lua Torch, the original, and https://github.com/kalviny/MSDNet-PyTorch). Nothing is computed before
an exit needs it: the lazy evaluation of the paper, which neither code has.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from nets import losses, msdnet_plan
from nets.layers import exits
from nets.layers.blocks import Blocks
from nets.msdnet_plan import PRUNES, STEPMODES, Node, Plan
from nets.network import Network
from nets.outputs import Outputs
from nets.points import DYNAMIC, Point
from quant.backend import tf
from quant.options import check, option

STARTS = ('original', 'torch')

# Largest size from which on the stem is that of ImageNet.
LARGE = 64


@dataclasses.dataclass(frozen=True)
class MSDNetOptions:
    """Options of an MSDNet, under their published names.

    Defaults are those of its ImageNet network.

    Attributes:
        stepmode: ``even``: every block after the first has ``step`` layers; ``lin_grow``: block i
            has step * i + 1 (counted from 0).
        prune: see ``nets.msdnet_plan.finest``.
        reduction: where a scale ends (``prune`` max) or after each third of the layers (min).
        stem_bias: the PyTorch code has it for ImageNet.
        init: ``original``: normal, variance 2 / fan-out; ``torch``: what the PyTorch code ends up
            with (uniform by fan-in; biases too).
        exit_weights: empty for 1 each, as published.
        kd: beyond the papers.
    """

    nBlocks: int = option(5, 'number of exits', low=1, high=100)
    stepmode: str = option(
        'even', 'layers per block: step in all, or more and more', choices=STEPMODES
    )
    step: int = option(4, 'layers between exits', low=1, high=1000)
    base: int = option(4, 'layers before the first exit', low=1, high=1000)
    nChannels: int = option(32, 'channels of the stem', low=1, high=4096)
    growthRate: int = option(16, 'channels that a layer adds', low=1, high=4096)
    grFactor: tuple[int, ...] = option(
        (1, 2, 4, 4), 'growth of every scale, finest first', low=1, high=64, count=1
    )
    bnFactor: tuple[int, ...] = option(
        (1, 2, 4, 4),
        'width of the bottlenecks of every scale, as a multiple of what they end in',
        low=1,
        high=64,
        count=1,
    )
    prune: str = option('max', 'when the finer scales end', choices=PRUNES)
    bottleneck: bool = option(True, 'a 1x1 convolution before every 3x3 one')
    reduction: float = option(
        0.5, 'factor on the channels where a scale ends; 0: none', low=0, high=1
    )
    stem_bias: bool = option(
        False, 'bias of the first convolution, as the PyTorch port on ImageNet'
    )
    init: str = option('original', 'initial values of all layers', choices=STARTS)
    exit_weights: tuple[float, ...] = option(
        (), 'of the exits in the loss; by default 1 each', low=0, metavar='W'
    )
    kd: bool = option(False, 'every later exit teaches every earlier one at the same size')
    kd_type: str = option('topdown', 'what is distilled', choices=('topdown',))


class MSDNet(Network):
    """Dense blocks at several scales with an exit after each.

    The form follows from the largest size: below 64 pixels that for CIFAR (3x3 stem, heads of 128
    channels), from there on that for ImageNet (7x7 stem with stride and pool, heads as wide as what
    they read).

    Args:
        arch: ``msdnet``.
        mode: ``pytorch``.
        sizes: input sizes in pixels; kernels are shared by all, normalisation is private.
        classes: number of classes.
        width: 1; ``nChannels`` and ``growthRate`` are its widths.
        options: of this kind of network; None for the defaults.

    Attributes:
        exits: number of exits.

    Raises:
        ValueError: an option is out of its range, or the options do not fit together.
    """

    Options = MSDNetOptions

    per_image_names = ('confidence', 'right')

    def __init__(
        self,
        *,
        arch: str = 'msdnet',
        mode: str,
        sizes: Sequence[int],
        classes: int,
        width: float = 1.0,
        options: MSDNetOptions | None = None,
    ):
        options = options or MSDNetOptions()
        check(options)
        for name, value, known in (('arch', arch, 'msdnet'), ('mode', mode, 'pytorch')):
            if value != known:
                raise ValueError(f'{name} {value!r} is unknown to msdnet; there is {known}')
        if width != 1:
            raise ValueError(f'width {width:g}: msdnet has nChannels and growthRate instead')
        msdnet_plan.check_channels(options.growthRate, options.grFactor, options.bnFactor)
        self.large = max(sizes) >= LARGE
        for size in sizes:
            msdnet_plan.check_size(size, len(options.grFactor), self.large)
        self.plan = Plan.of(options)
        points: list[Point] = []
        for size in sorted(sizes, reverse=True):
            points.extend(Point(size=size, exit=k) for k in reversed(range(options.nBlocks)))
        super().__init__(sizes, 'symmetric', points)
        self.exits = options.nBlocks
        self.classes = classes
        self.kd = options.kd
        self.channels = options.nChannels
        self.growth = options.growthRate
        self.factors = options.grFactor
        self.widths = options.bnFactor
        self.bottleneck = options.bottleneck
        self.stem_bias = options.stem_bias
        self.init = options.init
        self.exit_weights = _exit_weights(options.exit_weights, options.nBlocks)

    def outputs(self, views: Mapping[int, tf.Tensor], blocks: Blocks) -> Outputs:
        """Logits of every operating point.

        At inference also ``extras['ensemble-<point>']`` [N, classes] of every exit but the first:
        the sum of the probabilities of all exits up to it.

        Args:
            views: float32 images by size, in the data format of ``blocks``.
            blocks: the tower's layer builder.
        """
        logits: dict[Point, tf.Tensor] = {}
        extras: dict[str, tf.Tensor] = {}
        for size in self.sizes:
            maps: dict[Node, tf.Tensor] = {}
            total = 0
            for k in range(self.exits):
                point = Point(size=size, exit=k)
                logits[point] = self._answer(k, size, views[size], maps, blocks)
                if not blocks.training:
                    total += tf.nn.softmax(logits[point])
                if not blocks.training and k:
                    extras[f'ensemble-{point}'] = total
            # Published checkpoints have them, and training keeps their statistics; inference never
            # computes them.
            self._compute(self.plan.unread, size, views[size], maps, blocks)
        return Outputs({point: logits[point] for point in self.points}, extras)

    @property
    def choosing(self) -> Mapping[str, int]:
        return {f'{Point(size=size)}-{DYNAMIC}': size for size in self.sizes}

    def chosen(
        self,
        size: int,
        views: Mapping[int, tf.Tensor],
        blocks: Blocks,
        thresholds: Sequence[float] = (),
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """As of ``Network.chosen``: the exit where an image leaves.

        Args:
            size: of the images that are used.
            views: float32 images by size.
            blocks: the layer builder, for inference.
            thresholds: by exit; of use to networks with exits alone.
        """
        answers = []
        maps: dict[Node, tf.Tensor] = {}
        for k in range(self.exits):
            answers.append(self._answer(k, size, views[size], maps, blocks))
        if blocks.quantization.opaque:
            logits, exit = exits.in_turn(answers)
        else:
            logits, exit = exits.first_confident(answers, thresholds)
        return logits, {'exit': exit}

    def loss(self, outputs: Outputs, labels: losses.Labels) -> dict[str, tf.Tensor]:
        """Named scalar terms.

        Weighted cross entropies and, with distillation, the sum of all divergences.
        """
        parts = self.cross_entropies(outputs, labels)
        for point, weight in zip(self.points, self.exit_weights[::-1] * len(self.sizes)):
            parts[f'loss/{point}'] *= weight
        if self.kd and self.exits > 1:
            terms = []
            for size in self.sizes:
                points = [point for point in self.points if point.size == size]
                logits = [outputs.logits[point] for point in points]
                terms.append(losses.topdown(logits, losses.weights_of(labels)))
            parts['loss/distillation'] = tf.add_n(terms)
        return parts

    def per_image(self, outputs: Outputs, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        """Confidence and correctness of every image at every operating point, each [N, points].

        ``confidence`` is the logarithm of the probability of the answer, ``right`` whether the
        answer is the label.
        """
        confidence = []
        right = []
        for logits in outputs.logits.values():
            confidence.append(losses.log_confidence(logits))
            right.append(tf.nn.in_top_k(logits, labels, 1))
        return {'confidence': tf.stack(confidence, 1), 'right': tf.stack(right, 1)}

    def _answer(
        self, k: int, size: int, x: tf.Tensor | None, maps: dict[Node, tf.Tensor], b: Blocks
    ) -> tf.Tensor:
        """Logits of exit ``k``; adds to ``maps`` what it needs beside them."""
        self._compute(self.plan.fresh[k], size, x, maps, b)
        with (
            b.at(Point(size=size), serves=[Point(size=size, exit=k)]),
            tf.variable_scope(f'head{k}'),
        ):
            y = maps[self.plan.ends[k], self.plan.scales - 1]
            channels = b.channels(y) if self.large else 128
            y = self._conv(b, 'conv1', y, channels, 3, stride=2, role='head', feeds='head')
            y = self._conv(b, 'conv2', y, channels, 3, stride=2, role='head', feeds=None)
            bound = 1 / math.sqrt(channels)
            start = tf.random_uniform_initializer(-bound, bound)
            bias_start = start if self.init == 'torch' else None
            pooled = b.global_pool(_corner(y, b))
            return b.dense('linear', pooled, self.classes, start=start, bias_start=bias_start)

    def _compute(
        self,
        nodes: Sequence[Node],
        size: int,
        x: tf.Tensor | None,
        maps: dict[Node, tf.Tensor],
        b: Blocks,
    ) -> None:
        """Adds ``nodes`` to ``maps``.

        Args:
            nodes: in an order of computation.
            size: input size.
            x: float32 images, for the stem.
            maps: feature maps that there are.
            b: the layer builder.
        """
        for node in nodes:
            layer, scale = node
            serves = [Point(size=size, exit=k) for k in self.plan.exits(node)]
            with b.at(Point(size=size), serves=serves):
                read = [maps[source] for source in self.plan.reads(node)]
                if layer:
                    found = self._layer(node, read, b)
                elif scale:
                    found = self._stem(scale, read[0], b)
                else:
                    found = self._stem(scale, b.image(x), b)
                maps[node] = b.end(found)

    def _stem(self, scale: int, x: tf.Tensor, b: Blocks) -> tf.Tensor:
        """A map of the stem, from the next finer one or from the images."""
        name, channels = f'stem/map{scale}', self.channels * self.factors[scale]
        if scale:
            return self._conv(b, name, x, channels, 3, stride=2, role='stem')
        if not self.large:
            return self._conv(b, name, x, channels, 3, role='stem', bias=self.stem_bias)
        y = self._conv(b, name, x, channels, 7, stride=2, role='stem', bias=self.stem_bias)
        return b.max_pool(y, 3, 2)

    def _layer(self, node: Node, read: Sequence[tf.Tensor], b: Blocks) -> tf.Tensor:
        """A map with what its layer adds to it.

        From the next finer scale, if there is one, and from itself.
        """
        number, scale = node
        layer = self.plan.layers[number - 1]
        name = f'map{scale - layer.first}'
        added = self.growth * self.factors[scale] // len(read)  # channels of each branch
        parts = [read[0]]
        with tf.variable_scope(f'{layer.scope}/{name}'):
            if len(read) == 2:
                parts.append(self._branch('down', read[1], added, self.widths[scale - 1], 2, b))
            parts.append(self._branch('normal', read[0], added, self.widths[scale], 1, b))
        y = tf.concat(parts, 3 if b.data_format == 'NHWC' else 1)
        if not layer.transition:
            return y
        channels = layer.channels * self.factors[scale]
        return self._conv(b, f'{layer.transition}/{name}', y, channels, 1)

    def _branch(
        self, name: str, x: tf.Tensor, channels: int, width: int, stride: int, b: Blocks
    ) -> tf.Tensor:
        """``conv1`` 1x1 and ``conv2`` 3x3, or ``conv1`` 3x3 alone."""
        with tf.variable_scope(name):
            if not self.bottleneck:
                return self._conv(b, 'conv1', x, channels, 3, stride=stride)
            middle = min(b.channels(x), width * channels)
            x = self._conv(b, 'conv1', x, middle, 1)
            return self._conv(b, 'conv2', x, channels, 3, stride=stride)

    def _conv(
        self,
        b: Blocks,
        name: str,
        x: tf.Tensor,
        channels: int,
        kernel: int,
        *,
        stride: int = 1,
        role: str = 'body',
        feeds: str | None = 'body',
        bias: bool = False,
    ) -> tf.Tensor:
        """Convolution, normalisation, activation.

        Args:
            b: the layer builder.
            name: scope of the convolution.
            x: feature map.
            channels: of the output.
            kernel: side of the kernel.
            stride: of the convolution.
            role: of the convolution.
            feeds: role of the layers that take the result; None: a pool.
            bias: whether the convolution has one.
        """
        start, bias_start = self._starts(b.channels(x), channels, kernel)
        if not bias:
            bias_start = None
        y = b.conv(
            name, x, channels, kernel, stride=stride, role=role, start=start, bias_start=bias_start
        )
        y = b.norm(f'{name}/bn', y)
        if feeds is None:
            return tf.nn.relu(y)
        return b.act(f'{name}/quant', y, role=feeds)

    def _starts(self, inputs: int, outputs: int, kernel: int) -> tuple[Any, Any]:
        """Initializers of a kernel and of its bias."""
        if self.init == 'original':
            init_std = math.sqrt(2 / outputs) / kernel
            return tf.random_normal_initializer(stddev=init_std), tf.zeros_initializer()
        bound = 1 / (kernel * math.sqrt(inputs))
        start = tf.random_uniform_initializer(-bound, bound)
        return start, start


def _corner(x: tf.Tensor, b: Blocks) -> tf.Tensor:
    """The first 2x2 positions: a pool of them drops the border of a 3x3 map, as published."""
    return x[:, :2, :2] if b.data_format == 'NHWC' else x[:, :, :2, :2]


def _exit_weights(weights: Sequence[float], exits: int) -> list[float]:
    """Weight of every exit in the loss.

    Raises:
        ValueError: there is another number of weights.
    """
    if weights and len(weights) != exits:
        raise ValueError(f'exit_weights has {len(weights)} entries for {exits} exits')
    return [float(weight) for weight in weights] or [1.0] * exits
