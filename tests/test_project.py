"""Project files: one version, entry points that exist, licences, typed packages."""

import importlib.util
from pathlib import Path

import pytest

from engine.version import __version__
from tests.paths import ROOT

# Part of Python from 3.11 on.
tomllib = pytest.importorskip('tomllib')

with (ROOT / 'pyproject.toml').open('rb') as stream:
    PROJECT = tomllib.load(stream)
ENTRY_POINTS = PROJECT['project']['scripts']


def test_the_citation_names_the_version():
    lines = (ROOT / 'CITATION.cff').read_text().splitlines()
    assert f'version: {__version__}' in lines


def test_the_readme_is_short():
    assert len((ROOT / 'README.md').read_text().splitlines()) <= 200


def test_the_changelog_has_a_section_of_the_version():
    assert f'\n## {__version__}' in (ROOT / 'CHANGELOG.md').read_text()


@pytest.mark.parametrize('name', ENTRY_POINTS)
def test_an_entry_point_is_a_function(name):
    module, _, function = ENTRY_POINTS[name].partition(':')
    found = importlib.util.find_spec(module)
    assert f'\ndef {function}(' in Path(found.origin).read_text()


def test_every_script_has_an_entry_point():
    scripts = set()
    for path in (ROOT / 'scripts').glob('*.py'):
        if '\ndef main(' in path.read_text():
            scripts.add(path.stem)
    modules = set()
    for name, target in ENTRY_POINTS.items():
        if name.startswith('switchable-'):
            modules.add(target.partition(':')[0].split('.')[1])
    assert modules == scripts | {'bench'}


def test_the_sources_of_the_library_are_installed():
    settings = PROJECT['tool']['setuptools']
    assert 'runtime' in settings['packages']['find']['include']
    patterns = settings['package-data']['runtime']
    for path in (ROOT / 'runtime').glob('*.[ch]'):
        assert any(path.match(pattern) for pattern in patterns), path


@pytest.mark.parametrize('package', ['quant', 'nets', 'engine', 'scripts'])
def test_packages_are_typed(package):
    assert (ROOT / package / 'py.typed').exists()
    assert 'py.typed' in PROJECT['tool']['setuptools']['package-data'][package]


@pytest.mark.parametrize('name', PROJECT['project']['license-files'])
def test_licences_are_there(name):
    assert (ROOT / name).stat().st_size > 0
