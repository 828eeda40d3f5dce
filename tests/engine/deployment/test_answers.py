"""Answers of a predictor to paths, pictures and arrays, with a backend that knows colours."""

import gc
import re
import threading
import types
import weakref

import cv2
import numpy as np
import pytest
from PIL import Image

from engine import Predictor
from engine.data.preprocessing import Preprocessing
from engine.deployment import predictor as module
from engine.deployment import views as view_batches
from engine.deployment.backend import Way, answered
from engine.errors import UsageError
from tests.paths import ROOT

NAMES = ('blue', 'green', 'red')
RED = np.zeros((24, 30, 3), np.uint8)
RED[..., 2] = 250  # BGR


class Backend:
    """Answers with the colour of the middle of a view, and keeps what it was asked."""

    points = ['s16', 's12']
    classes = NAMES
    has_exits = False

    def __init__(self):
        self.built = []
        self.counts = []
        self.limits = []

    def at(self, point):
        self.built.append(point)
        size = int(point[1:])
        return Way(
            Preprocessing('area_crop', size, (size,), 'nearest', 'unit_rgb'),
            lambda batch: self.answer(batch, point),
        )

    def answer(self, batch, point):
        (views,) = batch
        self.counts.append(len(views))
        logits = views[:, 5, 5].astype('float32') / 50  # [N, 3]
        return answered(logits, [point] * len(views))

    def within(self, budget, ms=None):
        self.limits.append((budget, ms))
        return types.SimpleNamespace(cascade=None, policy=None, point='s12')

    def leaving_early(self, size, thresholds, deadline_ms):
        if not self.has_exits:
            raise UsageError('no exits')
        self.limits.append(deadline_ms)
        return self.at('s16')


@pytest.fixture
def backend(monkeypatch):
    found = Backend()
    monkeypatch.setattr(module, 'open_backend', lambda *_, **__: found)
    return found


@pytest.fixture
def files(tmp_path):
    paths = []
    for place, name in enumerate(NAMES):
        image = np.zeros((40, 30, 3), np.uint8)
        image[..., place] = 250
        paths.append(tmp_path / f'{name}.png')
        assert cv2.imwrite(str(paths[-1]), image)
    return paths


def test_one_image_of_every_kind(backend, files):
    predictor = Predictor('run')
    grey = np.full((9, 9), 7, np.uint8)
    found = [
        predictor(files[2]),
        predictor(str(files[2])),
        predictor(Image.open(files[2])),
        predictor(Image.open(files[2]).convert('P')),
        predictor(RED, RGB=False),
        predictor(RED[..., ::-1], RGB=True),
    ]
    assert {answer.name for answer in found} == {'red'}
    assert {answer.label for answer in found} == {2}
    for image in (grey, grey[..., None]):
        assert predictor(image).probabilities == pytest.approx([1 / 3] * 3)
    answer = found[0]
    weights = np.exp([0, 0, 5.0])
    assert answer.score == pytest.approx(weights[2] / weights.sum())
    assert answer.point == 's16' and answer.ms > 0 and answer.image == str(files[2])
    assert backend.built == ['s16']


def test_the_most_probable_classes(backend):
    image = np.zeros((20, 20, 3), np.uint8)
    image[...] = (100, 200, 50)
    answer = Predictor('run')(image, RGB=False)
    assert [one.name for one in answer.top(2)] == ['green', 'blue']
    assert [one.label for one in answer.top()] == [1, 0, 2]
    assert sum(one.score for one in answer.top(9)) == pytest.approx(1)
    backend.classes = ()
    assert Predictor('run')(image, RGB=False).name == '1'


def test_several_images_come_one_after_the_other(backend, files, monkeypatch):
    monkeypatch.setattr(view_batches, 'LARGEST_BATCH', 2)
    predictor = Predictor('run', point='s12')
    for images in (files, tuple(files), iter(files), (path for path in files)):
        answers = predictor(images)
        assert [answer.name for answer in answers] == list(NAMES)
        assert backend.counts == [2, 1]
        backend.counts.clear()
    first = next(iter(predictor(files)))
    assert first.name == 'blue' and backend.counts == [2]
    found = list(predictor(np.stack([RED, RED]), RGB=False))
    assert [answer.image for answer in found] == ['image 0', 'image 1']
    assert backend.built == ['s12']


def test_images_that_cannot_be_read(backend, files, tmp_path):
    (tmp_path / 'empty.jpg').touch()
    (tmp_path / 'torn.png').write_bytes(files[0].read_bytes()[:60])
    images = [tmp_path / 'empty.jpg', files[1], tmp_path / 'torn.png', tmp_path / 'none.jpg']
    predictor = Predictor('run')
    bad = {}
    found = list(predictor(images, bad=bad.__setitem__))
    assert [answer.image for answer in found] == [str(files[1])]
    assert set(bad) == {str(images[0]), str(images[2]), str(images[3])}
    assert 'is empty' in bad[str(images[0])] and '--data' not in ''.join(bad.values())
    with pytest.raises(UsageError, match=re.escape(f'{tmp_path}/torn.png is not a complete')):
        list(predictor(images[2:]))


@pytest.mark.parametrize('kind', ['png', 'jpg', 'bmp', 'tiff'])
def test_images_of_pillow_that_cannot_be_read(kind, backend, files, tmp_path):
    """Pillow opens a file that is torn, and fails when pixels are asked for."""
    noise = np.random.default_rng(0).integers(256, size=(60, 60, 3), dtype=np.uint8)
    whole, torn = tmp_path / f'whole.{kind}', tmp_path / f'torn.{kind}'
    Image.fromarray(noise).save(whole)
    content = whole.read_bytes()
    torn.write_bytes(content[: len(content) // 2])
    predictor = Predictor('run')
    bad = {}
    found = predictor([Image.open(torn), Image.open(files[1])], bad=bad.__setitem__)
    assert [answer.name for answer in found] == ['green']
    assert list(bad) == [str(torn)] and f'{torn} cannot be read (' in bad[str(torn)]
    with pytest.raises(UsageError, match='cannot be read'):
        predictor(Image.open(torn))


def test_arrays_that_are_mapped_have_numbers(backend, tmp_path):
    np.save(tmp_path / 'images.npy', np.stack([RED] * 3))
    mapped = np.load(tmp_path / 'images.npy', mmap_mode='r')
    found = list(Predictor('run')(mapped, RGB=False))
    assert [answer.image for answer in found] == ['image 0', 'image 1', 'image 2']
    assert {answer.name for answer in found} == {'red'}


def test_what_is_no_image(backend):
    predictor = Predictor('run')
    with pytest.raises(UsageError, match='give RGB=True, or RGB=False'):
        predictor(RED)
    with pytest.raises(UsageError, match='number 1 is a int'):
        list(predictor([RED, 3], RGB=True))
    with pytest.raises(UsageError, match=r'expected uint8 \[H, W, 3\], found float64'):
        predictor(RED / 255, RGB=True)


def test_limits_choose(backend):
    predictor = Predictor('run', budget='300M')
    assert predictor(RED, RGB=True).point == 's12'
    assert predictor(RED, RGB=True, deadline_ms=5).point == 's12'
    assert predictor(RED, RGB=True, point='s16').point == 's16'
    assert backend.limits[0][0] == '300M' and backend.limits[1] == (None, 5)
    with pytest.raises(UsageError, match='point s16 and budget 3M: give one'):
        Predictor('run', point='s16', budget='3M')
    with pytest.raises(UsageError, match="point 's20': run has s16 s12"):
        Predictor('run', point='s20')
    with pytest.raises(UsageError, match='budget 1 and deadline_ms 2: give one'):
        predictor(RED, RGB=True, budget=1, deadline_ms=2)


def test_a_deadline_holds_for_each_image(backend):
    backend.has_exits = True
    answers = list(Predictor('run', deadline_ms=7)([RED] * 3, RGB=True))
    assert len(answers) == 3 and backend.counts == [1, 1, 1] and backend.limits == [7]


def test_warm_up_builds_what_is_going_to_be_used(backend):
    predictor = Predictor('run', point='s12')
    predictor.warm_up()
    assert backend.built == ['s12'] and backend.counts == [1, 1]
    predictor.warm_up('s16', 's12')
    assert backend.built == ['s12', 's16']
    backend.has_exits = True
    predictor.warm_up()
    assert backend.limits == [float('inf')]


def test_a_closed_predictor_answers_nothing(backend):
    with Predictor('run') as predictor:
        assert predictor(RED, RGB=False).name == 'red'
    with pytest.raises(UsageError, match='this predictor is closed'):
        predictor(RED, RGB=False)


def test_a_closed_predictor_keeps_nothing(monkeypatch):
    """Neither points nor what a backend has made beside them, such as exits."""
    monkeypatch.setattr(module, 'open_backend', lambda *_, **__: Backend())
    predictor = Predictor('run')
    predictor.warm_up()
    there = weakref.ref(predictor._backend)
    predictor.close()
    gc.collect()
    assert there() is None
    predictor.close()


def test_threads_share_a_predictor(backend, files):
    predictor, found = Predictor('run'), {}

    def call(number):
        path = files[number % 3]
        found[number] = [answer.name for answer in predictor([path] * 20)]

    threads = [threading.Thread(target=call, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: [NAMES[number % 3]] * 20 for number in range(6)}
    assert backend.built == ['s16']


def test_the_server_of_the_docs(backend, files):
    pytest.importorskip('fastapi')
    pytest.importorskip('multipart')
    client = pytest.importorskip('fastapi.testclient')
    page = (ROOT / 'docs' / 'predict.md').read_text()
    (program,) = re.findall(r'```python\n(from fastapi.*?)```', page, re.DOTALL)
    space = {}
    exec(program, space)
    with files[1].open('rb') as stream:
        answer = client.TestClient(space['app']).post('/predict', files={'file': stream})
    assert answer.status_code == 200
    assert answer.json()['name'] == 'green'
