"""Pictures of verification: how well scores tell pairs apart, and the answer for one pair."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from engine.atomic import write_file

from .threshold import percent

if TYPE_CHECKING:
    from reid.inference import Comparison
    from reid.threshold import Calibration

__all__ = ["calibration_figure", "comparison_figure"]

_GENUINE, _IMPOSTOR, _INK = "#1a9641", "#d7301f", "#1f2328"
_DPI = 110
# Whatever the caller's matplotlib settings are, these hold while a picture is drawn.
_SETTINGS: Any = {"font.family": ["DejaVu Sans"], "font.size": 9, "text.usetex": False}


def calibration_figure(calibration: Calibration, path: str | Path, *, title: str = "") -> Path:
    """Draw the scores of both kinds of pairs with the threshold, and the ROC with its point.

    The pairs are those that the threshold was measured on; the ROC of the identities that chose it
    is dashed.

    Returns:
        the PNG's path.
    """
    path = _png(path)
    import matplotlib
    from matplotlib.figure import Figure

    threshold, result = calibration.threshold, calibration.measured_on
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(9.6, 4.2), dpi=_DPI, layout="constrained")
        scores, roc = figure.subplots(1, 2)
        edges, genuine, impostor = (np.asarray(a) for a in result.histogram(80))
        width = np.diff(edges)
        for counts, colour, name in (
            (genuine, _GENUINE, f"one identity: {result.num_genuine:,} pairs"),
            (impostor, _IMPOSTOR, f"two identities: {result.num_impostor:,} pairs"),
        ):
            density = counts / max(counts.sum(), 1) / width  # area 1: the kinds differ in number
            scores.stairs(density, edges, fill=True, color=colour, alpha=0.35)
            scores.stairs(density, edges, color=colour, label=name)
        scores.axvline(threshold.value, color=_INK, lw=1.2)
        scores.set(xlabel="score (cosine similarity)", ylabel="density", ylim=(0, None))
        scores.set_title(
            f"threshold {threshold.value:.3f}: {percent(threshold.far or 0)} false accepts, "
            f"{percent(threshold.frr or 0)} false rejects",
            fontsize=9,
        )
        scores.legend(frameon=False, fontsize=8)
        lowest = 1 / max(result.num_impostor, 10)
        sides = [(result, "-", "measured on")]
        if calibration.held_out:
            sides.append((calibration.chosen_on, "--", "chosen on"))
        for side, style, name in sides:
            far, tar, _ = side.roc()
            # as many points as the picture has pixels, not as many as there are scores
            points = np.searchsorted(far, np.geomspace(lowest, 1, 800), side="right") - 1
            far, tar = far[points], tar[points]
            label = f"{name}: AUC {100 * side.auc:.2f}%, EER {100 * side.eer:.2f}%"
            roc.plot(far, tar, style, color=_INK, lw=1.3, label=label)
        roc.plot(threshold.far, 1 - (threshold.frr or 0), "o", color=_IMPOSTOR, label="threshold")
        roc.set(xscale="log", xlim=(lowest, 1), ylim=(0, 1.02))
        roc.set(xlabel="false-accept rate", ylabel="true-accept rate")
        roc.grid(alpha=0.3)
        roc.legend(frameon=False, fontsize=8, loc="upper left")
        if title:
            figure.suptitle(title, fontsize=10)
        return _write(figure, path)


def comparison_figure(
    a: np.ndarray, b: np.ndarray, comparison: Comparison, path: str | Path
) -> Path:
    """Draw two (H, W, 3) uint8 RGB images side by side, framed in the answer's colour, above it."""
    path = _png(path)
    import matplotlib
    from matplotlib.figure import Figure

    height, gap = 384, 24
    images = [
        cv2.resize(image, (max(round(image.shape[1] * height / len(image)), 1), height))
        for image in (a, b)
    ]
    width = sum(image.shape[1] for image in images) + 3 * gap
    colour = _GENUINE if comparison.same else _IMPOSTOR
    with matplotlib.rc_context(_SETTINGS):
        size = (max(width, 420) / _DPI, (height + 150) / _DPI)
        figure = Figure(figsize=size, dpi=_DPI)
        left = (size[0] * _DPI - width) / 2 + gap
        for image in images:
            place = (left, 126, image.shape[1], height)
            axes = figure.add_axes(_share(place, size))
            axes.imshow(image)
            axes.set(xticks=[], yticks=[])
            for spine in axes.spines.values():
                spine.set(color=colour, linewidth=4)
            left += image.shape[1] + gap
        answer, _, rest = str(comparison).partition(": ")
        score, _, rest = rest.partition(". ")
        figure.text(0.5, 92 / 534, answer, ha="center", color=colour, fontsize=13)
        figure.text(0.5, 68 / 534, score, ha="center", color=_INK)
        figure.text(0.5, 58 / 534, rest, ha="center", va="top", color=_INK, fontsize=7, wrap=True)
        return _write(figure, path)


def _share(
    pixels: tuple[float, float, float, float], size: tuple[float, float]
) -> tuple[float, float, float, float]:
    """(left, bottom, width, height) in pixels as shares of a figure of ``size`` inches."""
    across, down = size[0] * _DPI, size[1] * _DPI
    left, bottom, width, height = pixels
    return left / across, bottom / down, width / across, height / down


def _png(path: str | Path) -> Path:
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"a picture is written as .png, got {path}")
    return path


def _write(figure: Any, path: Path) -> Path:
    data = io.BytesIO()
    figure.savefig(data, format="png")
    return write_file(path, data.getvalue())
