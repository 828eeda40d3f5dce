"""Imports run one way: quant <- nets <- engine <- imagenet_tf.py <- scripts; one TensorFlow."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT

# What the files of a package may import of the project beside their own package.
MAY_IMPORT = {
    'quant': set(),
    'nets': {'quant'},
    'engine': {'quant', 'nets'},
    'scripts': {'quant', 'nets', 'engine', 'imagenet_tf'},
    'imagenet_tf': {'quant', 'nets', 'engine'},
}
BACKEND = 'quant/backend.py'
ENVIRONMENT = 'quant/__init__.py'
SWITCH = 'TF_USE_LEGACY_KERAS'


def imports(tree):
    """Full names of imported modules, those imported inside functions and for type checking too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, 'relative import'
            yield node.module
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith('import_module'):
            yield from (arg.value for arg in node.args if isinstance(arg, ast.Constant))


def package(path):
    """Package of a path relative to the root, or the name of a top-level file."""
    return Path(path).parts[0].removesuffix('.py')


def faults(path, source):
    """What a file at ``path``, relative to the root, does against the rules."""
    tree, own = ast.parse(source), package(path)
    tops = {name.split('.')[0] for name in imports(tree)}
    found = [
        f'{path} imports {top}' for top in sorted(tops & set(MAY_IMPORT) - MAY_IMPORT[own] - {own})
    ]
    if path != BACKEND:
        found += [
            f'{path} imports {top}' for top in sorted(tops & {'tensorflow', 'tf_keras', 'keras'})
        ]
    if path != ENVIRONMENT:
        texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        found += [f'{path} sets {SWITCH}'] if SWITCH in texts else []
    return found


def files():
    paths = [
        path
        for name in MAY_IMPORT
        for path in [*ROOT.glob(f'{name}.py'), *ROOT.glob(f'{name}/**/*.py')]
    ]
    return [path.relative_to(ROOT).as_posix() for path in paths]


def test_files_are_found():
    expected = {'quant/policy.py', 'nets/san.py', 'engine/evaluation/calibrate.py', BACKEND}
    assert expected <= set(files())


@pytest.mark.parametrize('path', files())
def test_ladder(path):
    assert faults(path, (ROOT / path).read_text()) == []


def test_backend_finds_the_switch_set():
    """Importing a module of a package runs the package first."""
    program = (
        f'import os\nos.environ.pop({SWITCH!r}, None)\n'
        f'import quant.quantizer\nassert os.environ[{SWITCH!r}] == "1"'
    )
    subprocess.run([sys.executable, '-c', program], check=True, cwd=ROOT)


@pytest.mark.parametrize(
    'path, source',
    [
        ('quant/bad.py', 'from nets.points import Point'),
        ('quant/bad.py', 'import engine'),
        ('nets/bad.py', 'def f():\n    from engine import flow'),
        ('nets/bad.py', 'import importlib\nimportlib.import_module("engine.data.batches")'),
        ('engine/data/bad.py', 'import scripts.records as r'),
        ('engine/bad.py', 'import imagenet_tf'),
        ('imagenet_tf.py', 'import scripts'),
        ('nets/bad.py', 'import tensorflow.compat.v1 as tf'),
        ('quant/bad.py', 'from tensorflow.compat import v1'),
        ('engine/bad.py', f'import os\nos.environ["{SWITCH}"] = "1"'),
    ],
)
def test_bad_files_are_caught(path, source):
    assert len(faults(path, source)) == 1


@pytest.mark.parametrize(
    'path, source',
    [
        (BACKEND, 'import tensorflow'),
        (ENVIRONMENT, f'import os\nos.environ["{SWITCH}"] = "1"'),
        ('nets/good.py', 'from nets.points import Point\nfrom quant.backend import tf'),
        ('scripts/good.py', 'from engine import errors\nfrom scripts import records'),
        ('imagenet_tf.py', 'import engine.data.batches, nets, quant, tensorpack'),
    ],
)
def test_good_files_pass(path, source):
    assert faults(path, source) == []
