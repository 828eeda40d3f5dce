"""Figures without a display; the only place that asks whether matplotlib is installed."""

from typing import Any, Literal

from engine.errors import UsageError


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
