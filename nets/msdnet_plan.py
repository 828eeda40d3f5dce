"""Plan of an MSDNet: which feature maps there are, what each is made of, and which exit needs it.

Pure Python.

A feature map is named by (layer, scale): layer 0 is the stem, scale 0 the finest. All numbers are
those of the two published codes, https://github.com/gaohuang/MSDNet and
https://github.com/kalviny/MSDNet-PyTorch.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from nets.cost import LayerRecord

if TYPE_CHECKING:
    from nets.msdnet import MSDNetOptions

Node = tuple[int, int]

STEPMODES = ('even', 'lin_grow')
PRUNES = ('max', 'min')

# Pixels of the coarsest scale: two strides of 2 and the 2x2 pool of a head leave one position.
COARSEST = range(5, 13)


class Layer(NamedTuple):
    """One layer at all its scales.

    Attributes:
        scope: scope of its branches, ``block1/layer2``: the number counts what a block is made of,
            transitions too.
        first: finest scale that survives.
        down: finest scale that also reads the next finer one.
        channels: of its maps, in units: scale s has grFactor[s] times as many.
        transition: scope of the transition that compresses its maps to ``channels``; empty if there
            is none.
    """

    scope: str
    first: int
    down: int
    channels: int
    transition: str


def steps(nBlocks: int, stepmode: str, base: int, step: int) -> list[int]:
    """Layers of every block.

    Args:
        nBlocks: number of blocks.
        stepmode: ``even``: ``step`` layers in each but the first; ``lin_grow``: block i has
            step * i + 1.
        base: layers of the first block.
        step: see ``stepmode``.

    >>> steps(5, 'lin_grow', 1, 1), steps(3, 'even', 4, 2)
    ([1, 2, 3, 4, 5], [4, 2, 2])
    """
    if stepmode == 'even':
        return [base] + [step] * (nBlocks - 1)
    return [base] + [step * i + 1 for i in range(1, nBlocks)]


def check_layers(blocks: Sequence[int], scales: int, prune: str) -> None:
    """Refuses too few layers for the scales to end in.

    Args:
        blocks: layers of every block.
        scales: number of scales.
        prune: when scales end, see ``finest``.

    Raises:
        ValueError: ``prune`` needs more layers.
    """
    if prune == 'min' and sum(blocks) < scales - 1:
        numbers = '+'.join(map(str, blocks))
        raise ValueError(
            f'prune min ends one scale per layer: {scales} scales need {scales - 1} layers, '
            f'but the blocks {numbers} have {sum(blocks)}'
        )


def check_channels(growth: int, factors: Sequence[int], widths: Sequence[int]) -> None:
    """Refuses channels that two branches cannot share.

    Args:
        growth: channels that a layer adds.
        factors: multiples of them, of every scale, finest first.
        widths: factors of the bottlenecks, of every scale.

    Raises:
        ValueError: their number is odd, or a scale has no factor.
    """
    if len(widths) < len(factors):
        raise ValueError(
            f'bnFactor has {len(widths)} entries for the {len(factors)} scales of grFactor'
        )
    # The finest scale has one branch.
    for scale, factor in enumerate(factors[1:], 1):
        channels = growth * factor
        if channels % 2:
            raise ValueError(
                f'growthRate {growth} x grFactor {factor} = {channels} channels at scale '
                f'{scale}: must be even, since half of them come from the next finer scale'
            )


def check_size(size: int, scales: int, large: bool) -> None:
    """Refuses an input size of which the heads cannot take the coarsest scale.

    Args:
        size: of the input, in pixels. Every stride of 2 halves it, rounding up.
        scales: number of scales.
        large: whether the stem is that of ImageNet, with two strides of its own.

    Raises:
        ValueError: the coarsest scale is too small or too large.
    """
    sides = [size]
    for _ in range(scales - 1 + 2 * large):
        sides.append((sides[-1] + 1) // 2)
    if sides[-1] not in COARSEST:
        halved = ' -> '.join(map(str, sides))
        raise ValueError(
            f'size {size} with {scales} scales: {halved} pixels at the coarsest; heads need '
            f'{COARSEST[0]} to {COARSEST[-1]}: change the size or the length of grFactor'
        )


def finest(prune: str, layers: int, scales: int) -> list[int]:
    """Finest scale that survives, of the stem and after every layer.

    Args:
        prune: ``max`` drops a scale after every ceil(layers / scales) layers; ``min`` only where a
            scale is too far from the coarsest one to reach it in the layers that are left.
        layers: number of layers.
        scales: number of scales.

    >>> finest('max', 6, 3), finest('min', 6, 3)
    ([0, 0, 0, 1, 1, 2, 2], [0, 0, 0, 0, 0, 1, 2])
    """
    interval = math.ceil(layers / scales)
    found = [0]
    for layer in range(1, layers + 1):
        left = layers - layer + 1
        found.append((layer - 1) // interval if prune == 'max' else max(0, scales - left))
    return found


class Plan:
    """Feature maps of a network.

    Args:
        blocks: layers of every block; an exit follows each.
        scales: number of scales.
        prune: ``max`` or ``min``, see ``finest``.
        channels: units of the stem.
        growth: units that every layer adds.
        reduction: factor of a transition; 0 for none.

    Attributes:
        layers: in order; layer l is ``layers[l - 1]``.
        ends: number of the last layer of every block.

    Raises:
        ValueError: a transition would leave no channel.
    """

    def __init__(
        self,
        blocks: Sequence[int],
        *,
        scales: int,
        prune: str,
        channels: int,
        growth: int,
        reduction: float,
    ):
        self.scales = scales
        self.count = sum(blocks)
        self.first = finest(prune, self.count, scales)
        self.ends = list(itertools.accumulate(blocks))
        self.layers: list[Layer] = []
        for block, count in enumerate(blocks):
            item = 0 if block else 1  # the stem is the first item of block 0
            for _ in range(count):
                number = len(self.layers) + 1
                channels += growth
                scope, transition = f'block{block}/layer{item}', ''
                item += 1
                if reduction > 0 and self._compresses(number, prune):
                    channels = _reduced(channels, reduction, number)
                    transition = f'block{block}/transition{item}'
                    item += 1
                first, down = self.first[number], self.first[number - 1] + 1
                self.layers.append(Layer(scope, first, down, channels, transition))

    @classmethod
    def of(cls, options: MSDNetOptions) -> Plan:
        """The feature maps of a network with these options.

        Raises:
            ValueError: they leave too few layers or channels.
        """
        blocks = steps(options.nBlocks, options.stepmode, options.base, options.step)
        scales = len(options.grFactor)
        check_layers(blocks, scales, options.prune)
        return cls(
            blocks,
            scales=scales,
            prune=options.prune,
            channels=options.nChannels,
            growth=options.growthRate,
            reduction=options.reduction,
        )

    def reads(self, node: Node) -> list[Node]:
        """Maps of which ``node`` is made, its own scale first.

        None for the finest of the stem, which reads the image.
        """
        layer, scale = node
        if layer == 0:
            return [(0, scale - 1)] if scale else []
        read = [(layer - 1, scale)]
        if scale >= self.layers[layer - 1].down:
            read.append((layer - 1, scale - 1))
        return read

    def exits(self, node: Node) -> list[int]:
        """The exits that need ``node`` when each is computed alone."""
        return [k for k in range(len(self.ends)) if node in self._needed[k]]

    @functools.cached_property
    def fresh(self) -> list[list[Node]]:
        """By exit: what it needs and no earlier exit does, in an order of computation."""
        done: set[Node] = set()
        found = []
        for needed in self._needed:
            found.append(sorted(needed - done))
            done |= needed
        return found

    @functools.cached_property
    def unread(self) -> list[Node]:
        """Maps that no exit needs.

        Those of scales that a layer count not divisible by their number leaves at the end.
        """
        every: set[Node] = set()
        for layer, first in enumerate(self.first):
            every.update((layer, scale) for scale in range(first, self.scales))
        return sorted(every.difference(*self._needed))

    @functools.cached_property
    def _needed(self) -> list[set[Node]]:
        """By exit: what it needs alone."""
        found = []
        for end in self.ends:
            needed: set[Node] = set()
            waiting = [(end, self.scales - 1)]
            while waiting:
                node = waiting.pop()
                if node not in needed:
                    needed.add(node)
                    waiting += self.reads(node)
            found.append(needed)
        return found

    def _compresses(self, layer: int, prune: str) -> bool:
        if prune == 'max':
            return self.first[layer] > self.first[layer - 1]
        return layer in (self.count // 3, 2 * self.count // 3)


def _reduced(channels: int, reduction: float, layer: int) -> int:
    left = int(channels * reduction)
    if left < 1:
        raise ValueError(
            f'reduction {reduction}: {channels} x {reduction} leaves no channel after layer {layer}'
        )
    return left


def operations(layer: LayerRecord) -> int:
    """Operations that the PyTorch code counts for a layer with what follows it.

    Multiply-adds of a convolution without its bias, one operation for each value of its ReLU, k * k
    for each value of a pool; weights and biases of a linear layer. Normalisation is free.

    >>> operations(LayerRecord('block0/layer1', 'body', (3, 3, 16, 32), (8, 8)))  # + 8 * 8 * 32
    296960
    """
    if layer.name.endswith('/linear'):
        return 4 * layer.kernel[2] + layer.weights + layer.bias
    height, width = layer.out
    by_channel = height * width
    if layer.kernel[0] == 7:  # the stem of ImageNet, with a 3x3 pool of stride 2
        by_channel += 9 * math.ceil(height / 2) * math.ceil(width / 2)
    return layer.madds + layer.kernel[3] * by_channel


def counted(layers: Iterable[LayerRecord], exit: int) -> int:
    """The published number of an exit: all layers so far at all their scales, and all heads so far.

    Args:
        layers: every layer of the network at one size, once.
        exit: index of the exit.
    """
    total = 0
    for layer in layers:
        block = re.match(r'(?:block|head)(\d+)/', layer.name)
        if block is None or int(block[1]) <= exit:
            total += operations(layer)
    return total
