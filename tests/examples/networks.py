"""Files of scripts.export for the examples: their texts, and whole ones that look trained."""

import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from onnx import helper

from engine.data.preprocessing import Preprocessing
from engine.deployment import description, onnx_file, texts

ROUND = 1e-4  # of what the programs print: four decimals


def described(
    augmentation: str = 'shift',
    resize: str = 'area',
    *,
    side: int = 28,
    dtype: Literal['uint8', 'float32'] = 'uint8',
    **changes,
) -> bytes:
    """A file with the texts of two points, and no network.

    Args:
        augmentation: how images are cut.
        resize: how sizes are made.
        side: of the images of the file.
        dtype: of its input.
        **changes: fields of its texts.
    """
    strong = texts.PointText('s28', side, 28, 93.2, 99.7, 2000, 9_571_712, 26_000)
    cheap = texts.PointText('s12', side, 12, 89.35, 99.0, 2000, 1_758_848, 26_000)
    images = texts.ImageText(
        dtype=dtype,
        layout='NHWC',
        channels='BGR',
        before=(),
        inside=(),
        network_channels='BGR',
        mean=(),
        std=(),
        augmentation=augmentation,
        resize=resize,
        inputs='unit_rgb',
    )
    whole = texts.Texts(
        points=(strong, cheap),
        images=images,
        network=texts.NetworkText('rsnet', 'resnet8', 1.0, 3, 'lq', 'lq', 2, 2, 32, 32),
        source=texts.SourceText('run', 'model-1', 'raw', '0', 'animals28'),
        versions=texts.VersionText('1', '1', 'packed'),
        class_names=('bear', 'böcke', 'cat "tom"'),
    )
    whole = dataclasses.replace(whole, **changes)
    model = helper.make_model(onnx.GraphProto())
    for name, text in whole.spelled().items():
        model.metadata_props.add(key=name, value=text)
    return model.SerializeToString()


def of_cascade(sides: tuple[int, ...] = ()) -> bytes:
    """A file with the texts of a cascade, and no network.

    Args:
        sides: of its further inputs.
    """
    cascade = texts.CascadeText(
        points=('s12', 's28'),
        thresholds=(-0.25, -1e8),
        combine='last',
        temperatures=(1.0, 1.0),
        asked='4M',
        instead='s12',
        identity='0',
        holdout_images=9,
        holdout_top1=95.0,
        holdout_shares=(0.75, 0.25),
        validation_images=9,
        validation_top1=90.0,
        validation_top5=99.0,
        validation_shares=(0.5, 0.5),
        validation_madds=5_000_000,
        sides=sides,
    )
    point = texts.PointText('s12+s28', 28, 28, 90.0, 99.0, 9, 0)
    choices = (texts.ChoiceText('stage', (0, 1), (1_758_848, 11_330_560)),)
    return described(points=(point,), choices=choices, cascade=cascade)


def is_whole(content: bytes) -> bool:
    """Whether bytes are a message, as those are that end between two texts."""
    try:
        onnx.load_model_from_string(content)
    except DecodeError:
        return False
    return True


def seen(image: np.ndarray, augmentation: str, resize: str, side: int) -> np.ndarray:
    """What evaluation makes of an image: uint8 [side, side, 3].

    Args:
        image: uint8 [h, w, 3].
        augmentation: how it is cut.
        resize: how sizes are made.
        side: of the view.
    """
    rule = Preprocessing(augmentation, side, (side,), resize, 'unit_rgb')
    (view,) = rule.eval_views(image)
    return view


def compare_views(found: np.ndarray, image: np.ndarray, augmentation: str, resize: str) -> None:
    """Asserts that a view is that of evaluation, to within a grey level where OpenCV scales.

    Args:
        found: uint8 [side, side, 3].
        image: what it was made of, uint8 [h, w, 3].
        augmentation: how it is cut.
        resize: how sizes are made.
    """
    expected = seen(image, augmentation, resize, len(found))
    difference = np.abs(found.astype(int) - expected)
    # Pillow scales in whole numbers.
    exact = resize.startswith('antialias') or image.shape == found.shape and augmentation == 'shift'
    assert difference.max() <= (0 if exact else 1)
    # Noise is the hardest of images.
    assert (difference > 0).mean() < 0.1


def exported(cell: str, path: Path) -> texts.Texts:
    """Writes all points of a network that looks trained, and gives the texts of the file.

    Args:
        cell: of ``tests.test_grid``.
        path: to make.
    """
    from tests.engine.deployment.test_program import traced

    source, whole = traced(cell)
    about = description.describe(source, whole, 'packed')
    points = []
    for number, point in enumerate(about.points):
        points.append(dataclasses.replace(point, top1=90.0 - number, madds=10**6 - number))
    about = dataclasses.replace(about, points=tuple(points))
    onnx_file.save(whole, path, about.spelled(), packed=True)
    return about


def probabilities(path: Path, images: np.ndarray, place: int) -> np.ndarray:
    """[N, classes] by ONNX Runtime.

    Args:
        path: of the file.
        images: uint8 [N, side, side, 3].
        place: of the point.
    """
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=['CPUExecutionProvider'])
    (logits,) = session.run(None, {'images': images, 'point': np.array([place])})
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
