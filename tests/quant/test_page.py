"""docs/quantizer_methods.md: every method has its section and picture, and what it names exists."""

import re

import pytest

from quant import specs
from scripts import show_quantizer
from tests.paths import ROOT

PAGE = (ROOT / 'docs' / 'quantizer_methods.md').read_text()
ALL_PAGES = ''.join(page.read_text() for page in sorted((ROOT / 'docs').glob('quantizer*.md')))
PICTURES = ROOT / 'docs' / 'quantizers'
STORED = PAGE.partition('\n## What is stored\n')[2].partition('\n## ')[0]
METHODS = PAGE.partition('\n## The methods\n')[2].partition('\n## ')[0]
SECTIONS = METHODS.split('\n### ')[1:]

# Bytes of a picture.
LARGEST = 30_000


def names_of(section):
    """Quantizers that the heading of a section names."""
    heading = section.partition(':')[0]
    return re.findall(r'`(\w+)`', heading)


def test_every_method_has_a_section_and_a_picture():
    found = []
    for section in SECTIONS:
        for name in names_of(section):
            found.append(name)
            assert f'![{name}](quantizers/{name}.svg)' in section
    assert sorted(found) == specs.names()
    assert sorted(path.stem for path in PICTURES.iterdir()) == specs.names()
    for path in PICTURES.iterdir():
        assert path.stat().st_size < LARGEST


@pytest.mark.parametrize('section', SECTIONS, ids=lambda section: names_of(section)[0])
def test_options_exist(section):
    known = {'quantizer', 'weight_quantizer', 'activation_quantizer'}
    for name in names_of(section):
        known.update(specs.options(name))
    for option in re.findall(r'`(\w+)=', section):
        assert option in known


SPECS = set(re.findall(rf'(?:{"|".join(specs.names())})\(\w+=[^()]*[^().]\)', ALL_PAGES))


@pytest.mark.parametrize('spec', sorted(SPECS))
def test_specs_can_be_asked_for(spec):
    assert specs.parse(spec)


def rows():
    """Cells of the table of what is stored, by method."""
    found = {}
    for line in STORED.splitlines():
        if line.startswith('| `'):
            names, *cells = [cell.strip() for cell in line.strip('|').split('|')]
            for name in re.findall(r'`(\w+)`', names):
                found.setdefault(name, cells)
    return found


def test_what_is_stored():
    found = rows()
    numbers = {'': 0, '0': 0, '1': 1, '2': 2, 'C': 64, 'bits x C': 128}
    for name in specs.names():
        method = specs.parse(show_quantizer.every()[name])
        if method.refuses('body', weights=True):
            assert name not in found
            continue
        code, beside, equal, norm = found[name]
        assert numbers[beside.partition(';')[0]] == method.stored_values(64)
        widths = {'bits': method.bits, '1': 1, '1.6': 1.6}
        assert method.packed_bits in {
            widths[part] for part in re.findall('bits$|bits(?=;)|1.6|1', code)
        }
        assert bool(norm) == bool(method.refuses('head', weights=True))


@pytest.mark.parametrize(
    'spec', ['lsq(symmetric=True)', 'sawb(zero=True)', 'affine(bits=2)', 'xnor(zero=0)', 'ttq']
)
def test_three_levels_take_less_than_two_bits(spec):
    assert specs.parse(spec).packed_bits == 1.6


@pytest.mark.slow
def test_pictures_are_what_the_code_draws(tmp_path):
    """Coordinates of all lines; texts are left to the version of matplotlib."""
    assert show_quantizer.main(['--all', str(tmp_path)]) == 0
    for name in specs.names():
        kept = lines(PICTURES / f'{name}.svg')
        drawn = lines(tmp_path / f'{name}.svg')
        assert kept.keys() == drawn.keys()
        for line, numbers in kept.items():
            assert drawn[line] == pytest.approx(numbers, abs=0.05)


def lines(path):
    """Coordinates of each function and gradient in a picture, by its number and name."""
    groups = re.findall(r'<g id="(\w+ (?:values|gradient))">\s*<path d="([^"]*)"', path.read_text())
    assert groups
    found = {}
    for number, (name, drawn) in enumerate(groups):
        found[number, name] = [float(text) for text in re.findall(r'-?\d+(?:\.\d+)?', drawn)]
    return found
