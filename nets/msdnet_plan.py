"""Plan of an MSDNet: which feature maps there are, what each is made of, and which exit needs it.

Pure Python.

A feature map is named by (layer, scale): layer 0 is the stem, scale 0 the finest. All numbers are
those of the two published codes, https://github.com/gaohuang/MSDNet and
https://github.com/kalviny/MSDNet-PyTorch.
"""

import functools
import math
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from nets.cost import LayerRecord

Node = tuple[int, int]

STEPMODES = ('even', 'lin_grow')
PRUNES = ('max', 'min')


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

    >>> steps(5, 'lin_grow', 1, 1), steps(3, 'even', 4, 2)
    ([1, 2, 3, 4, 5], [4, 2, 2])
    """
    return [base, *(step if stepmode == 'even' else step * i + 1 for i in range(1, nBlocks))]


def finest(prune: str, layers: int, scales: int) -> list[int]:
    """Finest scale that survives, of the stem and after every layer.

    ``max`` drops a scale after every ceil(layers / scales) layers; ``min`` only where a scale is
    too far from the coarsest one to reach it in the layers that are left.
    """
    if prune == 'max':
        interval = math.ceil(layers / scales)
        return [0, *((layer - 1) // interval for layer in range(1, layers + 1))]
    return [0, *(max(0, scales - (layers - layer + 1)) for layer in range(1, layers + 1))]


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
        self.scales, self.count = scales, sum(blocks)
        self.first = finest(prune, self.count, scales)
        self.ends = [sum(blocks[: k + 1]) for k in range(len(blocks))]
        self.layers: list[Layer] = []
        for block, count in enumerate(blocks):
            item = 0 if block else 1
            for _ in range(count):
                number = len(self.layers) + 1
                reduced = reduction > 0 and self._compresses(number, prune)
                channels = (
                    _reduced(channels + growth, reduction, number) if reduced else channels + growth
                )
                self.layers.append(
                    Layer(
                        f'block{block}/layer{item}',
                        self.first[number],
                        self.first[number - 1] + 1,
                        channels,
                        f'block{block}/transition{item + 1}' if reduced else '',
                    )
                )
                item += 1 + reduced

    def reads(self, node: Node) -> list[Node]:
        """Maps of which ``node`` is made, its own scale first.

        None for the finest of the stem, which reads the image.
        """
        layer, scale = node
        if layer == 0:
            return [(0, scale - 1)] if scale else []
        finer = [(layer - 1, scale - 1)] if scale >= self.layers[layer - 1].down else []
        return [(layer - 1, scale), *finer]

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

    def kept(self, k: int) -> list[Node]:
        """Maps that exist when exit ``k`` has answered and that later exits read."""
        done = set().union(*self.fresh[: k + 1])
        return sorted(
            {read for nodes in self.fresh[k + 1 :] for node in nodes for read in self.reads(node)}
            & done
        )

    @functools.cached_property
    def unread(self) -> list[Node]:
        """Maps that no exit needs.

        Those of scales that a layer count not divisible by their number leaves at the end.
        """
        every = {
            (layer, scale)
            for layer in range(self.count + 1)
            for scale in range(self.first[layer], self.scales)
        }
        return sorted(every.difference(*self._needed))

    @functools.cached_property
    def _needed(self) -> list[set[Node]]:
        """By exit: what it needs alone."""
        found = []
        for end in self.ends:
            needed, waiting = set(), [(end, self.scales - 1)]
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
    """What the counter of the PyTorch code counts for a layer with what follows it.

    Multiply-adds of a convolution without its bias, one operation for each value of its ReLU, k * k
    for each value of a pool; weights and biases of a linear layer. Normalisation is free.
    """
    if layer.name.endswith('/linear'):
        return 4 * layer.kernel[2] + layer.weights + layer.bias
    height, width = layer.out
    pooled = -(-height // 2) * -(-width // 2) if layer.kernel[0] == 7 else 0
    return layer.madds + layer.kernel[3] * (height * width + 9 * pooled)


def counted(layers: Iterable[LayerRecord], exit: int) -> int:
    """The published number of an exit: all layers so far at all their scales, and all heads so far.

    Args:
        layers: every layer of the network at one size, once.
        exit: index of the exit.
    """

    def block(name: str) -> int:
        found = re.match(r'(?:block|head)(\d+)/', name)
        return int(found[1]) if found else 0

    return sum(operations(layer) for layer in layers if block(layer.name) <= exit)
