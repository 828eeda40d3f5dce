"""From a decoded image of any size to square training or validation views: numpy, OpenCV and Pillow only.

Every function takes and returns uint8 [h, w, 3] in BGR order and never writes to its input. All chance comes from
the `numpy.random.Generator` that is handed in, so that views are a pure function of (image, generator).

Two recipes exist, named by `Dataset.augment`:

* 'area_crop': random area crop, PCA lighting and mirror, as LQ-Nets and RS-Nets train on ImageNet; validation takes
  the shortest edge to size / 0.875 and cuts the centre.
* 'shift': translation by up to size // 8 pixels and mirror, for sets of small images; validation takes the image
  as it is.

Each makes one view, from which the graph makes the sizes, or with `antialias` all sizes, as the PyTorch code of RS-Nets
does: one crop or shift for all, scaled with Pillow's antialiased bilinear filter, mirrored per size, no lighting.
With `cubic` in addition, as timm: training draws the bilinear or the bicubic filter, validation takes the bicubic one.
Training views of every kind can get `Extra` augmentation at the end.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from engine.data.opencv import cv2
from engine.data.randaugment import RandAugment, random_erasing

RECIPES = ('area_crop', 'shift')
CENTRE_RATIO = 0.875  # 224 out of 256
LONGEST = 128  # shortest edges; ends of longer images are never seen
AREA_TRIES = 10
AREA_RANGE = (0.08, 1.0)
ASPECT_RANGE = (0.75, 1.333)
LOG_ASPECT_RANGE = (math.log(3 / 4), math.log(4 / 3))
SHIFT_DIVISOR = 8  # 3 pixels for 28, 4 for 32: the usual padding of CIFAR

# PCA of the ImageNet pixels (Krizhevsky et al. 2012), with the numbers of fb.resnet.torch. They are published in RGB
# order; both axes are reversed because images are BGR and each eigenvalue has to stay with its vector.
LIGHTING_STD = 0.1
EIGENVALUES = np.array([0.2175, 0.0188, 0.0045])[::-1] * 255.0
EIGENVECTORS = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
)[::-1, ::-1]


@dataclasses.dataclass(frozen=True)
class Extra:
    """What is done to finished training views, in this order.

    Attributes:
        randaugment: RandAugment, or None.
        erasing: probability of random erasing.
    """

    randaugment: RandAugment | None = None
    erasing: float = 0.0

    def __call__(self, view: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Augment uint8 [size, size, 3], BGR."""
        view = self.randaugment(view, rng) if self.randaugment else view
        return random_erasing(view, self.erasing, rng) if self.erasing else view


def train_views(
    image: np.ndarray,
    augment: str,
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
        augment: 'area_crop' or 'shift'.
        sizes: edges of the views, pixels; exactly one unless `antialias`.
        rng: source of all chance.
        antialias: follow the published PyTorch code; the views then share their crop or shift, but not the mirror.
        cubic: with `antialias`: scale with the bilinear or the bicubic filter, drawn once for all sizes.
        extra: further augmentation, of the same operations and, up to rounding, the same erased place at every size.

    Returns:
        uint8 [size, size, 3], BGR, for each size.

    Raises:
        ValueError: `augment` is not a recipe, or there are several sizes or `cubic` without `antialias`.
    """
    _check_recipe(augment, antialias, cubic)
    image = _not_too_long(image)
    views = (
        _antialiased_views(image, augment, sizes, rng, cubic)
        if antialias
        else _plain_views(image, augment, sizes, rng)
    )
    if extra is None:
        return views
    seed = int(rng.integers(2**63))
    return [extra(view, np.random.default_rng(seed)) for view in views]


def eval_views(
    image: np.ndarray, augment: str, sizes: Sequence[int], *, antialias: bool, cubic: bool = False
) -> list[np.ndarray]:
    """The validation views that belong to a training recipe.

    Args:
        image: uint8 [h, w, 3], BGR.
        augment: 'area_crop' or 'shift'.
        sizes: edges of the views, pixels; exactly one unless `antialias`.
        antialias: follow the published PyTorch code; each view is then made from the full image.
        cubic: with `antialias`: scale with the bicubic filter, not the bilinear one.

    Returns:
        uint8 [size, size, 3], BGR, for each size. With 'shift', an image of this size is returned unchanged.

    Raises:
        ValueError: `augment` is not a recipe, or there are several sizes or `cubic` without `antialias`.
    """
    _check_recipe(augment, antialias, cubic)
    image = _not_too_long(image)
    method = Image.Resampling.BICUBIC if cubic else Image.Resampling.BILINEAR
    if antialias and augment == 'area_crop':
        picture = Image.fromarray(image)
        return [_antialiased_centre(picture, size, method) for size in sizes]
    if antialias:
        return scale_antialiased(_centre(image, min(image.shape[:2])), sizes, method)
    (size,) = sizes
    return [centre_crop(image, size) if augment == 'area_crop' else _fit(image, size)]


def area_crop(image: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Cut a random rectangle and scale it to a square (Szegedy et al. 2015, section 6).

    The area is U(0.08, 1) of the image, the aspect ratio U(0.75, 1.333), inverted with probability 1/2. A rectangle
    that does not fit is drawn again, up to ten times; then the shortest edge is scaled and the centre cut.

    The published code draws the offset below w - ww with the upper end excluded, so that the last row and the last
    column are never reached by a rectangle smaller than the image. Here every position is equally likely.

    Args:
        image: uint8 [h, w, 3].
        size: edge of the result, pixels.
        rng: source of all chance.

    Returns:
        uint8 [size, size, 3].
    """
    height, width = image.shape[:2]
    for _ in range(AREA_TRIES):
        crop_height, crop_width = _draw_rectangle(height * width, rng)
        if crop_height <= height and crop_width <= width:
            top = int(rng.integers(height - crop_height + 1))
            left = int(rng.integers(width - crop_width + 1))
            crop = image[top : top + crop_height, left : left + crop_width]
            return cv2.resize(crop, (size, size), interpolation=cv2.INTER_CUBIC)
    return centre_crop(image, size, ratio=1.0)


def random_crop(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Cut a random rectangle, at its native size, by the rule of torchvision.

    The area is U(0.08, 1) of the image, the aspect ratio log-uniform in [3/4, 4/3]. A rectangle that does not fit, or
    is empty (which the published code lets fail), is drawn again, up to ten times; then the largest centred one is cut.

    Returns:
        uint8 [h, w, 3], a part of `image`.
    """
    height, width = image.shape[:2]
    for _ in range(AREA_TRIES):
        target = height * width * rng.uniform(*AREA_RANGE)
        aspect = math.exp(rng.uniform(*LOG_ASPECT_RANGE))
        crop_width, crop_height = (
            round(math.sqrt(target * aspect)),
            round(math.sqrt(target / aspect)),
        )
        if 0 < crop_width <= width and 0 < crop_height <= height:
            top = int(rng.integers(height - crop_height + 1))
            left = int(rng.integers(width - crop_width + 1))
            return image[top : top + crop_height, left : left + crop_width]
    height, width = min(height, round(width * 4 / 3)), min(width, round(height * 4 / 3))
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def scale_antialiased(
    image: np.ndarray, sizes: Sequence[int], method: Image.Resampling = Image.Resampling.BILINEAR
) -> list[np.ndarray]:
    """Scale to uint8 [size, size, 3] for each size with a filter of Pillow, which averages when it shrinks.

    Args:
        image: uint8 [h, w, 3].
        sizes: edges of the results, pixels. An image of this size is returned as it is.
        method: the filter.
    """
    picture = Image.fromarray(image)
    return [
        image
        if image.shape[:2] == (size, size)
        else np.asarray(picture.resize((size, size), method))
        for size in sizes
    ]


def lighting(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add one colour to all pixels, drawn along the principal components of the ImageNet pixels.

    The sum is clipped to 0..255 and its fraction cut off, as in the published code.

    Args:
        image: uint8 [h, w, 3], BGR, as the result.
        rng: source of all chance.
    """
    colour = EIGENVECTORS @ (rng.normal(scale=LIGHTING_STD, size=3) * EIGENVALUES)
    # What truncation of the sum gives, on bytes.
    return cv2.add(image, (*np.floor(colour.astype(np.float32)).tolist(), 0.0))


def mirror(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Swap left and right of uint8 [h, w, 3] with probability 1/2."""
    return cv2.flip(image, 1) if rng.random() < 0.5 else image


def shift(image: np.ndarray, pixels: int, rng: np.random.Generator) -> np.ndarray:
    """Move by -pixels..pixels in both directions; the border pixels are repeated into the gap.

    Args:
        image: uint8 [h, w, 3], as the result.
        pixels: largest move, pixels.
        rng: source of all chance.
    """
    height, width = image.shape[:2]
    top, left = rng.integers(2 * pixels + 1, size=2)
    padded = cv2.copyMakeBorder(image, pixels, pixels, pixels, pixels, cv2.BORDER_REPLICATE)
    return padded[top : top + height, left : left + width]


def centre_crop(image: np.ndarray, size: int, *, ratio: float = CENTRE_RATIO) -> np.ndarray:
    """Scale the shortest edge to size / ratio (cubic) and cut the centre.

    Args:
        image: uint8 [h, w, 3].
        size: edge of the result, pixels.
        ratio: result edge over scaled shortest edge, in (0, 1].

    Returns:
        uint8 [size, size, 3].
    """
    return _centre(_scale_shortest(image, round(size / ratio), cv2.INTER_CUBIC), size)


def _check_recipe(augment: str, antialias: bool, cubic: bool) -> None:
    """Raise ValueError unless `augment` is a recipe, and the filter is chosen where there is one."""
    if augment not in RECIPES:
        raise ValueError(f"augment is {augment!r}, expected 'area_crop' or 'shift'")
    if cubic and not antialias:
        raise ValueError('cubic without antialias: only antialiased views have a choice of filter')


def _plain_views(
    image: np.ndarray, augment: str, sizes: Sequence[int], rng: np.random.Generator
) -> list[np.ndarray]:
    """The one training view uint8 [size, size, 3] without `antialias`."""
    (size,) = sizes
    if augment == 'area_crop':
        return [mirror(lighting(area_crop(image, size, rng), rng), rng)]
    return [mirror(shift(_fit(image, size), size // SHIFT_DIVISOR, rng), rng)]


def _antialiased_views(
    image: np.ndarray, augment: str, sizes: Sequence[int], rng: np.random.Generator, cubic: bool
) -> list[np.ndarray]:
    """The training views uint8 [size, size, 3] with `antialias`."""
    largest = max(sizes)
    shared = (
        random_crop(image, rng)
        if augment == 'area_crop'
        else shift(_fit(image, largest), largest // SHIFT_DIVISOR, rng)
    )
    method = Image.Resampling.BICUBIC if cubic and rng.random() < 0.5 else Image.Resampling.BILINEAR
    return [mirror(view, rng) for view in scale_antialiased(shared, sizes, method)]


def _draw_rectangle(area: int, rng: np.random.Generator) -> tuple[int, int]:
    """Height and width (pixels, at least 1) of a random rectangle, for an image of `area` pixels."""
    target = rng.uniform(*AREA_RANGE) * area
    aspect = rng.uniform(*ASPECT_RANGE)
    width = max(1, math.floor(math.sqrt(target * aspect) + 0.5))
    height = max(1, math.floor(math.sqrt(target / aspect) + 0.5))
    return (width, height) if rng.random() < 0.5 else (height, width)


def _fit(image: np.ndarray, size: int) -> np.ndarray:
    """The centre square scaled to uint8 [size, size, 3]; untouched if it is that already."""
    if image.shape[:2] == (size, size):
        return image
    # Cubic does not average when it shrinks: a 12 pixel view of a 28 pixel drawing would lose its thin lines.
    method = cv2.INTER_AREA if min(image.shape[:2]) > size else cv2.INTER_CUBIC
    return _centre(_scale_shortest(image, size, method), size)


def _scale_shortest(image: np.ndarray, edge: int, method: int) -> np.ndarray:
    """Scale to a shortest edge of `edge` pixels, the other one rounded to the nearest pixel."""
    height, width = image.shape[:2]
    scale = edge / min(height, width)
    shape = (math.floor(width * scale + 0.5), math.floor(height * scale + 0.5))
    return image if shape == (width, height) else cv2.resize(image, shape, interpolation=method)


def _not_too_long(image: np.ndarray) -> np.ndarray:
    """The image, or the middle of a line: scaled to the shortest edge, one of 1 x 40000 pixels would take gigabytes."""
    height, width = image.shape[:2]
    longest = LONGEST * min(height, width)
    if max(height, width) <= longest:
        return image
    top, left = ((edge - min(edge, longest)) // 2 for edge in (height, width))
    return np.ascontiguousarray(image[top : top + longest, left : left + longest])


def _centre(image: np.ndarray, size: int) -> np.ndarray:
    """The middle uint8 [size, size, 3]; an odd pixel stays at the bottom or right."""
    top, left = ((edge - size) // 2 for edge in image.shape[:2])
    return image[top : top + size, left : left + size]


def _antialiased_centre(picture: Image.Image, size: int, method: Image.Resampling) -> np.ndarray:
    """Shortest edge to size / 0.875 and the centre uint8 [size, size, 3], both rounded as in the published code."""
    short = int(size / CENTRE_RATIO)
    width, height = (int(short * edge / min(picture.size)) for edge in picture.size)
    top, left = round((height - size) / 2), round((width - size) / 2)
    scaled = picture.resize((width, height), method)
    return np.asarray(scaled.crop((left, top, left + size, top + size)))
