"""The folder in which command lines are tried, and what they refuse there."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.engine.command_line import RUN, call, reached, tree


@pytest.fixture(scope='module')
def saved(tmp_path_factory) -> Path:
    """A run folder with the epochs 1 and 2, and a checkpoint that is none of a network."""
    from tests.engine.runs.test_checkpoint import numbers, save, shapes

    root = tmp_path_factory.mktemp('saved')
    values = numbers(shapes(RUN))
    for step in (10, 20):
        save(values, root / 'run' / f'model-{step}')
    (root / 'run' / 'config.json').write_text(json.dumps(RUN.to_json()))
    (root / 'run' / 'stats.json').write_text('[{"epoch_num": 1}, {"epoch_num": 2}]')
    save({'w': np.ones(3, np.float32)}, root / 'alien' / 'model-5')
    return root


def folder_of_images(root: Path, edge: int = 32) -> None:
    for part in ('train', 'val'):
        for name in ('cat', 'dog'):
            (root / part / name).mkdir(parents=True)
            cv2.imwrite(str(root / part / name / '0.png'), np.zeros((edge, edge, 3), np.uint8))


@pytest.fixture
def here(tmp_path, monkeypatch, saved) -> Path:
    """An own current folder with all kinds of things in it.

    Training and evaluation only tell that they were reached.
    """
    from engine.evaluation import evaluate
    from engine.training import similar, train

    monkeypatch.setattr(similar, 'archs', lambda: ('resnet8',))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    for name in ('noval', 'emptyclass', 'oddclass', 'images'):
        folder_of_images(tmp_path / name)
    folder_of_images(tmp_path / 'photos', edge=256)
    shutil.rmtree('noval/val')
    Path('emptyclass/train/dog/0.png').unlink()
    Path('oddclass/val/cow').mkdir()
    Path('oddclass/val/cow/0.png').touch()
    for name in ('empty', 'notes', 'garbage'):
        Path(name).mkdir()
    Path('file').write_text('x')
    Path('notes/thesis.txt').write_text('precious')
    Path('garbage/model-5.index').write_text('garbage')
    Path('garbage/model-5.data-00000-of-00001').write_text('garbage')
    for module, name in ((train, 'train'), (evaluate, 'evaluate')):
        monkeypatch.setattr(module, name, reached)
    return tmp_path


@pytest.fixture
def refused(here, capsys):
    """``refused(line)``: the message of a command that must fail and leave everything as it was."""

    def check(line: str) -> str:
        before = tree(here)
        status = call(line)
        error = capsys.readouterr().err.splitlines()[-1]
        assert status == 2
        assert error.startswith('imagenet_tf.py: error: ')
        assert tree(here) == before
        return error.removeprefix('imagenet_tf.py: error: ')

    return check
