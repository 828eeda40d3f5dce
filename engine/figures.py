"""Figures without a display; the only place that asks whether matplotlib is installed."""

import io
from collections.abc import Iterable
from typing import Any, Literal

from engine.errors import UsageError
from engine.files import output_file

# The font that matplotlib brings along; a reader without it takes another one.
FONT = 'DejaVu Sans'

# What a file of a kind says about when it was made: left out, so that it tells changes of content.
_DATES = {'svg': 'Date', 'svgz': 'Date', 'pdf': 'CreationDate', 'ps': 'CreationDate'}


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


def legend_below(axes: Any, gap: float = 0.15, columns: int = 1) -> None:
    """Names the lines of axes below them, where no line can be hidden.

    Args:
        axes: Of matplotlib.
        gap: Share of their height that labels of the axis take.
        columns: Names beside each other.
    """
    axes.legend(
        fontsize='small',
        loc='upper left',
        bbox_to_anchor=(0, -gap),
        frameon=False,
        ncols=columns,
    )


def save(figure: Any, output: str, description: str = '') -> None:
    """Writes a figure as a picture in the format of the file's ending.

    The same figure gives the same bytes.

    Args:
        figure: Of matplotlib.
        output: The file.
        description: Written into an SVG, where no reader of the picture sees it.

    Raises:
        UsageError: The ending is none of a picture, or the folder of the file is not there.
    """
    kind = check_kind(output)
    from matplotlib import rc_context

    metadata: dict[str, str | None] = {}
    if kind in _DATES:
        metadata[_DATES[kind]] = None
    if description and kind == 'svg':
        metadata['Description'] = description
    # Names within an SVG are random but for the salt; drawn letters and long lists of fonts are
    # most of its bytes.
    settings = {'svg.hashsalt': 'figure', 'svg.fonttype': 'none', 'font.sans-serif': [FONT]}
    with output_file(output) as temporary, rc_context(settings):
        figure.savefig(temporary, format=kind, dpi=150, metadata=metadata)


def check_kind(output: str) -> str:
    """The kind of picture that the ending of a file says.

    Raises:
        UsageError: It is none, or matplotlib is not installed.
    """
    kinds = new_figure(1, 1).canvas.get_supported_filetypes()
    kind = output.rpartition('.')[2].lower()
    if kind not in kinds:
        raise UsageError(
            f'--output {output}: unknown kind of picture; end it with one of '
            f'{", ".join(sorted(kinds))}'
        )
    return kind


def has_pages(output: str) -> bool:
    """Whether a picture of that ending can have several pages."""
    return output.lower().endswith('.pdf')


def save_pages(figures: Iterable[Any], output: str) -> None:
    """Writes figures as the pages of a PDF.

    Raises:
        UsageError: The folder of the file is not there.
    """
    from matplotlib.backends.backend_pdf import PdfPages

    with (
        output_file(output) as temporary,
        PdfPages(temporary, metadata={'CreationDate': None}) as pages,
    ):
        for figure in figures:
            pages.savefig(figure)


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
    figure.savefig(stream, format='png', dpi=160)
    return stream.getvalue()
