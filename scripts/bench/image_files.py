"""Made-up image files for benchmarks and tests, in the sizes and the layout of ILSVRC2012."""

from pathlib import Path

import numpy as np
from PIL import Image

from engine.data.opencv import cv2

# Height and width that ILSVRC2012 mostly holds, pixels.
SHAPES = ((375, 500), (375, 500), (500, 375), (333, 500), (480, 640))
CLASSES = 10
QUALITY = 92


def picture(
    rng: np.random.Generator, height: int, width: int, *, noise: float = 12.0
) -> np.ndarray:
    """Soft blobs under noise; as a JPEG about as large as a photograph.

    Args:
        rng: source of all chance.
        height: pixels.
        width: pixels.
        noise: its standard deviation, grey levels.

    Returns:
        uint8 [height, width, 3], RGB.
    """
    small = rng.integers(256, size=(height // 24 + 2, width // 24 + 2, 3), dtype=np.uint8)
    blobs = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    noisy = blobs + rng.normal(0, noise, blobs.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def make_folder(root: Path, images: int) -> float:
    """Write train/CLASS, flat val, and in meta/ the lists of tensorpack's ILSVRC12.

    Args:
        root: folder to write to.
        images: files of each part.

    Returns:
        Mean size of a file, kB.
    """
    rng = np.random.default_rng(0)
    (root / 'meta').mkdir()
    sizes = []
    for part in ('train', 'val'):
        lines = []
        for i in range(images):
            label = i % CLASSES
            name = f'n{label:08}/{i}.JPEG' if part == 'train' else f'ILSVRC2012_val_{i:08}.JPEG'
            path = root / part / name
            path.parent.mkdir(parents=True, exist_ok=True)
            image = picture(rng, *SHAPES[i % len(SHAPES)])
            Image.fromarray(image).save(path, quality=QUALITY)
            lines.append(f'{name} {label}\n')
            sizes.append(path.stat().st_size)
        (root / 'meta' / f'{part}.txt').write_text(''.join(lines))
    synsets = [f'n{label:08}\n' for label in range(CLASSES)]
    (root / 'meta' / 'synsets.txt').write_text(''.join(synsets))
    return float(np.mean(sizes)) / 1e3
