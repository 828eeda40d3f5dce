"""From a decoded image of any size to square training or evaluation views.

An augmentation makes the random views of training and the views of evaluation that belong to them.
It makes one view, from which the graph makes the sizes, or with `antialias` all sizes, as the
PyTorch code of RS-Nets does: one crop for all, scaled with Pillow's antialiased bilinear filter,
mirrored per size. With `cubic` in addition, as timm: training draws the bilinear or the bicubic
filter, evaluation takes the bicubic one. Training views of every kind can get `Extra` augmentation
at the end.

Images are uint8 [h, w, 3] in BGR order and never written to. All chance comes from the
`numpy.random.Generator` that is handed in, so that views are a pure function of (image, generator).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Protocol

import numpy as np
from PIL import Image

from engine.data.area_crop import AreaCrop
from engine.data.erasing import random_erasing
from engine.data.plain import Plain, ShiftOnly
from engine.data.randaugment import RandAugment
from engine.data.shift import Shift
from engine.data.transforms import mirror, not_too_long, scale_antialiased
from quant.spelling import unknown


class Augmentation(Protocol):
    """Maker of square views of decoded images, which are uint8 [h, w, 3], BGR, of any size.

    Attributes:
        mirrors: whether training swaps left and right by chance.
        evaluated_as: the augmentation that has the same views of evaluation; empty for itself.
    """

    mirrors: ClassVar[bool]
    evaluated_as: ClassVar[str]

    @property
    def evaluation(self) -> str:
        """How to make the view of evaluation by other means; ``{side}`` stands for its edge."""

    @property
    def evaluation_antialiased(self) -> str:
        """The same of an antialiased view; ``{filter}`` stands for the filter."""

    def train_view(self, image: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
        """One random training view, uint8 [size, size, 3].

        Args:
            image: uint8 [h, w, 3].
            size: edge of the view, pixels.
            rng: source of all chance.
        """

    def train_crop(self, image: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
        """The random part uint8 [h', w', 3] that all antialiased training views are scaled from.

        Args:
            image: uint8 [h, w, 3].
            size: edge of the largest view, pixels.
            rng: source of all chance.
        """

    def eval_view(self, image: np.ndarray, size: int) -> np.ndarray:
        """The view of evaluation, uint8 [size, size, 3]."""

    def eval_antialiased(
        self, image: np.ndarray, sizes: Sequence[int], method: Image.Resampling
    ) -> list[np.ndarray]:
        """The antialiased views of evaluation, uint8 [size, size, 3] each.

        Args:
            image: uint8 [h, w, 3].
            sizes: edges of the views, pixels.
            method: filter of Pillow.
        """


# One line per augmentation: the name that `--augmentation` and a data set give.
AUGMENTATIONS: dict[str, Augmentation] = {
    'area_crop': AreaCrop(),
    'shift': Shift(),
    'shift_only': ShiftOnly(),
    'none': Plain(),
}

# What people call them.
SPELLINGS = {'imagenet': 'area_crop', 'cifar': 'shift'}
# Smallest share of the shortest edge that evaluation may keep.
LEAST_SHARE = 0.1
# Between the name of one that crops and the share that evaluation keeps of the shortest edge.
SHARE = ':'


def named(text: str) -> Augmentation:
    """The augmentation that ``--augmentation`` and records name: NAME, or NAME:SHARE.

    Raises:
        ValueError: there is none, or it cannot keep such a share.

    >>> named('area_crop:0.95').evaluation[:52]
    'scale the shortest edge to round({side} / 0.95) (Ope'
    """
    name, separator, share = text.partition(SHARE)
    if name not in AUGMENTATIONS:
        raise ValueError(f'{text!r}: {unknown(name, [*AUGMENTATIONS, *SPELLINGS])}')
    kind = AUGMENTATIONS[name]
    if not separator:
        return kind
    if not isinstance(kind, AreaCrop):
        raise ValueError(f'{text!r}: {name} has no share to keep; it takes the whole shortest edge')
    try:
        ratio = float(share)
    except ValueError:
        ratio = 0.0
    if not LEAST_SHARE <= ratio <= 1:
        raise ValueError(f'{text!r}: the share must be a number from {LEAST_SHARE} to 1')
    return AreaCrop(ratio)


def parse(text: str) -> str:
    """The augmentation that a flag names, as records spell it.

    Raises:
        ValueError: there is none.

    >>> parse('cifar'), parse('imagenet:0.95')
    ('shift', 'area_crop:0.95')
    """
    name, separator, share = text.partition(SHARE)
    spelled = SPELLINGS.get(name, name) + separator + share
    named(spelled)
    return spelled


def completed(text: str, default: str) -> str:
    """An augmentation of which only the share is given, as ``--crop`` leaves it, or a whole one.

    Args:
        text: ``:SHARE``, or a whole spelling.
        default: whose name is taken.

    >>> completed(':0.95', 'area_crop:0.8')
    'area_crop:0.95'
    """
    if not text.startswith(SHARE):
        return text
    return default.partition(SHARE)[0] + text


def evaluated_as(text: str) -> str:
    """The simplest augmentation whose views of evaluation are those of this one."""
    return named(text).evaluated_as or text


@dataclasses.dataclass(frozen=True)
class Extra:
    """Augmentation of finished training views, in this order.

    Attributes:
        randaugment: RandAugment, or None.
        erasing: probability of random erasing.
    """

    randaugment: RandAugment | None = None
    erasing: float = 0.0

    def __call__(self, view: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Augment uint8 [size, size, 3], BGR."""
        if self.randaugment:
            view = self.randaugment(view, rng)
        if self.erasing:
            view = random_erasing(view, self.erasing, rng)
        return view


def train_views(
    image: np.ndarray,
    augmentation: str,
    sizes: Sequence[int],
    rng: np.random.Generator,
    *,
    antialias: bool,
    cubic: bool = False,
    extra: Extra | None = None,
) -> list[np.ndarray]:
    """Random training views of one image.

    Args:
        image: uint8 [h, w, 3], BGR.
        augmentation: see ``named``.
        sizes: edges of the views, pixels; exactly one unless `antialias`.
        rng: source of all chance.
        antialias: follow the published PyTorch code; the views then share their crop, but not the
            mirror.
        cubic: with `antialias`: scale with the bilinear or the bicubic filter, drawn once for all
            sizes.
        extra: further augmentation, of the same operations and, up to rounding, the same erased
            place at every size.

    Returns:
        uint8 [size, size, 3], BGR, for each size.

    Raises:
        ValueError: there is no such augmentation, or there are several sizes or `cubic` without
            `antialias`.
    """
    kind = _known(augmentation, antialias, cubic)
    image = not_too_long(image)
    if antialias:
        crop = kind.train_crop(image, max(sizes), rng)
        bicubic = cubic and rng.random() < 0.5
        views = scale_antialiased(crop, sizes, _filter(bicubic))
        if kind.mirrors:
            views = [mirror(view, rng) for view in views]
    else:
        (size,) = sizes
        views = [kind.train_view(image, size, rng)]
    if extra is None:
        return views
    seed = int(rng.integers(2**63))
    return [extra(view, np.random.default_rng(seed)) for view in views]


def eval_views(
    image: np.ndarray,
    augmentation: str,
    sizes: Sequence[int],
    *,
    antialias: bool,
    cubic: bool = False,
) -> list[np.ndarray]:
    """The views of evaluation that belong to an augmentation.

    Args:
        image: uint8 [h, w, 3], BGR.
        augmentation: see ``named``.
        sizes: edges of the views, pixels; exactly one unless `antialias`.
        antialias: follow the published PyTorch code; each view is then made from the full image.
        cubic: with `antialias`: scale with the bicubic filter, not the bilinear one.

    Returns:
        uint8 [size, size, 3], BGR, for each size. With ``shift``, an image of this size is returned
        unchanged.

    Raises:
        ValueError: there is no such augmentation, or there are several sizes or `cubic` without
            `antialias`.
    """
    kind = _known(augmentation, antialias, cubic)
    image = not_too_long(image)
    if antialias:
        return kind.eval_antialiased(image, sizes, _filter(cubic))
    (size,) = sizes
    return [kind.eval_view(image, size)]


def eval_rule(augmentation: str, side: object, *, antialias: bool, cubic: bool = False) -> str:
    """How to make a view of ``eval_views`` by other means, in words.

    Args:
        augmentation: see ``named``.
        side: edge of the view, a number of pixels or what stands for it.
        antialias: as of ``eval_views``.
        cubic: as of ``eval_views``.

    Raises:
        ValueError: there is no such augmentation, or `cubic` without `antialias`.
    """
    kind = _known(augmentation, antialias, cubic)
    rule = kind.evaluation_antialiased if antialias else kind.evaluation
    return rule.format(side=side, filter=_filter(cubic).name)


def _filter(bicubic: bool) -> Image.Resampling:
    return Image.Resampling.BICUBIC if bicubic else Image.Resampling.BILINEAR


def _known(augmentation: str, antialias: bool, cubic: bool) -> Augmentation:
    """The augmentation of a name.

    Raises:
        ValueError: there is none, or a filter is chosen where there is no choice.
    """
    kind = named(augmentation)
    if cubic and not antialias:
        raise ValueError('cubic without antialias: only antialiased views have a choice of filter')
    return kind
