"""Imports run one way: quant <- nets <- engine <- imagenet_tf.py <- scripts; one TensorFlow."""

import ast

import pytest

from tests.paths import ROOT

# Rooms from the bottom upwards: a file may import its own room and those above it in this list.
LADDER = [
    'quant',
    'nets',
    'engine/errors',
    'engine/processor',
    'engine/loading',
    'engine/chatter',
    'engine/console',
    'engine/entry',
    'engine/version',
    'engine/timing',
    'engine/quantities',
    'engine/schema',
    'engine/checksums',
    'engine/files',
    'engine/arrays',
    'engine/figures',
    'engine/pickles',
    'engine/data',
    'engine/families',
    'engine/optimization',
    'engine/config',
    'engine/runs',
    'engine/results',
    'engine/graph',
    'engine/importers',
    'engine/deployment',
    'engine/evaluation',
    'engine/training',
    'engine',  # what a program imports: it hands on what lies below
    'imagenet_tf',
    'scripts',
]
BACKEND = 'quant/backend.py'
OPENCV = 'engine/data/opencv.py'
# Files that may import what others get from them.
OWNERS = {
    'tensorflow': BACKEND,
    'tf_keras': BACKEND,
    'keras': 'scripts/bench/peer_keras.py',  # another framework to be compared with
    'cv2': OPENCV,
}
# Files that settle something for their whole process: programs, what puts back what it found, and
# sessions that infer, of which NVIDIA's libraries can be told in no other way.
PROGRAMS = {'engine/config/hardware.py', 'engine/entry.py', OPENCV, BACKEND}
# Calls that change a program which imports the library.
SWITCHES = {
    'disable_eager_execution',
    'disable_v2_behavior',
    'enable_resource_variables',
    'disable_resource_variables',
}
# Calls that change an environment.
CHANGES = ('setdefault', 'update', 'pop', 'putenv')


def imports(tree):
    """Full names of what is imported, inside functions and for type checking too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, 'relative import'
            yield from (f'{node.module}.{alias.name}' for alias in node.names)
        elif isinstance(node, ast.Call) and last(node.func) == 'import_module':
            yield from (arg.value for arg in node.args if isinstance(arg, ast.Constant))


def last(node):
    """The last part of a name with dots; what has none is ''."""
    return getattr(node, 'attr', getattr(node, 'id', ''))


def room(name):
    """The room of a module or of a name in it, empty for one of another project."""
    parts = name.split('.')
    inner = '/'.join(parts[:2])
    if parts[0] == 'engine' and inner in LADDER:
        return inner
    return parts[0] if parts[0] in LADDER else ''


def module(path):
    """Name of the module at a path relative to the root."""
    return path.removesuffix('.py').removesuffix('/__init__').replace('/', '.')


def faults(path, source):
    """What a file at ``path``, relative to the root, does against the rules."""
    tree, own = ast.parse(source), room(module(path))
    names = list(imports(tree))
    tops = {name.split('.')[0] for name in names}
    rooms = {room(name) for name in names} - {''}
    found = []
    for other in sorted(rooms, key=LADDER.index):
        if LADDER.index(other) > LADDER.index(own):
            found.append(f'{path} imports {other}')
    for top in sorted(tops & set(OWNERS)):
        if path != OWNERS[top]:
            found.append(f'{path} imports {top}')
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    switches = {ast.unparse(func) for func in calls if last(func) in SWITCHES}
    found += [f'{path} calls {name}' for name in sorted(switches)]
    if path not in PROGRAMS and sets_environment(tree):
        found.append(f'{path} sets the environment')
    return found


def sets_environment(tree):
    """Whether a file changes ``os.environ`` in one of the usual ways."""
    for node in ast.walk(tree):
        target = ''
        if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
            target = ast.unparse(node.value)
        elif isinstance(node, ast.AugAssign):
            target = ast.unparse(node.target)
        elif isinstance(node, ast.Call) and last(node.func) in CHANGES:
            target = ast.unparse(node.func).rpartition('.')[0]
        if target in ('os.environ', 'environ', 'os'):
            return True
    return False


def files():
    """Paths of the files of the product, relative to the root."""
    found = [ROOT / 'imagenet_tf.py']
    for package in ('quant', 'nets', 'engine', 'scripts'):
        found += (ROOT / package).rglob('*.py')
    return [path.relative_to(ROOT).as_posix() for path in found]


def test_files_are_found():
    expected = {'quant/policy.py', 'nets/san.py', 'engine/evaluation/calibrate.py', BACKEND}
    assert expected <= set(files())


def test_every_room_is_in_the_ladder():
    rooms = set()
    for path in files():
        parts = path.removesuffix('.py').split('/')
        inside = parts[0] == 'engine' and parts[1] != '__init__'
        rooms.add('/'.join(parts[:2]) if inside else parts[0])
    assert rooms == set(LADDER)


@pytest.mark.parametrize('path', files())
def test_ladder(path):
    assert faults(path, (ROOT / path).read_text()) == []


@pytest.mark.parametrize(
    'path, source',
    [
        ('quant/bad.py', 'from nets.points import Point'),
        ('quant/bad.py', 'import engine'),
        ('nets/bad.py', 'def f():\n    from engine import flow'),
        ('nets/bad.py', 'import importlib\nimportlib.import_module("engine.data.batches")'),
        ('engine/data/bad.py', 'import scripts.records as r'),
        ('engine/data/bad.py', 'from engine.training import train'),
        ('engine/config/bad.py', 'def f():\n    from engine import runs'),
        ('engine/errors.py', 'import engine.files'),
        ('engine/training/bad.py', 'import imagenet_tf'),
        ('imagenet_tf.py', 'import scripts'),
        ('nets/bad.py', 'import tensorflow.compat.v1 as tf'),
        ('quant/bad.py', 'from tensorflow.compat import v1'),
        ('engine/data/bad.py', 'import cv2'),
        ('engine/data/bad.py', 'import os\nos.environ["A"] = "1"'),
        ('quant/bad.py', 'import os\nos.environ.setdefault("A", "1")'),
        ('nets/bad.py', 'import os\nos.environ |= {"A": "1"}'),
        ('nets/bad.py', 'from quant.backend import tf\ntf.disable_eager_execution()'),
        (BACKEND, 'import tensorflow.compat.v1 as tf\ntf.enable_resource_variables()'),
    ],
)
def test_bad_files_are_caught(path, source):
    assert len(faults(path, source)) == 1


@pytest.mark.parametrize(
    'path, source',
    [
        (BACKEND, 'import tensorflow'),
        (OPENCV, 'import os, cv2\nos.environ["A"] = "1"'),
        ('engine/entry.py', 'import os\nos.environ.setdefault("A", "1")'),
        ('scripts/good.py', 'import os\ncopy = os.environ | {"A": os.environ["B"]}'),
        ('nets/good.py', 'from nets.points import Point\nfrom quant.backend import tf'),
        ('scripts/good.py', 'from engine import errors\nfrom scripts import records'),
        ('engine/training/good.py', 'from engine import files\nfrom engine.data import spec'),
        ('imagenet_tf.py', 'import engine.data.batches, nets, quant, tensorpack'),
    ],
)
def test_good_files_pass(path, source):
    assert faults(path, source) == []
