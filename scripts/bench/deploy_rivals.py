"""8-bit networks as others make them of a float one: the yardstick of our exported files.

Both look at a few training images for the ranges of activations, and round what training left in
float. Each makes an ONNX file with quantize and dequantize operations.
"""

import importlib.util
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from onnx import version_converter
from onnxruntime import quantization
from onnxruntime.quantization.shape_inference import quant_pre_process

from engine.deployment.names import IMAGES

# Oldest operator set in which a scale may belong to a channel.
PER_CHANNEL = 13


class Rival(NamedTuple):
    """One way of others.

    Attributes:
        package: that it needs.
        runtime: that it is made for.
        make: of a float model and images [N, side, side, 3], the 8-bit model.
    """

    package: str
    runtime: str
    make: Callable[[onnx.ModelProto, np.ndarray], onnx.ModelProto]


def by_onnxruntime(model: onnx.ModelProto, images: np.ndarray) -> onnx.ModelProto:
    """Static quantization of ONNX Runtime, weights by channel.

    Args:
        model: in float.
        images: that it looks at.
    """

    class Images(quantization.CalibrationDataReader):
        """Images one by one."""

        def __init__(self) -> None:
            self._rest: Iterator[np.ndarray] = iter(images)

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self._rest, None)
            if image is None:
                return None
            return {IMAGES: image[None]}

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / 'int8.onnx'
        quantization.quantize_static(model, out, Images(), per_channel=True)
        return onnx.load(out)


def by_nncf(model: onnx.ModelProto, images: np.ndarray) -> onnx.ModelProto:
    """Post-training quantization of NNCF, OpenVINO's own tool.

    Args:
        model: in float.
        images: that it looks at.
    """
    import nncf

    examples = nncf.Dataset(list(images), lambda image: {IMAGES: image[None]})
    return nncf.quantize(model, examples, subset_size=len(images))


RIVALS = {
    'int8 by ONNX Runtime': Rival('onnxruntime', 'onnxruntime', by_onnxruntime),
    'int8 by NNCF': Rival('nncf', 'openvino', by_nncf),
}


def make(name: str, float_file: Path, images: np.ndarray, out: Path) -> bool:
    """Writes an 8-bit file; whether the package that makes it is there.

    Args:
        name: one of ``RIVALS``.
        float_file: ONNX file of one operating point in float.
        images: training images as the file takes them.
        out: file to write.
    """
    if not importlib.util.find_spec(RIVALS[name].package):
        return False
    model = version_converter.convert_version(onnx.load(float_file), PER_CHANNEL)
    with tempfile.TemporaryDirectory() as folder:
        given, prepared = Path(folder) / 'given.onnx', Path(folder) / 'prepared.onnx'
        onnx.save(model, given)
        # Both tools want the constants computed.
        quant_pre_process(given, prepared, skip_symbolic_shape=True)
        model = onnx.load(prepared)
    onnx.save(RIVALS[name].make(model, images), out)
    return True
