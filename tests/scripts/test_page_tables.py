"""What pages say in numbers is what docs/measured and the presets say."""

import json
import re
import shutil

import pytest

from engine.errors import UsageError
from scripts import measured, page_tables, pages
from tests.paths import ROOT


def test_nothing_is_stale(capsys):
    assert pages.main(['--check']) == 0, capsys.readouterr().err


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A copy of what pages and tables are drawn from."""
    shutil.copy(ROOT / 'README.md', tmp_path)
    shutil.copytree(ROOT / 'docs', tmp_path / 'docs')
    monkeypatch.setattr(pages, 'ROOT', tmp_path)
    monkeypatch.setattr(pages, 'PICTURE', tmp_path / 'docs' / 'accuracy.svg')
    folder = tmp_path / 'docs' / 'measured'
    for function in (measured.path_of, measured.names):
        monkeypatch.setattr(function, '__defaults__', (folder,))
    for function in (measured.origin, measured.rows, measured.figures):
        monkeypatch.setattr(function, '__defaults__', (folder,))
    return tmp_path


@pytest.mark.parametrize(
    'name, field, stale',
    [
        ('demo', 'top1', ['README.md', 'docs/sizes.md', 'docs/accuracy.svg']),
        ('demo-dsnet', 'madds', ['README.md', 'docs/accuracy.svg']),
        ('study', 'top1', ['docs/sizes.md']),
    ],
)
def test_another_number_is_stale(name, field, stale, checkout, capsys):
    path = checkout / 'docs' / 'measured' / f'{name}.json'
    content = json.loads(path.read_text())
    for row in content['rows']:
        row[field] = row[field] / 2
    path.write_text(json.dumps(content))
    with pytest.raises(SystemExit) as caught:
        pages.main(['--check'])
    for page in stale:
        assert page in str(caught.value)
    assert 'docs/exits.md' not in str(caught.value)
    assert pages.main([]) == 0
    assert pages.main(['--check']) == 0
    page = stale[0]
    assert (checkout / page).read_text() != (ROOT / page).read_text()
    capsys.readouterr()


def test_what_is_to_be_drawn_is_known():
    with pytest.raises(UsageError, match='README.md: drawn: famlies: .*families'):
        pages.drawn('<!-- drawn: famlies -->\n<!-- end -->\n', 'README.md')


def test_all_tables_are_on_pages():
    text = ''.join(page.read_text() for page in pages.pages())
    names = re.findall(r'<!-- drawn: ([^>]+?) -->', text)
    assert {name for name in names if ': ' not in name} == set(page_tables.TABLES)


def test_all_measured_figures_are_on_pages():
    text = ''.join(page.read_text() for page in pages.pages())
    for name in measured.names():
        if 'figures' in json.loads(measured.path_of(name).read_text()):
            assert f'<!-- drawn: {name}: ' in text


def test_a_figure_and_its_origin(checkout):
    source = measured.Origin('python -m x', 'abcdef0', '2 cores', '2026-11-27')
    path = checkout / 'docs' / 'measured' / 'bench-x.json'
    measured.write(path, source, {'figures': {'a: b': 1.0449, 'c': 2.6, 'd': 128.0}})
    page = '| <!-- drawn: bench-x: a: b -->9<!-- end --> | <!-- drawn: bench-x: c --><!-- end --> |'
    found = re.sub('<!-- drawn: [^>]*-->|<!-- end -->', '', pages.drawn(page, 'p'))
    assert found == '| 1.04 | 2.6 |'
    assert page_tables.drawn('bench-x: d') == '128'
    assert page_tables.drawn('bench-x: origin') == '`python -m x`, 2 cores, 2026-11-27'
    with pytest.raises(UsageError, match='p: drawn: bench-x: e: unknown.*a: b, c, d'):
        pages.drawn('<!-- drawn: bench-x: e -->9<!-- end -->', 'p')


def test_the_most_that_quantization_costs_is_no_less_than_any_point_loses(checkout):
    rows = []
    for bits, scores in ((32, (93.95, 90.45)), (4, (92.8, 88.9)), (2, (88.55, 90.0))):
        for point, top1 in zip(('w14', 'w05'), scores):
            rows.append({'qw': bits, 'qa': bits, 'point': point, 'top1': top1})
    path = checkout / 'docs' / 'measured' / 'demo-dsnet.json'
    path.write_text(json.dumps({'rows': rows}))
    assert page_tables.drawn('demo-dsnet: most below float, W4A4') == '1.6'
    assert page_tables.drawn('demo-dsnet: most below float, W2A2') == '5.4'


@pytest.mark.parametrize('name', page_tables.TABLES)
def test_no_table_is_empty(name):
    assert len(page_tables.TABLES[name]().splitlines()) > 2


def test_recipes_of_methods_are_no_presets_of_networks():
    networks, methods = page_tables.presets_table(), page_tables.methods_table()
    assert '`rs18_w2a2`' in networks and '`lsq`' not in networks
    assert '`lsq`' in methods and '`rs18_w2a2`' not in methods


def test_the_study_is_a_table():
    table = page_tables.study_table().splitlines()
    assert table[0] == '| top-1, % at | 28 | 24 | 20 | 16 | 12 |'
    cells = {(row['row'], row['size']): row for row in measured.rows('study')}
    for line in table[2:]:
        name, *texts = [cell.strip() for cell in line.strip('|').split('|')]
        for size, text in zip(('28', '24', '20', '16', '12'), texts):
            row = cells.pop((name, size), None)
            expected = '' if row is None else f'{row["top1"]:.1f}'
            assert text.partition(' ±')[0] == expected
    assert not cells


@pytest.mark.parametrize('name', measured.names())
def test_every_number_has_an_origin(name):
    origin = measured.origin(name)
    assert origin.command and origin.machine
    assert re.fullmatch('[0-9a-f]{7,40}', origin.commit)
    assert re.fullmatch(r'20\d\d-\d\d-\d\d', origin.date)
