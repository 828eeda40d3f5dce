"""A network with an axis of its own, which costs one line of ``nets/points.py``.

It is trained, calibrated at another size, evaluated there with and without borrowed statistics, and
put into a table, in a copy of the project that has this axis and this network.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT

AXIS = "    exit: int | None = axis('x')\n"
LISTED = "    'rsnet': 'nets.rsnet.RSNet',\n"

NETWORK = '''
"""A stack of convolutions that ends at one of two depths; each point has its own normalisation."""

import dataclasses

from nets.outputs import Outputs
from nets.network import Network
from nets.points import Point


@dataclasses.dataclass(frozen=True)
class DeepOptions:
    """None."""


class Deep(Network):
    """Operating points on the axes size and depth."""

    Options = DeepOptions

    def __init__(self, *, arch, mode, sizes, classes, width=1.0, options=None):
        points = []
        for size in sorted(sizes, reverse=True):
            points += [Point(size=size, depth=1), Point(size=size, depth=0)]
        super().__init__(sizes, 'same', points)
        self.classes = classes

    def outputs(self, views, blocks):
        logits = {}
        for point in self.points:
            x = views[point.size]
            with blocks.at(point):
                for layer in range(point.depth + 1):
                    x = blocks.conv(f'conv{layer}', x, 4, 3)
                    x = blocks.act(f'act{layer}', blocks.norm(f'bn{layer}', x))
                logits[point] = blocks.dense('linear', blocks.global_pool(x), self.classes)
        return Outputs(logits)

    def loss(self, outputs, labels):
        return self.cross_entropies(outputs, labels)
'''

DRIVER = r"""
import contextlib, io, json, shlex, shutil

import numpy as np

import imagenet_tf
from engine.evaluation import borrowing
from engine.runs import checkpoint
from scripts import accuracy_table, calibrate

def run(main, line):
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        status = main(shlex.split(line))
    return status, text.getvalue()

train = '--net deep --data animals28 --sizes 16 12 --epochs 1 --steps_per_epoch 2 --batch_size 8'
found = {'train': run(imagenet_tf.main, f'{train} --threads 0 --logdir run')[0]}
shutil.copytree('run', 'lent')

found['calibrate'], said = run(calibrate.main, 'run --sizes 10 --images 16 --threads 0')
command = said.strip().rpartition('imagenet_tf.py ')[2]
found['command'] = command
found['evaluate'] = run(imagenet_tf.main, f'{command} --threads 0')[0]
found['table'], found['rows'] = run(accuracy_table.main, 'run')

taken = {}
values_of = borrowing.variable_values

def spy(*args):
    taken.update(values_of(*args))
    return taken

borrowing.variable_values = spy
found['lend'] = run(imagenet_tf.main, '--eval -ec lent -es 10 --untrained proxy --threads 0')[0]
stored = checkpoint.read('lent/model-2', flag='-ec').values
found['lent'] = [
    name
    for name, value in taken.items()
    if '/s10-' in name and np.array_equal(value, stored[name.replace('/s10-', '/s12-')])
]
found['sizes'] = checkpoint.read('run/model-2', flag='-ec').sizes
with open('found.json', 'w') as stream:
    json.dump(found, stream)
"""


@pytest.fixture(scope='module')
def project(tmp_path_factory) -> Path:
    """A copy of the project with one axis and one network more."""
    folder = tmp_path_factory.mktemp('project')
    for name in ('quant', 'engine', 'scripts', 'imagenet_tf.py'):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / 'nets', folder / 'nets')
    points = folder / 'nets' / 'points.py'
    text = points.read_text()
    assert AXIS in text
    points.write_text(text.replace(AXIS, f"{AXIS}    depth: int | None = axis('d')\n"))
    listing = folder / 'nets' / '__init__.py'
    text = listing.read_text()
    assert LISTED in text
    listing.write_text(text.replace(LISTED, f"{LISTED}    'deep': 'nets.deep.Deep',\n"))
    (folder / 'nets' / 'deep.py').write_text(NETWORK)
    (folder / 'driver.py').write_text(DRIVER)
    return folder


@pytest.fixture(scope='module')
def found(project) -> dict:
    """What the commands said of a run with the points s16-d1, s16-d0, s12-d1 and s12-d0."""
    environment = {**os.environ, 'PYTHONDONTWRITEBYTECODE': '1'}
    process = subprocess.run(
        [sys.executable, 'driver.py'], cwd=project, env=environment, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stderr[-3000:]
    return json.loads((project / 'found.json').read_text())


def test_training_and_tables(found, project):
    assert (found['train'], found['table']) == (0, 0)
    written = {path.stem for path in (project / 'run' / 'eval').iterdir()}
    assert {'s16-d1', 's16-d0', 's12-d1', 's12-d0'} <= written
    assert 's12-d1' in found['rows']


def test_the_command_that_calibration_prints_works(found, project):
    assert (found['calibrate'], found['evaluate']) == (0, 0)
    assert '-es 10' in found['command']
    assert found['sizes'] == [16, 12, 10]
    for depth in (0, 1):
        record = json.loads((project / 'run' / 'eval' / f's10-d{depth}.json').read_text())
        assert record['bn'] == f's10-d{depth}'


def test_borrowed_normalisation_is_that_of_the_same_depth(found, project):
    """4 variables of one normalisation at depth 0, of two at depth 1."""
    assert found['lend'] == 0
    assert len(found['lent']) == 4 + 8
    for depth in (0, 1):
        assert (project / 'lent' / 'eval' / f's10-d{depth}@s12.json').exists()
