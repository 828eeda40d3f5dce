"""One image batch at every input size: normalised once, resized once per size by the rule of the run."""

from collections.abc import Iterable

from quant.backend import tf

# ImageNet statistics of the [0, 1] range in BGR order, as the RS-Nets quantization code uses them.
MEAN = (0.406, 0.456, 0.485)
STD = (0.225, 0.224, 0.229)


def views(images: tf.Tensor, sizes: Iterable[int], *, resize: str, data_format: str) -> dict[int, tf.Tensor]:
    """Normalised views of a batch.

    Args:
        images: uint8 [N, H, H, 3], BGR.
        sizes: side lengths in pixels.
        resize: ``nearest``: source index floor(i * H / size) in float32, as published (normalise first, then
            subsample); ``area``: mean over the source area, for small images.
        data_format: of the result.

    Returns:
        {size: float32 [N, size, size, 3]} or [N, 3, size, size].
    """
    x = (tf.cast(images, tf.float32) / 255.0 - MEAN) / STD
    method = {'nearest': tf.image.resize_nearest_neighbor, 'area': tf.image.resize_area}[resize]
    result = {}
    for size in sizes:
        view = x if size == images.shape[1] else method(x, [size, size])
        result[size] = view if data_format == 'NHWC' else tf.transpose(view, [0, 3, 1, 2])
    return result
