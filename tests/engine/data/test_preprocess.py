"""Views in the graph: the area resize as matrix products, equal to TensorFlow's own."""

import numpy as np
import pytest

from engine.data.preprocess import overlap, views
from engine.data.preprocessing import Preprocessing
from quant.backend import tf

LENGTHS = ((28, (24, 20, 16, 12, 28, 32, 56)), (32, (28, 24, 20, 16)), (224, (192, 160, 128, 96)))


def area_rule(length: int, sizes: tuple[int, ...]) -> Preprocessing:
    return Preprocessing('shift', length, sizes, 'area', 'rgb:0.49,0.48,0.45:0.25,0.24,0.26')


@pytest.mark.parametrize('data_format', ['NHWC', 'NCHW'])
@pytest.mark.parametrize('length, sizes', LENGTHS)
def test_area_means_are_those_of_tensorflow(length, sizes, data_format):
    rng = np.random.default_rng(length)
    images = rng.integers(256, size=(2, length, length, 3), dtype=np.uint8)
    rule = area_rule(length, sizes)
    with tf.Graph().as_default() as graph, tf.Session() as session:
        feed = tf.placeholder(tf.uint8, [None, length, length, 3])
        found = views([feed], rule, data_format)
        kinds = {op.type for op in graph.get_operations()}
        means = np.float32([0.49, 0.48, 0.45])
        deviations = np.float32([0.25, 0.24, 0.26])
        normalized = (images[..., ::-1] / np.float32(255) - means) / deviations
        expected = {}
        for size in sizes:
            expected[size] = tf.image.resize_area(tf.constant(normalized), [size, size])
        found, expected = session.run([found, expected], {feed: images})
    assert 'ResizeArea' not in kinds
    for size in sizes:
        value = found[size] if data_format == 'NHWC' else found[size].transpose(0, 2, 3, 1)
        assert value.shape == (2, size, size, 3)
        np.testing.assert_allclose(value, expected[size], rtol=0, atol=2e-6)


@pytest.mark.parametrize('length, size', [(5, 3), (3, 5), (28, 12), (12, 28), (7, 7), (2, 9)])
def test_overlap_is_the_share_of_the_source_pixels(length, size):
    found = overlap(length, size)
    fine = np.zeros((size, length))  # counted in parts of which both pixels are whole numbers
    for part in range(size * length):
        fine[part // length, part // size] += 1 / length
    np.testing.assert_allclose(found, fine, atol=4e-6)
