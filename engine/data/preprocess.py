"""One image batch at every input size: normalised once, resized once per size by the rule of the run."""

from collections.abc import Sequence

from quant.backend import tf

# ImageNet statistics of the [0, 1] range in BGR order, as the RS-Nets quantization code uses them.
MEAN = (0.406, 0.456, 0.485)
STD = (0.225, 0.224, 0.229)

# Input rule -> whether the colour order is reversed to RGB, and what is subtracted and divided by in BGR order.
RULES: dict[str, tuple[bool, tuple[float, ...], tuple[float, ...]]] = {
    'normalized_bgr': (False, MEAN, STD),
    'normalized_rgb': (True, MEAN, STD),
    'cifar_rgb': (True, (0.4465, 0.4822, 0.4914), (0.2010, 0.1994, 0.2023)),
    'cifar10_rgb': (True, (0.4467, 0.4824, 0.4914), (0.2616, 0.2435, 0.2471)),
    'cifar100_rgb': (True, (0.4408, 0.4867, 0.5071), (0.2761, 0.2565, 0.2675)),
    'unit_rgb': (True, (), ()),
}


def views(
    images: Sequence[tf.Tensor], sizes: Sequence[int], *, resize: str, inputs: str, data_format: str
) -> dict[int, tf.Tensor]:
    """Views of a batch as the network takes them.

    Args:
        images: uint8 [N, H, H, 3], BGR: one batch, or with ``antialias`` one for each of ``sizes``.
        sizes: side lengths in pixels.
        resize: ``nearest``: source index floor(i * H / size) in float32, as published (normalise first, then
            subsample); ``area``: mean over the source area, for small images; ``antialias...``: done while loading.
        inputs: one of ``RULES``.
        data_format: of the result.

    Returns:
        {size: float32 [N, size, size, 3]} or [N, 3, size, size].
    """
    values = [_values(batch, inputs) for batch in images]
    if not resize.startswith('antialias'):
        method = {'nearest': tf.image.resize_nearest_neighbor, 'area': tf.image.resize_area}[resize]
        values = [
            values[0] if size == values[0].shape[1] else method(values[0], [size, size])
            for size in sizes
        ]
    if data_format == 'NCHW':
        values = [tf.transpose(view, [0, 3, 1, 2]) for view in values]
    return dict(zip(sizes, values))


def _values(images: tf.Tensor, inputs: str) -> tf.Tensor:
    rgb, mean, deviation = RULES[inputs]
    # Bytes are reversed in a quarter of the time of floats.
    values = tf.cast(tf.reverse(images, [3]) if rgb else images, tf.float32) / 255.0
    if not mean:
        return values
    order, (height, width, channels) = slice(None, None, -1 if rgb else 1), images.shape[1:]
    # One vector for a row of pixels: a broadcast over three channels takes more than twice the time on the CPU.
    rows = tf.reshape(values, [-1, height, width * channels])
    return tf.reshape(
        (rows - mean[order] * width) / (deviation[order] * width), [-1, height, width, channels]
    )
