"""From a decoded image of any size to a square training or validation view: numpy and OpenCV only.

Every function takes and returns uint8 [h, w, 3] in BGR order and never writes to its input. All chance comes from
the `numpy.random.Generator` that is handed in, so that a view is a pure function of (image, generator).

Two recipes exist, named by `Dataset.augment`:

* 'area_crop': random area crop, PCA lighting and mirror, as LQ-Nets and RS-Nets train on ImageNet; validation takes
  the shortest edge to size / 0.875 and cuts the centre.
* 'shift': translation by up to size // 8 pixels and mirror, for sets of small images; validation takes the image
  as it is.
"""

import math

import cv2
import numpy as np

AREA_TRIES = 10
AREA_RANGE = (0.08, 1.0)
ASPECT_RANGE = (0.75, 1.333)
SHIFT_DIVISOR = 8  # 3 pixels for 28, 4 for 32: the usual padding of CIFAR

# PCA of the ImageNet pixels (Krizhevsky et al. 2012), with the numbers of fb.resnet.torch. They are published in RGB
# order; both axes are reversed because images are BGR and each eigenvalue has to stay with its vector.
LIGHTING_STD = 0.1
EIGENVALUES = np.array([0.2175, 0.0188, 0.0045])[::-1] * 255.0
EIGENVECTORS = np.array([[-0.5675, 0.7192, 0.4009],
                         [-0.5808, -0.0045, -0.8140],
                         [-0.5836, -0.6948, 0.4203]])[::-1, ::-1]


def train_view(image: np.ndarray, augment: str, size: int, rng: np.random.Generator) -> np.ndarray:
    """One random training view.

    Args:
        image: uint8 [h, w, 3], BGR.
        augment: 'area_crop' or 'shift'.
        size: edge of the view, pixels.
        rng: source of all chance.

    Returns:
        uint8 [size, size, 3], BGR.

    Raises:
        ValueError: `augment` is not a recipe.
    """
    if augment == 'area_crop':
        return mirror(lighting(area_crop(image, size, rng), rng), rng)
    if augment == 'shift':
        return mirror(shift(_fit(image, size), size // SHIFT_DIVISOR, rng), rng)
    raise ValueError(f"augment is {augment!r}, expected 'area_crop' or 'shift'")


def eval_view(image: np.ndarray, augment: str, size: int) -> np.ndarray:
    """The validation view that belongs to a training recipe.

    Args:
        image: uint8 [h, w, 3], BGR.
        augment: 'area_crop' or 'shift'.
        size: edge of the view, pixels.

    Returns:
        uint8 [size, size, 3], BGR. With 'shift', an image that has this size already is returned unchanged.

    Raises:
        ValueError: `augment` is not a recipe.
    """
    if augment == 'area_crop':
        return centre_crop(image, size)
    if augment == 'shift':
        return _fit(image, size)
    raise ValueError(f"augment is {augment!r}, expected 'area_crop' or 'shift'")


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
            crop = image[top:top + crop_height, left:left + crop_width]
            return cv2.resize(crop, (size, size), interpolation=cv2.INTER_CUBIC)
    return centre_crop(image, size, ratio=1.0)


def lighting(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add one colour to all pixels, drawn along the principal components of the ImageNet pixels.

    The sum is clipped to 0..255 and its fraction cut off, as in the published code.

    Args:
        image: uint8 [h, w, 3], BGR.
        rng: source of all chance.

    Returns:
        uint8 [h, w, 3].
    """
    colour = EIGENVECTORS @ (rng.normal(scale=LIGHTING_STD, size=3) * EIGENVALUES)
    return np.clip(image + colour.astype(np.float32), 0, 255).astype(np.uint8)


def mirror(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Swap left and right with probability 1/2.

    Args:
        image: uint8 [h, w, 3].
        rng: source of all chance.

    Returns:
        uint8 [h, w, 3].
    """
    return cv2.flip(image, 1) if rng.random() < 0.5 else image


def shift(image: np.ndarray, pixels: int, rng: np.random.Generator) -> np.ndarray:
    """Move by -pixels..pixels in both directions; the border pixels are repeated into the gap.

    Args:
        image: uint8 [h, w, 3].
        pixels: largest move, pixels.
        rng: source of all chance.

    Returns:
        uint8 [h, w, 3].
    """
    height, width = image.shape[:2]
    top, left = rng.integers(2 * pixels + 1, size=2)
    padded = cv2.copyMakeBorder(image, pixels, pixels, pixels, pixels, cv2.BORDER_REPLICATE)
    return padded[top:top + height, left:left + width]


def centre_crop(image: np.ndarray, size: int, *, ratio: float = 0.875) -> np.ndarray:
    """Scale the shortest edge to size / ratio (cubic) and cut the centre.

    Args:
        image: uint8 [h, w, 3].
        size: edge of the result, pixels.
        ratio: result edge over scaled shortest edge, in (0, 1]. 0.875 is 224 out of 256.

    Returns:
        uint8 [size, size, 3].
    """
    return _centre(_scale_shortest(image, round(size / ratio), cv2.INTER_CUBIC), size)


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


def _centre(image: np.ndarray, size: int) -> np.ndarray:
    """The middle uint8 [size, size, 3]; an odd pixel stays at the bottom or right."""
    top, left = ((edge - size) // 2 for edge in image.shape[:2])
    return image[top:top + size, left:left + size]
