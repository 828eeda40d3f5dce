"""Any network at several precisions: the same layers once for each, under one set of weights.

The axis of bits of an operating point. A family knows nothing of it: its layers are built once per
precision, and ``Blocks`` says which quantizers and statistics these have.

References:
    Any-Precision Deep Neural Networks, AAAI 2021, https://arxiv.org/abs/1911.07346, and AdaBits:
    Neural Network Quantization with Adaptive Bit-Widths, CVPR 2020,
    https://arxiv.org/abs/1912.09666: one network, normalisation private to each precision, losses
    of all of them in every step; the first one's precisions teach each other.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from nets import losses
from nets.layers.blocks import Blocks
from nets.network import Network
from nets.outputs import Outputs
from nets.points import DYNAMIC, Point
from quant.backend import tf
from quant.options import option

LOSSES = ('mean', 'sum')
TEACHERS = ('labels', 'next')


@dataclasses.dataclass(frozen=True)
class PrecisionOptions:
    """Losses and teachers of the precisions of a network.

    Attributes:
        bits_loss: a sum has the shared kernels learn at a rate that grows with the number of
            precisions, while what is private to one keeps its own.
        bits_teacher: ``next``: as much from the answers of the next higher precision at the same
            point, without gradient to it, as from what it learns otherwise. Both defaults are those
            that ``scripts.study bits`` chose.
    """

    bits_loss: str = option(
        'mean', 'losses of the precisions of --bits are averaged, or summed', choices=LOSSES
    )
    bits_teacher: str = option(
        'next',
        'what precisions of --bits learn from: labels alone; next: half of it from the next higher '
        'precision at the same point',
        choices=TEACHERS,
    )


@dataclasses.dataclass
class PreciseOutputs(Outputs):
    """Results of one tower at several precisions.

    Attributes:
        parts: what the network has made at each precision, by its bits, under its own names.
    """

    parts: dict[int, Outputs] = dataclasses.field(default_factory=dict)


class Precisions(Network):
    """A network at several precisions.

    Args:
        network: that computes the points of each of them.
        bits: that name the precisions, most bits first.
        options: what they learn; None for the defaults.

    Attributes:
        network: the one that was given, whose own attributes this one has, too.
        bits: those that were given.
    """

    def __init__(self, network: Any, bits: Sequence[int], options: PrecisionOptions | None = None):
        self.network = network
        self.bits = tuple(bits)
        self.options_of_bits = options or PrecisionOptions()
        super().__init__(network.sizes, network.padding, self._at_each(network.points))
        self.detachable = network.detachable
        self.rewritten_above = network.rewritten_above
        names: list[str] = []
        for one in self.bits:
            names += [_summed(name, one) for name in network.accumulator_names]
        self.accumulator_names = tuple(dict.fromkeys(names))
        self.per_image_names = network.per_image_names

    def __getattr__(self, name: str) -> Any:
        """An attribute that the network has beside the protocol.

        Raises:
            AttributeError: the network has not.
        """
        # Copying asks for special methods before there is a network.
        if name == 'network':
            raise AttributeError(name)
        return getattr(self.network, name)

    def _at_each(self, points: Sequence[Point]) -> tuple[Point, ...]:
        """Points at every precision, the strongest point first and at each the most bits."""
        found = []
        for point in points:
            found += [dataclasses.replace(point, bits=bits) for bits in self.bits]
        return tuple(found)

    @property
    def loaded_points(self) -> tuple[Point, ...]:
        return self._at_each(self.network.loaded_points)

    @property
    def trained_points(self) -> tuple[Point, ...]:
        return self._at_each(self.network.trained_points)

    @property
    def dynamic_names(self) -> tuple[str, ...]:
        found: list[str] = []
        for bits in self.bits:
            found += [spelled(name, bits) for name in self.network.dynamic_names]
        return tuple(found)

    @property
    def evaluation_options(self) -> Mapping[str, Any]:
        return self.network.evaluation_options

    @property
    def calibration_options(self) -> Mapping[str, Any]:
        return self.network.calibration_options

    @property
    def dynamic_options(self) -> Mapping[str, Any]:
        return self.network.dynamic_options

    @property
    def static_options(self) -> Mapping[str, Any]:
        return self.network.static_options

    @property
    def choosing(self) -> Mapping[str, int]:
        found = {}
        for bits in self.bits:
            for name, size in self.network.choosing.items():
                found[spelled(name, bits)] = size
        return found

    def chosen(
        self,
        size: int,
        views: Mapping[int, tf.Tensor],
        blocks: Blocks,
        thresholds: Sequence[float] = (),
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """As of ``Network.chosen``, of a network that is narrowed to one precision.

        Args:
            size: of the images that are used.
            views: float32 images by size.
            blocks: the layer builder, for inference.
            thresholds: by exit; of use to networks with exits alone.
        """
        (bits,) = self.bits
        with blocks.precision(bits):
            return self.network.chosen(size, views, blocks, thresholds)

    def as_evaluated(self, point: str) -> str:
        return self.network.as_evaluated(point)

    def settled(self, executed: Mapping[str, bool]) -> Mapping[str, Any]:
        return self.network.settled(executed)

    def teacher_pairs(self) -> list[tuple[tf.Variable, tf.Variable]]:
        return self.network.teacher_pairs()

    def encoded_as(self, sizes: Mapping[int, int]) -> Precisions:
        other = copy.copy(self)
        other.network = self.network.encoded_as(sizes)
        return other

    def outputs(
        self, views: Mapping[int, tf.Tensor], blocks: Blocks, **options: Any
    ) -> PreciseOutputs:
        """Logits of every operating point, and extras under the names of their points.

        Args:
            views: float32 images by size, in the data format of ``blocks``.
            blocks: the tower's layer builder.
            **options: of the network.
        """
        parts: dict[int, Outputs] = {}
        extras: dict[str, tf.Tensor] = {}
        found: dict[Point, tf.Tensor] = {}
        for bits in self.bits:
            with blocks.precision(bits):
                part = self.network.outputs(views, blocks, **options)
            parts[bits] = part
            for point, value in part.logits.items():
                found[dataclasses.replace(point, bits=bits)] = value
            for name, value in part.extras.items():
                extras[spelled(name, bits)] = value
        logits = {point: found[point] for point in self.points if point in found}
        return PreciseOutputs(logits, extras, parts=parts)

    def loss(self, outputs: Outputs, labels: losses.Labels) -> dict[str, tf.Tensor]:
        """Named scalar terms of all precisions, averaged over these or summed."""
        assert isinstance(outputs, PreciseOutputs)
        share = 1.0
        if self.options_of_bits.bits_loss == 'mean':
            share = 1 / len(self.bits)
        terms = {}
        above: Outputs | None = None
        for bits, part in outputs.parts.items():
            teaching = outputs.teaching
            if above is not None and self.options_of_bits.bits_teacher == 'next':
                stronger = {own.ref(): above.logits[point] for point, own in part.logits.items()}
                teaching = dataclasses.replace(teaching, stronger=stronger)
            told = dataclasses.replace(part, teaching=teaching, for_cascades=outputs.for_cascades)
            for name, value in self.network.loss(told, labels).items():
                terms[spelled(name, bits)] = share * value
            above = part
        return terms

    def accumulators(self, outputs: Outputs, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        assert isinstance(outputs, PreciseOutputs)
        found = {}
        for bits, part in outputs.parts.items():
            for name, value in self.network.accumulators(part, labels).items():
                found[_summed(name, bits)] = value
        return found

    def per_image(self, outputs: Outputs, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        """Values of every image, a column per operating point."""
        assert isinstance(outputs, PreciseOutputs)
        columns: dict[str, list[tf.Tensor]] = {}
        for part in outputs.parts.values():
            for name, value in self.network.per_image(part, labels).items():
                columns.setdefault(name, []).append(value)  # [N, points of a precision]
        found = {}
        for name, values in columns.items():
            # The precisions of a point stand beside each other.
            found[name] = tf.reshape(tf.stack(values, axis=2), [-1, len(self.points)])
        return found


def spelled(name: str, bits: int) -> str:
    """The name of something at one precision, from its name in a network that has but one.

    >>> spelled('gates/s224', 4), spelled('ensemble-s160-x2', 4), spelled('ensemble', 4)
    ('gates/s224-b4', 'ensemble-s160-x2-b4', 'ensemble-b4')
    >>> spelled('s28-dynamic', 2), spelled('dynamic', 2), spelled('loss/distillation', 2)
    ('s28-b2-dynamic', 'b2-dynamic', 'loss/distillation-b2')
    """
    parts = name.split('/')
    for i, part in enumerate(parts):
        point = Point.within(part)
        if point.axes:
            at_bits = str(dataclasses.replace(point, bits=bits))
            parts[i] = part.replace(str(point), at_bits, 1)
            return '/'.join(parts)
    if parts[-1] == DYNAMIC:
        return '/'.join([*parts[:-1], f'{Point(bits=bits)}-{DYNAMIC}'])
    return f'{name}-{Point(bits=bits)}'


def _summed(name: str, bits: int) -> str:
    """The name of what evaluation adds up: of images, which are the same at every precision, once.

    >>> _summed('executed_s28', 4), _summed('images', 4)
    ('executed_s28-b4', 'images')
    """
    return name if name == 'images' else spelled(name, bits)
