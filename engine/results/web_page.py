"""Pages that hold everything themselves and open from disk: style, tables, pictures to zoom.

They need no script: a click on a picture, or the space bar, ticks a box that only styles see.
"""

import base64
import html
from collections.abc import Iterable

from engine.results.formats import Table

# Light or dark as the reader's system is; pictures keep their white ground in both.
STYLE = """:root{color-scheme:light dark;--text:#1c1e21;--page:#fff;--soft:#f3f4f6;--line:#d4d7db}
@media(prefers-color-scheme:dark){:root{
--text:#e4e6e8;--page:#15181b;--soft:#23282d;--line:#3c434a}}
*{box-sizing:border-box}
body{font:16px/1.5 system-ui,sans-serif;color:var(--text);background:var(--page);
max-width:80rem;margin:0 auto;padding:.5rem 1rem 3rem;overflow-wrap:anywhere}
h1{font-size:1.6rem;line-height:1.25}h2{border-top:1px solid var(--line);padding-top:1rem}
h3{font-size:1.05rem}nav a{margin-right:1em}a{color:inherit}
.wide{overflow-x:auto;margin:.8rem 0}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{padding:.2rem .7rem;border-bottom:1px solid var(--line);text-align:left;overflow-wrap:normal}
td{white-space:nowrap}td:last-child:not([style]){white-space:normal;overflow-wrap:anywhere}
th{border-bottom:2px solid var(--line);vertical-align:bottom}
.pictures{display:grid;gap:1rem;grid-template-columns:repeat(auto-fill,minmax(min(100%,26rem),1fr))}
figure{margin:0}figcaption,small{font-size:.88rem}
img{display:block;max-width:100%;background:#fff;border-radius:.3rem}
.zoom input{position:absolute;opacity:0}.zoom span{display:block;cursor:zoom-in}
.zoom input:focus-visible+span{outline:2px solid}
.zoom input:checked+span{position:fixed;inset:0;z-index:9;overflow:auto;cursor:zoom-out;
background:var(--page)}
.zoom input:checked+span img{max-width:none;min-width:100%;border-radius:0}
pre{background:var(--soft);padding:.7rem;border-radius:.3rem;overflow-x:auto;font-size:.85rem}
summary{cursor:pointer;font-weight:600;padding:.3rem 0}
@media(max-width:40rem){body{font-size:15px;padding:.5rem .7rem 3rem}
th,td{padding:.2rem .3rem;font-size:.82rem}}"""


def document(title: str, body: str, style: str = '') -> str:
    """A whole page.

    Args:
        title: of the window.
        body: HTML.
        style: what the page adds to the common style.
    """
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<title>{html.escape(title)}</title><style>{STYLE}\n{style}</style></head>'
        f'<body>{body}</body></html>\n'
    )


def table(found: Table) -> str:
    """A table that is moved sideways where it has no room; nothing where it is empty."""
    if not found.rows:
        return ''
    return f'<div class="wide">{found.shown("html")}</div>'


def picture(content: bytes, kind: str, title: str) -> str:
    """An image that is part of the page, and fills it on a click.

    Args:
        content: bytes of its file.
        kind: ``png`` or ``jpeg``.
        title: what it shows.
    """
    encoded = base64.b64encode(content).decode()
    text = html.escape(title)
    image = f'<img alt="{text}" src="data:image/{kind};base64,{encoded}">'
    return f'<label class="zoom"><input type="checkbox"><span>{image}</span></label>'


def figure(png: bytes, title: str) -> str:
    """A picture with its title below.

    Args:
        png: bytes of a PNG file.
        title: what it shows.
    """
    shown = picture(png, 'png', title)
    return f'<figure>{shown}<figcaption>{html.escape(title)}</figcaption></figure>'


def pictures(found: Iterable[str]) -> str:
    """Figures beside each other, as many as there is room for; nothing without any."""
    inside = ''.join(found)
    return f'<div class="pictures">{inside}</div>' if inside else ''


def folded(title: str, content: str) -> str:
    """HTML that a click on its title opens."""
    return f'<details><summary>{html.escape(title)}</summary>{content}</details>'
