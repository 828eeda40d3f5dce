"""Runs whose data have moved or changed: the same data go on anywhere, others nowhere unsaid."""

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

import imagenet_tf
from engine.data.opencv import cv2
from engine.runs import checkpoint, data_record
from scripts import calibrate, pack_data

NAMES = ('cat', 'dog', 'owl')
FLAGS = shlex.split(
    '--arch resnet8 --mode preact --sizes 16 --image-size 16 --width 0.25 --batch-size 4 '
    '--schedule cosine --epochs 1 --steps-per-epoch 2 --threads 0'
)


def make(root: Path) -> None:
    """Three classes of three training images and two validation images."""
    rng = np.random.default_rng(0)
    for part, images in (('train', 3), ('val', 2)):
        for name in NAMES:
            folder = root / part / name
            folder.mkdir(parents=True)
            for k in range(images):
                image = rng.integers(256, size=(20, 20, 3), dtype=np.uint8)
                assert cv2.imwrite(str(folder / f'{part}{k}.png'), image)


def main(*flags) -> int:
    return imagenet_tf.main([str(flag) for flag in flags])


@pytest.fixture(scope='module')
def trained(tmp_path_factory) -> Path:
    """A folder with a finished run, and its data, which were named by a relative path."""
    home = tmp_path_factory.mktemp('moved')
    make(home / 'data')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        assert main(*FLAGS, '--data', 'data', '--logdir', 'run') == 0
    return home


@pytest.fixture
def home(trained, tmp_path, monkeypatch) -> Path:
    """A copy, whose data are not where the run had them; the current folder is another one."""
    shutil.copytree(trained, tmp_path / 'home')
    (tmp_path / 'elsewhere').mkdir()
    monkeypatch.chdir(tmp_path / 'elsewhere')
    return tmp_path / 'home'


def answers(run: Path) -> tuple[float, int]:
    record = json.loads((run / 'eval' / 's16.json').read_text())
    return record['top1'], record['images']


def test_what_a_run_records_of_its_data(trained):
    run = trained / 'run'
    assert data_record.read(run).classes == NAMES
    for prefix in (run / 'model-2', run / 'best'):
        assert checkpoint.read(str(prefix), flag='-ec').class_names == NAMES
    config = json.loads((run / 'config.json').read_text())
    assert config['images']['data'] == str(trained / 'data')


def test_moved_and_packed_data_go_on(home, capsys):
    assert pack_data.main([str(home / 'data'), str(home / 'packed')]) == 0
    for place in ('data', 'packed'):
        assert main(*FLAGS, '--data', home / place, '--logdir', home / 'run') == 0
        assert 'is complete' in capsys.readouterr().out


def test_other_training_data_are_refused(home, capsys):
    (image,) = (home / 'data').glob('train/cat/train0.png')
    shutil.copy(image.with_name('train1.png'), image)
    assert main(*FLAGS, '--data', home / 'data', '--logdir', home / 'run') == 2
    assert 'the run began with 9 training images' in capsys.readouterr().err


@pytest.mark.slow
def test_evaluation_knows_the_data_again(home, trained, capsys):
    before = answers(home / 'run')
    (home / 'run' / 'eval' / 's16.json').unlink()
    assert main('--eval', '-ec', home / 'run', '--data', home / 'data', '--threads', 0) == 0
    assert answers(home / 'run') == before


def test_evaluation_refuses_other_data_at_the_same_place(home, trained, capsys):
    image = trained / 'data' / 'val' / 'cat' / 'val0.png'
    kept = image.read_bytes()
    try:
        shutil.copy(image.with_name('val1.png'), image)
        assert main('--eval', '-ec', home / 'run', '--threads', 0) == 2
    finally:
        image.write_bytes(kept)
    assert 'is not what' in capsys.readouterr().err


def test_classes_are_taken_by_name(home, capsys):
    """Without `cat`, the labels of the data are one less than the network's."""
    before = answers(home / 'run')
    shutil.copytree(home / 'data', home / 'all')
    for part in ('train', 'val'):
        shutil.rmtree(home / 'data' / part / 'cat')
        shutil.copytree(home / 'all' / part / 'cat', home / 'all' / part / 'ape')
    flags = ['--eval', '-ec', home / 'run', '--threads', 0, '--logdir', home / 'scored']
    assert main(*flags, '--data', home / 'all') == 2
    assert 'only here: ape' in capsys.readouterr().err
    assert main(*flags, '--data', home / 'data') == 0
    assert 'taken by name: 2 of the 3' in capsys.readouterr().out
    assert answers(home / 'scored')[1] == before[1] - 2


@pytest.mark.slow
def test_calibration_refuses_other_data_at_the_same_place(home, trained, capsys):
    flags = [str(home / 'run'), '--sizes', '20', '--images', '4', '--threads', '0']
    assert calibrate.main([*flags, '--data', str(home / 'data')]) == 0
    image = trained / 'data' / 'train' / 'cat' / 'train0.png'
    kept = image.read_bytes()
    try:
        shutil.copy(image.with_name('train1.png'), image)
        assert calibrate.main(flags) == 2
    finally:
        image.write_bytes(kept)
    assert 'is not what' in capsys.readouterr().err


def test_data_that_are_not_there_any_more_are_named(home, trained, capsys):
    place = trained / 'data'
    place.rename(trained / 'away')
    try:
        assert main('--eval', '-ec', home / 'run', '--threads', 0) == 2
    finally:
        (trained / 'away').rename(place)
    assert f'--data {place}: is not there any more' in capsys.readouterr().err
