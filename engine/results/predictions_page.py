"""A page of predictions that holds its pictures itself, and opens from disk."""

import base64
import html
from collections.abc import Iterable

import numpy as np

from engine.data.opencv import cv2
from engine.results.predictions import Row

# Longest side of a picture, pixels.
SIDE = 160

STYLE = """:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;max-width:72em;margin:1em auto;padding:0 .8em}
main{display:grid;grid-template-columns:repeat(auto-fill,minmax(11em,1fr));gap:.8em}
figure{margin:0;padding:.5em;border:1px solid #8886;border-radius:.4em;overflow-wrap:anywhere}
img{display:block;max-width:100%;margin:auto}figcaption{font-size:.9em}
meter{width:100%;height:.6em}small{opacity:.75}"""


def page(title: str, rows: Iterable[Row]) -> str:
    """The text of the page.

    Args:
        title: what answered.
        rows: what it said.
    """
    figures = [_figure(row) for row in rows]
    told = html.escape(title)
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{told}'
    body = f'<h1>{told}</h1><main>{"".join(figures)}</main>'
    return f'<!doctype html>{head}</title><style>{STYLE}</style>{body}'


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
    data = base64.b64encode(content.tobytes()).decode()
    return f'<img alt="{html.escape(row.image)}" src="data:image/jpeg;base64,{data}">'
