"""Confusion matrices and the most confident mistakes as PNG files."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np

from .results import DomainResult

LABELLED = 30  # classes up to which the shares stand in the matrix
NAMED = 100  # classes up to which their names stand at the axes
COLUMNS = 6


def confusion_picture(domain: DomainResult, title: str) -> bytes:
    """The confusion matrix as a PNG: row c says as what the images of class c were taken.

    Up to 30 classes the shares stand in the cells; up to 100 classes are named; of more the matrix
    has one pixel or more a class and only the mistakes are coloured, so that they can be seen.
    """
    from matplotlib.colors import PowerNorm

    counts = domain.matrix().astype(np.float64)
    size = len(counts)
    totals = np.asarray(domain.counts, np.float64)[:, None]
    share = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    figure, axes = _figure(_size(size), dpi=110)
    shown, limit = share, 1.0
    if size > NAMED:
        shown = share.copy()
        np.fill_diagonal(shown, 0)
        limit = max(0.05, float(np.quantile(shown[shown > 0], 0.99))) if shown.any() else 1.0
        shown = _spread_dots(shown, max(0, size // 300))
    # of many classes a mistake has a small share: the root makes it visible
    norm = PowerNorm(0.5 if LABELLED < size <= NAMED else 1.0, 0, limit)
    image = axes.imshow(shown, norm=norm, cmap="Blues", interpolation="nearest")
    axes.set_xlabel("predicted")
    if size > NAMED:
        axes.set_ylabel("true")
        title = f"{title}\nonly the mistakes; share of the true class's images"
        figure.colorbar(image, ax=axes, shrink=0.6, extend="max", label="share of the class")
    else:
        font = 9 if size <= LABELLED else 6
        labels = [textwrap.shorten(name, 24, placeholder="...") for name in domain.classes]
        axes.set_xticks(range(size), labels, rotation=90, fontsize=font, parse_math=False)
        axes.set_yticks(range(size), labels, fontsize=font, parse_math=False)
        axes.set_ylabel("true (rows add up to 100%)")
    axes.set_title(_wrapped(title), fontsize=10, parse_math=False)
    for row in np.flatnonzero(totals[:, 0] == 0) if size <= LABELLED else ():
        axes.text(size / 2 - 0.5, row, "does not occur", ha="center", va="center", color="grey")
    for row, column in np.argwhere(share >= 0.005) if size <= LABELLED else ():
        value = share[row, column]
        axes.text(
            *(column, row, f"{100 * value:.0f}"),
            ha="center",
            va="center",
            fontsize=8,
            color="white" if value > 0.5 else "black",
        )
    return _png(figure)


def mistakes_picture(
    images: Sequence[np.ndarray], mistakes: Sequence[dict[str, Any]], title: str
) -> bytes:
    """A grid of images that were wrong, each with its truth and what it was taken for.

    Args:
        images: (H, W, 3) uint8 RGB, as the network was given them.
        mistakes: for each image its truth, prediction, confidence and path.
    """
    columns = min(COLUMNS, len(images))
    rows = -(-len(images) // columns)
    figure, _ = _figure((2.1 * columns, 2.75 * rows + 0.5), dpi=100, axes=False)
    for place, (image, mistake) in enumerate(zip(images, mistakes, strict=True)):
        axes = figure.add_subplot(rows, columns, place + 1)
        axes.imshow(image, interpolation="nearest" if max(image.shape) < 100 else "antialiased")
        axes.set_axis_off()
        name = textwrap.shorten(str(mistake["path"]).rpartition("/")[2], 26, placeholder="...")
        text = "\n".join(
            textwrap.shorten(line, 30, placeholder="...")
            for line in (
                f"{100 * mistake['confidence']:.0f}% {mistake['prediction']}",
                f"truth: {mistake['truth']}",
            )
        )
        axes.set_title(f"{text}\n{name}", fontsize=8, parse_math=False)
    figure.suptitle(_wrapped(title), fontsize=10, parse_math=False)
    return _png(figure)


def _figure(size: tuple[float, float], dpi: int, axes: bool = True) -> tuple[Any, Any]:
    """A figure without pyplot, and so without a window or global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot() if axes else None


def _size(classes: int) -> tuple[float, float]:
    """Inches, by the number of classes."""
    if classes <= LABELLED:
        return 3.1 + 0.36 * classes, 2.6 + 0.36 * classes
    return (4.5 + 0.13 * classes, 4.0 + 0.13 * classes) if classes <= NAMED else (12.0, 11.0)


def _png(figure: Any) -> bytes:
    data = io.BytesIO()
    figure.savefig(data, format="png")
    return data.getvalue()


def _spread_dots(values: np.ndarray, reach: int) -> np.ndarray:
    """Each value also in the cells around it where it is larger: a dot that a picture can show."""
    found = values.copy()
    for turned in (found, found.T):  # views: first along columns, then along rows
        before = turned.copy()
        for step in range(1, reach + 1):
            np.maximum(turned[step:], before[:-step], out=turned[step:])
            np.maximum(turned[:-step], before[step:], out=turned[:-step])
    return found


def _wrapped(text: str) -> str:
    return "\n".join("\n".join(textwrap.wrap(line, 70)) for line in text.splitlines())
