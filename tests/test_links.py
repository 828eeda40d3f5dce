"""Links of README.md, CONTRIBUTING.md, docs/ and examples/ lead to files and headings."""

import re
from pathlib import Path

import pytest

from tests.paths import ROOT

PAGES = [
    ROOT / 'README.md',
    ROOT / 'CONTRIBUTING.md',
    *sorted((ROOT / 'docs').glob('*.md')),
    *sorted((ROOT / 'examples').glob('*.md')),
]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
# Made when the site is built.
MADE = {'docs/reference/cli.md'}

_FENCE = re.compile(r'^```.*?^```$', re.DOTALL | re.MULTILINE)
_SPAN = re.compile(r'`[^`]+`')
_LINK = re.compile(r'\]\(([^)\s]+)\)')
_HEADING = re.compile(r'^#+ (.+)$', re.MULTILINE)


def links(page: Path) -> list[str]:
    """Targets of all links that are no addresses of the web."""
    text = _SPAN.sub('', _FENCE.sub('', page.read_text()))
    return [target for target in _LINK.findall(text) if '://' not in target]


def anchors(page: Path) -> set[str]:
    """Anchors of the headings of a page, as GitHub and MyST make them."""
    found = set()
    for title in _HEADING.findall(_FENCE.sub('', page.read_text())):
        plain = re.sub(r'\[([^]]+)\]\([^)]*\)', r'\1', title)
        kept = re.sub(r'[^\w\- ]', '', plain.lower())
        found.add(kept.replace(' ', '-'))
    return found


@pytest.mark.parametrize('page', PAGES, ids=NAMES)
def test_links_lead_somewhere(page):
    wrong = []
    for target in links(page):
        path, _, anchor = target.partition('#')
        file = (page.parent / path).resolve() if path else page
        if str(file.relative_to(ROOT)) in MADE:
            continue
        there = file.exists()
        if there and anchor:
            there = anchor in anchors(file)
        if not there:
            wrong.append(target)
    assert not wrong


def test_a_wrong_anchor_is_seen(tmp_path):
    page = tmp_path / 'page.md'
    page.write_text(
        '# Of `code`, [a link](x.md) and more\n\n```\n# no heading\n```\n[there](#no)\n'
    )
    assert anchors(page) == {'of-code-a-link-and-more'}
    assert links(page) == ['x.md', '#no']


def test_the_index_has_all_pages():
    listed = set(links(ROOT / 'docs' / 'index.md'))
    for page in (ROOT / 'docs').glob('*.md'):
        if page.name != 'index.md':
            assert page.name in listed
