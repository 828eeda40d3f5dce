"""What TensorFlow and tensorpack do not promise is used in one file only."""

import ast

import pytest

from tests.paths import ROOT

OWNER = 'quant/private_api.py'

# Methods of named tuples, whose names are public all the same.
PUBLIC = ('_replace', '_asdict', '_fields')

# Functions of Python that its documentation describes.
DOCUMENTED = ('os._exit', 'sys._current_frames')


def uses(source):
    """Private attributes of objects that are not the class's own."""
    found = []
    nodes = list(ast.walk(ast.parse(source)))
    private = []
    for node in nodes:
        if isinstance(node, ast.Attribute) and node.attr.startswith('_'):
            private.append(node)
    # What the file itself defines.
    known = {node.name for node in nodes if isinstance(node, ast.FunctionDef)}
    for node in private:
        if isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == 'self':
            known.add(node.attr)
    for node in private:
        own = ast.unparse(node.value) in ('self', 'cls') or 'super(' in ast.unparse(node.value)
        if node.attr in known or ast.unparse(node) in DOCUMENTED:
            continue
        if not own and not node.attr.startswith('__') and node.attr not in PUBLIC:
            found.append(ast.unparse(node))
    return found


def files():
    for package in ('quant', 'nets', 'engine', 'scripts'):
        for path in sorted((ROOT / package).rglob('*.py')):
            yield path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize('path', files())
def test_no_file_but_one_uses_private_attributes(path):
    assert bool(uses((ROOT / path).read_text())) == (path == OWNER)


@pytest.mark.parametrize(
    'source, found',
    [
        ('op._update_input(0, x)', ['op._update_input']),
        ('self._trainer._callbacks', ['self._trainer._callbacks']),
        ('self._x = row._replace(a=1).__class__', []),
        ('super()._setup(inputs)', []),
        ('os._exit(1), os._x', ['os._x']),
        ('def _f(): x._f(), x._g()', ['x._g']),
        ('self._a, x._b = 1, 2\nx._a', ['x._b']),
    ],
)
def test_what_is_found(source, found):
    assert uses(source) == found
