"""Preprocessing in the graph: normalises a batch once and resizes it once per input size."""

from collections.abc import Sequence

from engine.data import inputs
from engine.data.preprocessing import Preprocessing
from quant.backend import tf

_RESIZE = {'nearest': tf.image.resize_nearest_neighbor, 'area': tf.image.resize_area}


def views(
    images: Sequence[tf.Tensor], preprocessing: Preprocessing, data_format: str
) -> dict[int, tf.Tensor]:
    """A batch as the network takes it.

    With ``nearest`` the source index is floor(i * H / size) in float32, and normalisation comes
    first, as published. With ``area`` every pixel is the mean over its source area.

    Args:
        images: uint8 [N, H, H, 3], BGR: one for each of ``preprocessing.view_sizes``.
        preprocessing: of the run.
        data_format: ``NHWC`` or ``NCHW``, of the result.

    Returns:
        {size: float32 [N, size, size, 3]} or [N, 3, size, size].
    """
    rule = inputs.parse(preprocessing.inputs)
    values = [_normalized(batch, rule) for batch in images]  # [N, H, H, 3]
    if not preprocessing.antialias:
        values = [_resized(values[0], size, preprocessing.resize) for size in preprocessing.sizes]
    if data_format == 'NCHW':
        values = [tf.transpose(view, [0, 3, 1, 2]) for view in values]
    return dict(zip(preprocessing.sizes, values))


def _resized(values: tf.Tensor, size: int, resize: str) -> tf.Tensor:
    if size == values.shape[1]:
        return values
    return _RESIZE[resize](values, [size, size])


def _normalized(images: tf.Tensor, rule: inputs.InputRule) -> tf.Tensor:
    if rule.rgb:
        # Bytes are reversed in a quarter of the time of floats.
        images = tf.reverse(images, [3])
    values = tf.cast(images, tf.float32) / 255.0
    if not rule.mean:
        return values
    height, width, channels = images.shape[1:]
    # One vector for a row of pixels: a broadcast over three channels takes more than twice the time
    # on the CPU.
    rows = tf.reshape(values, [-1, height, width * channels])
    normalized = (rows - rule.mean * width) / (rule.std * width)
    return tf.reshape(normalized, [-1, height, width, channels])
