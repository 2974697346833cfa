"""Embeddings in two dimensions, by t-SNE or PCA: which identities and domains lie together.

van der Maaten and Hinton, "Visualizing Data using t-SNE", JMLR 2008. A map shows neighbourhoods:
distances between far groups, their sizes and the axes mean nothing.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from .figure import new_figure, png

Method: TypeAlias = Literal["tsne", "pca"]
Features: TypeAlias = "npt.NDArray[np.floating[Any]]"
Ints: TypeAlias = "npt.NDArray[np.int64]"

IDENTITIES = 12  # as many as colours can be told apart
PER_IDENTITY = 40
PER_DOMAIN = 400
_LEAST = 5  # of fewer points t-SNE makes nothing
_REDUCED = 50  # dimensions that t-SNE is given, as its authors do
_MARKERS = "osD^v*Xp<>hP"
_SHOWN_CAMERAS = len(_MARKERS)


def project(features: Features, method: Method = "tsne", seed: int = 0) -> Features:
    """(N, D) -> (N, 2), the same for the same seed.

    Of fewer than 5 points there is no t-SNE, and PCA is taken.

    Raises:
        ValueError: an unknown method, or features that are not finite.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    if method not in ("tsne", "pca"):
        raise ValueError(f"expected the method 'tsne' or 'pca', got {method!r}")
    features = np.asarray(features, np.float64)
    if features.ndim != 2 or not np.isfinite(features).all():
        raise ValueError(f"expected finite features (N, D), got shape {features.shape}")
    size, width = features.shape
    flat = np.zeros((size, 2))
    if size < 2 or not np.ptp(features, axis=0).any():  # one point, or one place
        return flat
    tsne = method == "tsne" and size >= _LEAST
    kept = min(size, width, _REDUCED if tsne else 2)
    solver = "full" if size * width < 1e6 else "auto"
    points = PCA(kept, svd_solver=solver, random_state=seed).fit_transform(features)
    if tsne:
        start = np.zeros((size, 2))
        start[:, : min(kept, 2)] = points[:, :2]
        start *= 1e-4 / np.std(start[:, 0])  # as scikit-learn's own, which needs two dimensions
        perplexity = min(30.0, (size - 1) / 3)
        points = TSNE(perplexity=perplexity, init=start, random_state=seed).fit_transform(points)
    flat[:, : points.shape[1]] = points[:, :2]
    return flat


def some_identities(pids: Ints, camids: Ints, number: int = IDENTITIES) -> Ints:
    """Positions of images of a few identities: those seen by most cameras, then with most images.

    Junk (-1) and distractors (0) are nobody.
    """
    names = np.unique(pids[pids > 0])
    cameras = {pid: len(np.unique(camids[pids == pid])) for pid in names.tolist()}
    images = {pid: int((pids == pid).sum()) for pid in names.tolist()}
    chosen = sorted(names.tolist(), key=lambda pid: (-cameras[pid], -images[pid], pid))[:number]
    generator = np.random.default_rng(0)
    return np.concatenate(
        [np.empty(0, np.int64)]
        + [_sample(np.flatnonzero(pids == pid), PER_IDENTITY, generator) for pid in chosen]
    )


def identity_picture(
    features: Features,
    pids: Ints,
    cameras: Sequence[str | None],
    title: str,
    *,
    method: Method = "tsne",
    seed: int = 0,
) -> bytes:
    """A map of the images of a few identities: colours say who, markers by which camera.

    Args:
        features: (N, D); pids: (N,); cameras: N names, None where unknown.
    """
    points = project(features, method, seed)
    figure, axes = new_figure((7.6, 5.6))
    names = sorted({camera or "unknown" for camera in cameras}, key=_natural)
    places = {name: min(i, _SHOWN_CAMERAS - 1) for i, name in enumerate(names)}
    markers = np.array([places[camera or "unknown"] for camera in cameras], dtype=np.int64)
    for number, pid in enumerate(dict.fromkeys(pids.tolist())):
        for marker in np.unique(markers):
            of = (pids == pid) & (markers == marker)
            axes.scatter(
                *points[of].T,
                s=34,
                marker=_MARKERS[marker],
                color=_colour(number),
                edgecolors="white",
                linewidths=0.5,
            )
    people = [
        _handle("o", _colour(i), f"id {pid}") for i, pid in enumerate(dict.fromkeys(pids.tolist()))
    ]
    seen: dict[int, str] = {}
    for name, place in places.items():
        seen[place] = f"camera {name}" if place not in seen else "further cameras"
    shapes = [_handle(_MARKERS[place], "#59636e", name) for place, name in seen.items()]
    _finish(figure, axes, title, method, len(points), [*people, *shapes])
    return png(figure)


def domain_picture(
    features: Mapping[str, Features],
    title: str,
    *,
    method: Method = "tsne",
    seed: int = 0,
    per_domain: int = PER_DOMAIN,
) -> bytes:
    """A map of images of several domains: do their embeddings mix, or lie apart?

    Args:
        features: by domain, (N, D), of which ``per_domain`` are drawn.
    """
    generator = np.random.default_rng(seed)
    chosen = {
        name: found[_sample(np.arange(len(found)), per_domain, generator)]
        for name, found in features.items()
    }
    points = project(np.concatenate(list(chosen.values())), method, seed)
    labels = np.repeat(np.arange(len(chosen)), [len(found) for found in chosen.values()])
    figure, axes = new_figure((7.6, 5.6))
    order = generator.permutation(len(points))  # no domain lies on top of the others
    colours = np.array([_colour(int(label)) for label in labels], dtype=object)
    axes.scatter(*points[order].T, s=16, c=list(colours[order]), alpha=0.75, linewidths=0)
    handles = [_handle("o", _colour(i), name) for i, name in enumerate(chosen)]
    _finish(figure, axes, title, method, len(points), handles)
    return png(figure)


def _sample(positions: Ints, number: int, generator: np.random.Generator) -> Ints:
    if len(positions) <= number:
        return positions
    return np.sort(generator.choice(positions, number, replace=False))


def _natural(name: str) -> tuple[int, int, str]:
    return (0, int(name), "") if name.isdigit() else (1, 0, name)


# Twelve colours that differ in hue and in lightness.
_COLOURS = (
    *("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b"),
    *("#e377c2", "#7f7f7f", "#bcbd22", "#17becf", "#1b2a6b", "#f7b6d2"),
)


def _colour(number: int) -> str:
    return _COLOURS[number % len(_COLOURS)]


def _handle(marker: str, colour: str, label: str) -> Any:
    from matplotlib.lines import Line2D

    text = textwrap.shorten(label, 28, placeholder="...")
    return Line2D([], [], ls="", marker=marker, color=colour, markersize=7, label=text)


def _finish(
    figure: Any, axes: Any, title: str, method: Method, number: int, handles: Sequence[Any]
) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    how = "t-SNE" if method == "tsne" and number >= _LEAST else "PCA"
    text = "\n".join(textwrap.wrap(f"{title} ({how} of {number:,} images)", 70))
    axes.set_title(text, fontsize=10, parse_math=False)
    legend = figure.legend(handles=handles, loc="outside right upper", fontsize=8)
    for label in legend.get_texts():
        label.set_parse_math(False)
