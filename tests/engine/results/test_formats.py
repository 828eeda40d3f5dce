"""Tables as text within 100 columns, as markdown and LaTeX, and as data."""

import csv
import io
import json

import pytest

from engine.results import formats
from engine.results.formats import Column, Table

COLUMNS = (
    Column('run', 'run'),
    Column('madds', 'MAdds, M', 2, 1e6),
    Column('top1', 'top-1', 2),
    Column('ms', 'ms', 2),
    Column('', 'W/A'),
    Column('qw'),
)
ROWS = [('a', 1_234_567, -0.001, None, '2/2', 2), ('b/c', None, 93.456, None, '4/4', 4)]
TABLE = Table('points', COLUMNS, ROWS, 'Both', ['a note'])


def test_text_has_units_and_no_empty_column():
    lines = formats.render([TABLE], 'text').splitlines()
    assert lines[0] == 'Both' and lines[-1] == 'a note'
    assert lines[2].split() == ['run', 'MAdds,', 'M', 'top-1', 'W/A']
    assert [line.split() for line in lines[4:6]] == [
        ['a', '1.23', '0.00', '2/2'],
        ['b/c', '-', '93.46', '4/4'],
    ]


@pytest.mark.parametrize(
    'style, start, note', [('markdown', '**Both**', '- a note'), ('latex', '% Both', '% a note')]
)
def test_markup(style, start, note):
    text = formats.render([TABLE], style)
    assert text.startswith(f'{start}\n\n') and text.endswith(f'\n\n{note}')
    assert '93.46' in text and 'ms' not in text


def test_data_have_whole_numbers_and_every_field():
    """What is for readers only is left out, what is unknown stays."""
    rows = json.loads(formats.render([TABLE], 'json'))['points']
    assert rows[0] == {'run': 'a', 'madds': 1_234_567, 'top1': -0.001, 'ms': None, 'qw': 2}
    (_, second) = csv.DictReader(io.StringIO(formats.render([TABLE], 'csv')))
    assert second == {'run': 'b/c', 'madds': '', 'top1': '93.456', 'ms': '', 'qw': '4'}


def test_csv_joins_tables_of_the_same_columns():
    other = Table('others', (Column('x', 'x'),), [(1,)])
    text = formats.render([TABLE, other, TABLE], 'csv')
    assert len(text.splitlines()) == 1 + 4 and 'x' not in text.splitlines()[0]
    assert len(json.loads(formats.render([TABLE, other, TABLE], 'json'))['points']) == 4


@pytest.mark.parametrize('rows', [[], [('', None, None, None, '', None)]])
@pytest.mark.parametrize('style', formats.FORMATS)
def test_nothing_to_show(rows, style):
    assert isinstance(formats.render([Table('points', COLUMNS, rows)], style), str)


@pytest.mark.parametrize('length', [3, 30, 90, 300])
@pytest.mark.parametrize('letters', ['x', 'ab/', 'word ', 'a_b-c'])
def test_text_fits(length, letters):
    """Names are broken where they can be, numbers are not, and nothing is lost."""
    name = (letters * length)[:length].strip()
    columns = [Column('run', 'a header of several words'), Column('at', 'at')]
    columns += [Column(f'n{k}', f'number {k}, such as MAdds', 2) for k in range(6)]
    row = [name, f'{name}!', *(1234.5 + k for k in range(6))]
    text = formats.render([Table('t', columns, [row])], 'text')
    assert max(map(len, text.splitlines())) <= formats.WIDTH
    for k in range(6):
        assert f'{1234.5 + k:.2f}' in text
    assert text.count(letters.strip()[0]) >= 2 * name.count(letters.strip()[0])


def test_notes_are_broken_between_words():
    path = f'/a/{"b" * 120}'
    text = formats.footnotes([f'{path}: {"word " * 30}'], 'text')
    assert path in text and all(len(line) <= 124 for line in text.splitlines())


def test_a_flag_is_not_broken_behind_its_dashes():
    table = Table('a', (Column('a', 'a'), Column('b', 'b')), [('x' * 60, 'run --logdir ' * 9)])
    lines = table.shown('text').splitlines()
    assert len(lines) > 4 and not any(line.endswith('--') for line in lines[2:])
