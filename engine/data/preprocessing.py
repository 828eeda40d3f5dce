"""Preprocessing as a run records it: how a decoded image becomes the input of its network."""

from __future__ import annotations

import dataclasses

import numpy as np

from engine.data import augment, inputs
from engine.data.augment import Extra
from engine.data.opencv import cv2

# How the input sizes are made: in the graph from one view, or while loading with an antialiased
# filter.
RESIZES = ('nearest', 'area', 'antialias', 'antialias_cubic')


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How a decoded image becomes what a network takes, in training and in evaluation.

    It starts as the data set's, is recorded with the run, and is read from there: never from the
    name of the data.

    Attributes:
        augmentation: see ``augment.named``: cuts random views for training and the views for
            evaluation.
        image_size: edge in pixels of the view that ``nearest`` and ``area`` make all sizes from.
        sizes: input sizes of the network, pixels, largest first.
        resize: one of ``RESIZES``.
        inputs: channel order, mean and deviation, see ``engine.data.inputs``.
    """

    augmentation: str
    image_size: int
    sizes: tuple[int, ...]
    resize: str
    inputs: str

    @property
    def channels(self) -> int:
        """Channels of the views: three, or one of grey images."""
        return inputs.parse(self.inputs).channels

    @property
    def antialias(self) -> bool:
        """Whether the sizes are made while loading."""
        return self.resize.startswith('antialias')

    @property
    def cubic(self) -> bool:
        """Whether that filter is bicubic, or in training bilinear or bicubic by chance."""
        return self.resize == 'antialias_cubic'

    @property
    def view_sizes(self) -> tuple[int, ...]:
        """Edges in pixels of the views that are made of an image while loading."""
        return self.sizes if self.antialias else (self.image_size,)

    def side(self, size: int) -> int:
        """Edge in pixels of the view that an input size is made from."""
        return size if self.antialias else self.image_size

    @property
    def rule(self) -> tuple[str, str, str]:
        """All but the sizes: equal where two runs treat images alike."""
        return self.augmentation, self.resize, self.inputs

    def eval_rule(self, side: object) -> str:
        """How to make the view of an edge by other means, as ``eval_views`` does, in words."""
        return augment.eval_rule(
            self.augmentation, side, antialias=self.antialias, cubic=self.cubic
        )

    def eval_views(self, image: np.ndarray) -> list[np.ndarray]:
        """Views of evaluation: uint8 [size, size, C], BGR or grey, for each of ``view_sizes``.

        Args:
            image: uint8 [h, w, 3], BGR, of any size.
        """
        views = augment.eval_views(
            image, self.augmentation, self.view_sizes, antialias=self.antialias, cubic=self.cubic
        )
        return self._in_channels(views)

    def _in_channels(self, views: list[np.ndarray]) -> list[np.ndarray]:
        """Views uint8 [size, size, 3] as the network takes them, of one channel or three."""
        if self.channels == 3:
            return views
        return [cv2.cvtColor(view, cv2.COLOR_BGR2GRAY)[..., None] for view in views]

    def train_views(
        self, image: np.ndarray, rng: np.random.Generator, extra: Extra | None = None
    ) -> list[np.ndarray]:
        """Random training views: uint8 [size, size, C], BGR or grey, for each of ``view_sizes``.

        Args:
            image: uint8 [h, w, 3], BGR, of any size.
            rng: source of all chance.
            extra: augmentation of the finished views.
        """
        views = augment.train_views(
            image,
            self.augmentation,
            self.view_sizes,
            rng,
            antialias=self.antialias,
            cubic=self.cubic,
            extra=extra,
        )
        return self._in_channels(views)
