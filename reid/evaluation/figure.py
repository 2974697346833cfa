"""Figures without pyplot, and so without a window or global state."""

from __future__ import annotations

import io
from typing import Any


def new_figure(size: tuple[float, float], dpi: int = 110) -> tuple[Any, Any]:
    """A figure of ``size`` inches and its axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def png(figure: Any) -> bytes:
    """The figure as the bytes of a PNG file."""
    data = io.BytesIO()
    figure.savefig(data, format="png")
    return data.getvalue()
