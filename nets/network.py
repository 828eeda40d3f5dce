"""The protocol of networks: all that the engine can ask of one, with the answers of most."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from nets import losses
from nets.layers.blocks import Blocks
from nets.outputs import Outputs
from nets.points import DYNAMIC, Point
from quant.backend import tf


class Network:
    """A network with operating points.

    Args:
        sizes: input sizes in pixels.
        padding: padding rule of its layers, see ``Blocks``.
        points: operating points, strongest first; by default one per size.

    Attributes:
        sizes: largest first.
        accumulator_names: what evaluation adds up beside the right answers, see ``accumulators``.
        per_image_names: what evaluation keeps of every image, see ``per_image``.
        detachable: scopes of layers that a checkpoint may have and the network may lack.
        rewritten_above: largest image, in pixels, up to which TensorFlow's rewriting of a graph
            makes no training step on a CPU faster; infinite where it never does.
    """

    accumulator_names: tuple[str, ...] = ()
    per_image_names: tuple[str, ...] = ()
    detachable: tuple[str, ...] = ()
    rewritten_above = math.inf

    def __init__(self, sizes: Sequence[int], padding: str, points: Sequence[Point] | None = None):
        self.sizes, self.padding = sorted(sizes, reverse=True), padding
        self.points = tuple(points or (Point(size=size) for size in self.sizes))

    @property
    def loaded_points(self) -> tuple[Point, ...]:
        """Operating points whose statistics training takes from ``--load`` and does not change."""
        return ()

    @property
    def dynamic_names(self) -> tuple[str, ...]:
        """Names of the extras that are logits of choices made image by image."""
        return ()

    @property
    def evaluation_options(self) -> Mapping[str, Any]:
        """Options of ``outputs`` when a run is evaluated while it trains."""
        return {}

    @property
    def calibration_options(self) -> Mapping[str, Any]:
        """Options of ``outputs`` of a training tower that computes all operating points."""
        return {}

    @property
    def dynamic_options(self) -> Mapping[str, Any]:
        """Options of ``outputs`` that compute ``dynamic_names`` and no operating point."""
        return {}

    @property
    def static_options(self) -> Mapping[str, Any]:
        """Options of ``outputs`` that compute every layer of a point, whatever the image."""
        return {}

    @property
    def choosing(self) -> Mapping[str, int]:
        """Names of what ``chosen`` can compute, with the size of its images; none without choices.

        Each is spelled as an operating point whose other axes are ``dynamic``.
        """
        return {}

    def chosen(
        self,
        size: int,
        views: Mapping[int, tf.Tensor],
        blocks: Blocks,
        thresholds: Sequence[float] = (),
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Logits [N, classes] where the network chooses image by image, and what it executed.

        Args:
            size: of the images that are used.
            views: float32 images by size, in the data format of ``blocks``.
            blocks: the layer builder, for inference; where it is opaque, choices are nodes of
                ``nets.layers.choices``.
            thresholds: by exit, see ``engine.results.exit_thresholds``; of networks with exits.

        Returns:
            The logits, and a whole number [N] for every choice by its name.

        Raises:
            NotImplementedError: the network makes no such choice.
        """
        raise NotImplementedError(f'{type(self).__name__} chooses nothing image by image')

    def as_evaluated(self, point: str) -> str:
        """Name of the computation at a point: one of ``choosing`` where gates skip layers."""
        if self.static_options:
            return f'{point}-{DYNAMIC}'
        return point

    def settled(self, executed: Mapping[str, bool]) -> Mapping[str, Any]:
        """Options with which some choices are made for good, and what makes them is not there.

        Args:
            executed: whether what is chosen is executed, by name of the choice as of ``chosen``.

        Raises:
            NotImplementedError: the network makes no such choice.
        """
        raise NotImplementedError(f'{type(self).__name__} has no gate to remove')

    @property
    def trained_points(self) -> tuple[Point, ...]:
        """Operating points whose statistics training leaves in order.

        The others need calibration.
        """
        return self.points

    def teacher_pairs(self) -> list[tuple[tf.Variable, tf.Variable]]:
        """(moving average, variable that it follows) of the default graph.

        None without a teacher.
        """
        return []

    def cross_entropies(self, outputs: Outputs, labels: losses.Labels) -> dict[str, tf.Tensor]:
        """Cross entropy of every operating point, as named terms of the loss.

        With a teacher it has a part in each.
        """
        terms = {}
        weights = losses.weights_of(labels)
        counted = counted_labels(outputs, outputs.logits, labels)
        for point, logits in outputs.logits.items():
            by_labels = losses.cross_entropy(logits, counted[point])
            terms[f'loss/{point}'] = outputs.teaching.joined(by_labels, logits, weights)
        return terms

    def encoded_as(self, sizes: Mapping[int, int]) -> Network:
        """This network with, for each size in ``sizes``, the kernels of another one."""
        return self

    def accumulators(self, outputs: Outputs, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        """Sums over the batch, ``accumulator_names``."""
        return {}

    def per_image(self, outputs: Outputs, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        """Values of every image, images first, ``per_image_names``."""
        return {}


def counted_labels(
    outputs: Outputs, answers: Mapping[Point, tf.Tensor], labels: losses.Labels
) -> dict[Point, losses.Labels]:
    """Labels as they count at operating points: alike, but for ``Outputs.for_cascades``.

    Of points that differ in nothing but their size, the smallest decides first.

    Args:
        outputs: of the tower.
        answers: logits [N, classes] by point.
        labels: of the images.
    """
    found = dict.fromkeys(answers, labels)
    if not outputs.for_cascades:
        return found
    alike: dict[Point, list[Point]] = {}
    for point in answers:
        alike.setdefault(dataclasses.replace(point, size=None), []).append(point)
    for points in alike.values():
        points.sort(key=lambda point: point.size or 0, reverse=True)
        weights = losses.decided([answers[point] for point in points])
        for point, own in zip(points, weights, strict=True):
            found[point] = losses.counting(labels, own)
    return found
