"""Augmentations without mirror, for what reads one way round: digits, letters, signs."""

from __future__ import annotations

import numpy as np

from engine.data.shift import Shift
from engine.data.transforms import centre


class ShiftOnly(Shift):
    """Translation as ``shift`` has it, without mirror."""

    mirrors = False
    evaluated_as = 'shift'

    def train_view(self, image: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
        """Fit the image to uint8 [size, size, 3] and shift it.

        Args:
            image: uint8 [h, w, 3], BGR.
            size: edge of the view, pixels.
            rng: source of all chance.
        """
        return self.train_crop(image, size, rng)


class Plain(ShiftOnly):
    """No augmentation: training sees what evaluation sees, but for a filter that is drawn."""

    def train_view(self, image: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
        """Fit the image to uint8 [size, size, 3].

        Args:
            image: uint8 [h, w, 3], BGR.
            size: edge of the view, pixels.
            rng: not used.
        """
        return self.eval_view(image, size)

    def train_crop(self, image: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
        """The centre square, uint8 [edge, edge, 3], of which evaluation scales its views.

        Args:
            image: uint8 [h, w, 3], BGR.
            size: edge of the largest view, pixels.
            rng: not used.
        """
        return centre(image, min(image.shape[:2]))
