"""Layout of images and labels as arrays in an ``.npz`` file."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from engine import arrays
from engine.data.layouts.layout import Parts, classes_of, entries, numbered, validation
from engine.data.opencv import cv2
from engine.data.sources import ArraySource
from engine.errors import UsageError

# Names of images and labels of a part: as Keras and MedMNIST have them.
NAMES = {
    'train': (('x_train', 'y_train'), ('train_images', 'train_labels'), ('train_x', 'train_y')),
    'val': (('x_val', 'y_val'), ('val_images', 'val_labels'), ('val_x', 'val_y')),
    'test': (('x_test', 'y_test'), ('test_images', 'test_labels'), ('test_x', 'test_y')),
}
# Of all images together; with a mask of those that validate.
TOGETHER = (('image', 'label'), ('images', 'labels'), ('x', 'y'), ('X', 'y'), ('data', 'target'))
MASK = 'test'
CLASSES = ('names', 'classes', 'class_names')


class ArrayFile:
    """An archive of numpy with images uint8 [N, h, w] or [N, h, w, channels] in RGB order."""

    name = 'arrays of an .npz file'
    wanted = (
        'one .npz (or --data FILE.npz) with x_train y_train x_test y_test, or train_images '
        'train_labels val_images val_labels, or image label'
    )

    def recognise(self, root: Path) -> bool:
        """Whether there is one."""
        return _file(root) is not None

    def read(self, root: Path) -> Parts:
        """Read the arrays.

        Raises:
            UsageError: there are no images and labels in it.
        """
        path = _file(root)
        assert path is not None
        found = arrays.read(path, None, 'write it again by numpy.savez')
        parts = _parts(path, found)
        named = [_texts(found[key]) for key in CLASSES if key in found]
        classes, index = classes_of(_texts(parts['train'][1]), path)
        if named:
            classes = tuple(named[0])
        sources = {}
        for part, (images, labels) in parts.items():
            numbers = labels if named else numbered(_texts(labels), index, f'{path}: {part}')
            sources[part] = ArraySource(images, numbers)
        val, note = validation(sources, 'images')
        return Parts(classes, sources['train'], sources.get(val), note)


def _file(root: Path) -> Path | None:
    if root.is_file():
        return root if root.suffix.lower() == '.npz' else None
    names = [name for name in entries(root) if name.lower().endswith('.npz')]
    return root / names[0] if len(names) == 1 else None


def _parts(path: Path, found: Mapping[str, np.ndarray]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Images (BGR or grey) and labels [N] by part.

    Raises:
        UsageError: there are none.
    """
    parts = {}
    for part, pairs in NAMES.items():
        for keys in pairs:
            if set(keys) <= found.keys():
                parts[part] = _pair(path, found, keys)
    if 'train' in parts:
        return parts
    for keys in TOGETHER:
        if set(keys) <= found.keys():
            images, labels = _pair(path, found, keys)
            mask = found.get(MASK)
            if mask is None or mask.dtype != bool or mask.shape != labels.shape:
                return {'train': (images, labels)}
            return {'train': (images[~mask], labels[~mask]), 'val': (images[mask], labels[mask])}
    raise UsageError(
        f'--data: {path}: no images and labels; it has {", ".join(sorted(found)) or "nothing"}, '
        f'expected {ArrayFile.wanted}'
    )


def _pair(
    path: Path, found: Mapping[str, np.ndarray], keys: tuple[str, str]
) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of a part, as a source takes them.

    Raises:
        UsageError: their shapes do not fit together.
    """
    images, labels = (found[key] for key in keys)
    labels = labels.reshape(-1) if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    colours = images.ndim == 4 and images.shape[3] == 3
    fits = (colours or images.ndim == 3) and labels.shape == images.shape[:1]
    if not fits or not images.size or images.dtype.kind not in 'iuf':
        raise UsageError(
            f'--data: {path}: {keys[0]} {images.dtype} {list(images.shape)} and {keys[1]} '
            f'{labels.dtype} {list(labels.shape)}; expected images uint8 [N, h, w] or '
            '[N, h, w, 1 or 3] and N labels'
        )
    if images.dtype == np.uint8 and colours:
        images = np.stack([cv2.cvtColor(image, cv2.COLOR_RGB2BGR) for image in images])
    return images, labels


def _texts(values: np.ndarray) -> list[str]:
    """Labels or names as texts, of which bytes are UTF-8."""
    if values.dtype.kind == 'S':
        values = np.char.decode(values, 'utf-8', 'backslashreplace')
    return list(map(str, values.reshape(-1).tolist()))
