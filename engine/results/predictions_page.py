"""A page of predictions that holds its pictures itself, and opens from disk."""

import html
from collections.abc import Iterable

import numpy as np

from engine.data.opencv import cv2
from engine.results import web_page
from engine.results.predictions import Row

# Longest side of a picture, pixels.
SIDE = 320

STYLE = """main{display:grid;gap:.8rem;grid-template-columns:repeat(auto-fill,minmax(10rem,1fr))}
figure{padding:.5rem;border:1px solid var(--line);border-radius:.4rem}
figure img{margin:auto}figcaption{margin-top:.4rem}
meter{width:100%;height:.6rem}small{opacity:.8}"""


def page(title: str, rows: Iterable[Row]) -> str:
    """The text of the page.

    Args:
        title: what answered.
        rows: what it said.
    """
    figures = [_figure(row) for row in rows]
    body = f'<h1>{html.escape(title)}</h1><main>{"".join(figures)}</main>'
    return web_page.document(title, body, STYLE)


def _figure(row: Row) -> str:
    """One image and what is said of it."""
    lines = [f'<small>{html.escape(row.image)}</small>']
    if row.error:
        lines.append(f'<b>{html.escape(row.error)}</b>')
    for _, name, score in row.classes:
        lines.append(f'{html.escape(name)} {score:.1%}<meter value="{score:.4f}"></meter>')
    if row.point:
        lines.append(f'<small>{html.escape(row.point)}, {row.ms:.1f} ms</small>')
    return f'<figure>{_picture(row)}<figcaption>{"<br>".join(lines)}</figcaption></figure>'


def _picture(row: Row) -> str:
    """The picture of an image, made smaller; empty where it cannot be read."""
    if row.error:
        return ''
    try:
        encoded = np.fromfile(row.image, np.uint8)
    except OSError:
        return ''
    image = cv2.imdecode(encoded, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        return ''
    scale = min(1.0, SIDE / max(image.shape[:2]))
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    _, content = cv2.imencode('.jpg', small)
    return web_page.picture(content.tobytes(), 'jpeg', row.image)
