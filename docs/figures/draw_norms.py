"""Draws norm_{ibn,bin,sn,ilm}.png: which values share a statistic, in each paper's norm.

python docs/figures/draw_norms.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import hsv_to_rgb
from matplotlib.patches import FancyArrowPatch, Rectangle

SAMPLES, CHANNELS = 4, 8
INK = "#333333"


def colours(groups: np.ndarray) -> np.ndarray:
    """(N, C) group numbers -> RGB; one soft colour a group, neighbours far apart in hue."""
    hue = (groups * 0.61803) % 1
    value = 0.97 - 0.12 * ((groups * 0.377) % 1)
    return hsv_to_rgb(np.stack([hue, np.full_like(hue, 0.38), value], -1))


def instance() -> np.ndarray:
    return np.arange(SAMPLES * CHANNELS, dtype=float).reshape(SAMPLES, CHANNELS)


def batch() -> np.ndarray:
    return np.tile(np.arange(CHANNELS, dtype=float) + 3, (SAMPLES, 1))


def layer() -> np.ndarray:
    return np.tile(np.arange(SAMPLES, dtype=float)[:, None] + 1, (1, CHANNELS))


def keys() -> np.ndarray:
    number = np.arange(CHANNELS) // (CHANNELS // 2)
    return (np.arange(SAMPLES)[:, None] * 2 + number).astype(float)


def table(ax: Axes, groups: np.ndarray, x: float, title: str, note: str = "") -> None:
    """One (sample, channel) table with its left edge at x; a cell is a map of H x W values."""
    for (row, column), _ in np.ndenumerate(groups):
        colour = colours(groups)[row, column]
        cell = Rectangle((x + column, SAMPLES - 1 - row), 1, 1, facecolor=colour, edgecolor="white")
        ax.add_patch(cell)
    middle = x + groups.shape[1] / 2
    ax.text(middle, SAMPLES + 0.35, title, ha="center", va="bottom", color=INK, fontsize=11)
    ax.text(middle, -0.35, note, ha="center", va="top", color=INK, fontsize=9)


def sign(ax: Axes, x: float, text: str) -> None:
    ax.text(x, SAMPLES / 2, text, ha="center", va="center", color=INK, fontsize=13)


def arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    ax.add_patch(
        FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=14, color=INK, lw=1.2)
    )


def axis_names(ax: Axes) -> None:
    ax.text(-0.4, SAMPLES / 2, "samples", rotation=90, ha="center", va="center", color=INK)
    ax.text(CHANNELS / 2, -0.95, "channels", ha="center", va="top", color=INK)


def draw_ibn(ax: Axes) -> None:
    groups = np.where(np.arange(CHANNELS) < CHANNELS // 2, instance(), batch() + 40)
    table(ax, groups, 0, "IN for the first half | BN for the second")
    axis_names(ax)
    ax.set_xlim(-1, CHANNELS + 1)


def draw_bin(ax: Axes) -> None:
    table(ax, batch(), 0, "batch")
    sign(ax, CHANNELS + 2, "× gate  +")
    table(ax, instance(), CHANNELS + 4, "instance")
    sign(ax, 2 * CHANNELS + 6.4, "× (1 - gate)")
    axis_names(ax)
    ax.set_xlim(-1, 2 * CHANNELS + 9)


def draw_sn(ax: Axes) -> None:
    for number, (name, groups) in enumerate(
        (("instance", instance()), ("layer", layer()), ("batch", batch()))
    ):
        left = number * (CHANNELS + 3.4)
        table(ax, groups, left, name)
        sign(ax, left + CHANNELS + 1.7, f"× w{number + 1}" + ("  +" if number < 2 else ""))
    axis_names(ax)
    ax.set_xlim(-1, 3 * CHANNELS + 10)


def draw_ilm(ax: Axes) -> None:
    table(ax, keys(), 0, "key mean, key variance", "a key is 16 channels wide")
    arrow(ax, (CHANNELS + 0.3, 2), (CHANNELS + 1.9, 2))
    ax.add_patch(Rectangle((CHANNELS + 2.1, 0.9), 4.8, 2.2, facecolor="#eeeeee", edgecolor=INK))
    ax.text(CHANNELS + 4.5, 2, "shared encoder\ntwo decoders", ha="center", va="center", fontsize=9)
    arrow(ax, (CHANNELS + 7.1, 2), (CHANNELS + 8.7, 2))
    table(ax, keys(), CHANNELS + 9, "scale and offset of each sample", "on IN, LN or GN")
    axis_names(ax)
    ax.set_xlim(-1, 2 * CHANNELS + 10)


def main() -> None:
    folder = Path(__file__).parent
    for name, draw, width in (
        ("ibn", draw_ibn, 4.6),
        ("bin", draw_bin, 8.4),
        ("sn", draw_sn, 10.6),
        ("ilm", draw_ilm, 8.8),
    ):
        figure, ax = plt.subplots(figsize=(width, 2.6))
        draw(ax)
        ax.set_ylim(-1.7, SAMPLES + 1.1)
        ax.set_aspect("equal")
        ax.axis("off")
        figure.savefig(folder / f"norm_{name}.png", dpi=110, bbox_inches="tight")
        plt.close(figure)


if __name__ == "__main__":
    main()
