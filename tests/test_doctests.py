"""The examples in docstrings hold."""

import doctest
import importlib

import pytest

from tests.paths import ROOT

PACKAGES = ('quant', 'nets', 'engine', 'scripts')


def modules_with_examples():
    """Names of the modules that hold an example."""
    names = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob('*.py')):
            if '>>> ' in path.read_text():
                relative = path.relative_to(ROOT).with_suffix('')
                names.append('.'.join(relative.parts))
    return names


@pytest.mark.parametrize('name', modules_with_examples())
def test_examples(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0
