"""The site: `make docs`. Pages are plain Markdown; `index.md` says which there are, in what order.

What Sphinx needs and a reader of the Markdown does not, the tree of pages and the reference of the
command line, is made while the site is built.
"""

import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from engine.version import __version__  # noqa: E402
from scripts import reference  # noqa: E402

project = 'switchable-nets'
release = __version__
copyright = 'the switchable-nets authors'
extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon']
myst_heading_anchors = 3
html_theme = 'furo'
html_static_path = ['_static']
html_css_files = ['site.css']
html_title = f'switchable-nets {release}'
exclude_patterns = ['_build', 'measured']
autodoc_member_order = 'bysource'
autodoc_typehints = 'description'
nitpicky = False

_SECTION = re.compile(r'^## (.+)$', re.MULTILINE)
_OUTSIDE = re.compile(r'\[([^]]+)\]\(\.\./[^)]*\)')
_PAGE = re.compile(r'^\* \[[^]]+\]\(([\w/]+)\.(?:md|rst)\)', re.MULTILINE)


def unlink(app, docname, source):
    """Leaves the text of links to files that are no part of the site; a test checks them."""
    source[0] = _OUTSIDE.sub(r'\1', source[0])


def add_tree(app, docname, source):
    """Adds to the index the tree of the pages that its sections list."""
    if docname != 'index':
        return
    _, *parts = _SECTION.split(source[0])
    trees = []
    for title, text in zip(parts[::2], parts[1::2]):
        pages = '\n'.join(_PAGE.findall(text))
        trees.append(f'```{{toctree}}\n:hidden:\n:caption: {title}\n\n{pages}\n```\n')
    source[0] += '\n' + '\n'.join(trees)


def setup(app):
    """Connects what is made while the site is built."""
    app.connect('source-read', unlink)
    app.connect('source-read', add_tree)
    app.connect('builder-inited', lambda app: reference.write(HERE / 'reference'))
