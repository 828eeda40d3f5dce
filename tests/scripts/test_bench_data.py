"""The data benchmark: all frameworks make the same pictures, or it would compare different work."""

import json
from itertools import islice

import cv2
import numpy as np
import pytest

from engine.errors import UsageError
from scripts.bench import data, decoders
from scripts.bench.data_paths import BASE, FRAMEWORKS, SIZE, our_flow
from scripts.bench.image_files import make_folder

FILES = 10


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp('files')
    assert 50 < make_folder(root, FILES) < 200
    return root


def images(folder, name, part):
    flow = FRAMEWORKS[name](folder, part)
    if hasattr(flow, 'reset_state'):
        flow.reset_state()
    found = [
        item if isinstance(item, np.ndarray) else np.asarray(item[0]).reshape(SIZE, SIZE, 3)
        for item in islice(flow, FILES)
    ]
    assert {(image.shape, image.dtype) for image in found} == {((SIZE, SIZE, 3), np.dtype('uint8'))}
    return found


def test_everybody_validates_on_the_same_pictures(folder):
    ours = images(folder, 'ours', 'val')
    for image, other in zip(ours, images(folder, BASE, 'val'), strict=True):
        np.testing.assert_array_equal(image, other)
    for name in ('tf.data', 'Pillow'):
        for image, other in zip(ours, images(folder, name, 'val'), strict=True):
            # Less the noise, which antialiasing takes away; both others are RGB.
            soft, expected = (cv2.blur(x, (9, 9)).astype(int) for x in (other[..., ::-1], image))
            assert np.abs(soft - expected).mean() < 4


@pytest.mark.parametrize('name', FRAMEWORKS)
def test_everybody_trains_on_random_crops_of_all_pictures(folder, name):
    found = images(folder, name, 'train')
    assert len(found) == FILES
    assert len({image.tobytes() for image in found}) == FILES


def test_decoders_give_the_pixels_of_opencv(folder):
    """A crop that is decoded alone differs where its border cuts through shared colours."""
    chosen = decoders.files(folder)
    assert len(chosen) == FILES
    rows = {row['decoder']: row for row in decoders.measured(chosen, 1)}
    assert rows['OpenCV']['largest error'] == 0
    assert rows['OpenCV']['its speed / OpenCV'] == 1
    assert rows['TensorFlow, crop alone']['mean error'] < 0.05
    for name, row in rows.items():
        assert row['CPU ms'] > 0
        if name == 'simplejpeg':
            assert row['largest error'] == 0


def test_a_graph_consumes_the_batches(folder):
    flow = our_flow(folder, 'train', 4, 2)
    assert 0 < data.through_graph(iter(flow), 3) < 60


def test_ratio_is_the_median_over_rounds():
    assert data.ratio([2, 9, 30], [1, 3, 5]) == 3


def test_line_of_json(capsys, monkeypatch):
    monkeypatch.setattr(
        data,
        'pipelines',
        lambda root, batch_size, count, rounds: {
            name: np.full((rounds, 2), 10 * (k + 1)) for k, name in enumerate(data.PIPELINES)
        },
    )
    monkeypatch.setattr(
        data,
        'one_core',
        lambda root, part, images, rounds: {
            name: [k + 1.0] * rounds for k, name in enumerate(FRAMEWORKS)
        },
    )
    data.data(['--images', '4', '--batch_size', '2', '--rounds', '2'])
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line['bench'] == 'data' and line['ratio'] == {'train': 2, 'val': 2}
    assert line['pipeline_ratio']['ours, 1 worker'] == [0.5, 0.5]


@pytest.mark.parametrize(
    'flags, said',
    [
        (['--rounds', '0'], '--rounds 0: must be at least 1'),
        (['--images', '8', '--batch_size', '9'], '--images 8: must be at least 9'),
        (['--images', '1', '--batch_size', '1'], '--images 1: must be at least 2'),
    ],
)
def test_refusals(flags, said):
    with pytest.raises(UsageError, match=said):
        data.data(flags)
