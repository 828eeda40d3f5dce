"""Parts of pages that hold everything themselves."""

import html

from engine.results import web_page
from engine.results.formats import Column, Table

COLUMNS = (Column('', 'run'), Column('', 'ms', 2), Column('data'))


def test_a_table_is_escaped_and_has_no_empty_column():
    found = web_page.table(Table('t', COLUMNS, [('<b>&', None, 1)], notes=['<note>']))
    assert html.escape('<b>&') in found and '&lt;note&gt;' in found
    assert 'ms' not in found and 'data' not in found and found.startswith('<div class="wide">')
    assert web_page.table(Table('t', COLUMNS, [])) == ''


def test_a_picture_holds_its_bytes_and_its_name():
    found = web_page.figure(b'\x89PNG', 'a "b" <c>')
    assert 'data:image/png;base64,iVBORw==' in found and found.count('&lt;c&gt;') == 2
    assert 'type="checkbox"' in found
    assert web_page.pictures([]) == '' and web_page.pictures([found]).count('<figure>') == 1


def test_a_document_asks_for_nothing():
    text = web_page.document('<t>', '<p>x</p>', 'p{margin:0}')
    assert '<title>&lt;t&gt;</title>' in text and 'p{margin:0}' in text
    for word in ('http', 'url(', '@import', '<script', '<link', '<iframe'):
        assert word not in text
