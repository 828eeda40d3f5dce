"""Figures without a display; the only place that asks whether matplotlib is installed."""

import io
from typing import Any, Literal

from engine.errors import UsageError
from engine.files import output_file


def available() -> bool:
    """Whether matplotlib is installed."""
    try:
        import matplotlib.backends.backend_agg  # noqa: F401
    except ImportError:
        return False
    return True


def new_figure(
    width: float, height: float, layout: Literal['constrained', 'tight'] = 'constrained'
) -> Any:
    """An empty matplotlib figure on a canvas that needs no display.

    Args:
        width: In inches.
        height: In inches.
        layout: Engine that places the axes: ``constrained`` or ``tight``.

    Raises:
        UsageError: matplotlib is not installed.
    """
    if not available():
        raise UsageError('matplotlib is not installed; `pip install .[plots]` brings it')
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def save(figure: Any, output: str) -> None:
    """Writes a figure as a picture in the format of the file's ending.

    Raises:
        UsageError: The ending is none of a picture, or the folder of the file is not there.
    """
    kind = output.rpartition('.')[2].lower()
    kinds = figure.canvas.get_supported_filetypes()
    if kind not in kinds:
        raise UsageError(
            f'--output {output}: unknown kind of picture; end it with one of '
            f'{", ".join(sorted(kinds))}'
        )
    with output_file(output) as temporary:
        figure.savefig(temporary, format=kind, dpi=150)


def escaped(name: str) -> str:
    """A name as matplotlib draws it letter by letter: no formula, no label that it hides."""
    shown = ' ' if name.startswith('_') else ''
    for letter in name:
        if letter == '$':
            shown += r'\$'
        elif letter.isprintable():
            shown += letter
        else:
            shown += letter.encode('unicode_escape').decode()
    return shown


def to_png(figure: Any) -> bytes:
    """A figure as the bytes of a PNG file."""
    stream = io.BytesIO()
    figure.savefig(stream, format='png', dpi=110)
    return stream.getvalue()
