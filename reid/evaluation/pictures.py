"""Camera pairs, ROC curves, score histograms and queries with their hits, as image files."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..visualization import ranked_list_picture
from .figure import new_figure, png
from .report import pair_cells

LABELLED = 16  # cameras up to which the numbers stand in the matrix


def camera_pair_picture(
    pairs: Sequence[Mapping[str, Any]], title: str, metric: str = "mAP"
) -> bytes:
    """Camera pairs as a heat map: row a, column b says how well queries of a are found in b.

    Args:
        pairs: as ``DomainResult.camera_pairs`` has them; what is absent has no valid query.
    """
    heads, lines = pair_cells(pairs, metric)
    cameras = heads[1:]
    values = np.array(
        [[np.nan if text == "-" else float(text) for text in line[1:]] for line in lines]
    )
    size = len(cameras)
    figure, axes = new_figure((3.6 + 0.55 * size, 2.6 + 0.5 * size) if size <= LABELLED else (9, 8))
    image = axes.imshow(np.ma.masked_invalid(values), vmin=0, vmax=100, cmap="Blues")
    axes.set_facecolor("#eef0f2")
    font = 9 if size <= LABELLED else 6
    upright = max(map(len, cameras)) <= 3
    axes.set_xticks(
        range(size), cameras, rotation=0 if upright else 90, fontsize=font, parse_math=False
    )
    axes.set_yticks(range(size), cameras, fontsize=font, parse_math=False)
    axes.set_xlabel("gallery camera")
    axes.set_ylabel("query camera")
    axes.set_title(
        _wrapped(f"{title}\n{metric} by camera pair (percent)", 46), fontsize=10, parse_math=False
    )
    if size <= LABELLED:
        for (row, column), value in np.ndenumerate(values):
            text, dark = ("–", False) if np.isnan(value) else (f"{value:.0f}", value > 55)
            colour = "white" if dark else "#1f2328"
            axes.text(column, row, text, ha="center", va="center", fontsize=9, color=colour)
    figure.colorbar(image, ax=axes, shrink=0.8)
    return png(figure)


def roc_picture(curves: Mapping[str, Mapping[str, Any]], title: str) -> bytes:
    """True against false accept rate, the latter on a logarithmic axis, a line for each model.

    Args:
        curves: by name, ``DomainResult.verification``.
    """
    figure, axes = new_figure((6.4, 4.8))
    for place, (name, found) in enumerate(curves.items()):
        far, tar = np.array(found["roc"]).T
        label = f"{textwrap.shorten(name, 40)}: EER {100 * found['eer']:.1f}%"
        line = ("-", "--", "-.", ":")[place // 10 % 4]
        axes.plot(100 * far, 100 * tar, line, color=f"C{place % 10}", lw=1.6, label=label)
    least = min(100 * found["roc"][0][0] for found in curves.values())
    axes.set_xscale("log")
    axes.set_xlim(min(least, 1.0), 100)
    axes.set_ylim(0, 100)
    axes.plot(*[np.geomspace(1e-5, 100, 200)] * 2, color="#9aa2ab", lw=0.8, ls=":")
    axes.set_xlabel("false accept rate (percent): different identities taken for the same")
    axes.set_ylabel("true accept rate (percent)")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.grid(alpha=0.3)
    axes.set_title(_wrapped(title), fontsize=10, parse_math=False)
    for text in axes.legend(fontsize=8, loc="best").get_texts():
        text.set_parse_math(False)
    return png(figure)


def histogram_picture(found: Mapping[str, Any], title: str) -> bytes:
    """How the scores of pairs of one identity and of two lie to each other.

    Args:
        found: ``DomainResult.verification``. Both shapes have the same area, for there are many
            more pairs of two identities than of one.
    """
    histogram = found["histogram"]
    edges = np.asarray(histogram["edges"])
    figure, axes = new_figure((6.4, 4.2))
    occurring = []
    for key, colour, label in (
        ("impostor", "#d7301f", f"two identities ({found['num_impostor']:,} pairs)"),
        ("genuine", "#1a9641", f"one identity ({found['num_genuine']:,} pairs)"),
    ):
        counts = np.asarray(histogram[key], np.float64)
        share = 100 * counts / max(counts.sum(), 1)
        axes.stairs(share, edges, fill=True, alpha=0.35, color=colour)
        axes.stairs(share, edges, color=colour, lw=1.4, label=label)
        occurring.append(np.flatnonzero(counts))
    bins = np.concatenate(occurring)
    if len(bins):
        axes.set_xlim(edges[max(bins.min() - 1, 0)], edges[min(bins.max() + 2, len(edges) - 1)])
    top = 1.35 * axes.get_ylim()[1]  # room for what the lines mean
    axes.set_ylim(0, top)
    marks = [(p["threshold"], f"FAR {100 * p['far']:g}%") for p in found["points"]]
    marks = [(threshold, text) for threshold, text in marks if threshold is not None]
    lines = [*marks, (found["eer_threshold"], "EER")]
    low, high = axes.get_xlim()
    for place, (threshold, text) in enumerate(lines):
        axes.axvline(threshold, color="#1f2328", lw=0.9, ls="--" if text != "EER" else "-")
        height = top * (0.98 - 0.06 * place)
        left = threshold > low + 0.75 * (high - low)  # no room on the right
        label = f" {text}: {threshold:.3f} "
        side = "right" if left else "left"
        axes.text(threshold, height, label, fontsize=8, va="top", ha=side, color="#1f2328")
    axes.set_xlabel("cosine similarity of the pair")
    axes.set_ylabel("percent of the pairs")
    axes.set_title(_wrapped(title), fontsize=10, parse_math=False)
    # where the words of the lines are not
    lines_right = sum(threshold for threshold, _ in lines) / len(lines) > (low + high) / 2
    axes.legend(fontsize=8, loc="upper left" if lines_right else "upper right")
    return png(figure)


@dataclass(frozen=True)
class _Hit:
    score: float
    record: dict[str, Any]


def example_sheet(
    examples: Sequence[Mapping[str, Any]],
    title: str,
    *,
    image_height: int = 192,
    file_type: Literal["png", "jpg"] = "jpg",
) -> bytes:
    """Queries with their best hits, right, wrong and ignored ones marked: a row for each.

    Args:
        examples: see ``reid.evaluation.examples``; images that are not there become placeholders.
    """
    queries = [
        {
            "image": example["path"],
            "pid": example["pid"],
            "camera": _camera(example),
            "caption": f"{100 * example['average_precision']:.0f}%",
        }
        for example in examples
    ]
    hits = [
        [
            _Hit(
                hit["score"],
                {
                    "image": hit["path"],
                    "pid": hit["pid"],
                    "camera": _camera(hit),
                    "rank": hit["rank"],
                    "ignored": hit["verdict"] == "ignored",
                },
            )
            for hit in example["hits"]
        ]
        for example in examples
    ]
    longest = max((len(row) for row in hits), default=1)
    return ranked_list_picture(
        queries,
        hits,
        top_k=max(1, longest),
        title=title,
        image_height=image_height,
        file_type=file_type,
    )


def _camera(who: Mapping[str, Any]) -> str | None:
    return None if who["camera"] is None else f"cam {who['camera']}"


def _wrapped(text: str, width: int = 70) -> str:
    return "\n".join("\n".join(textwrap.wrap(line, width)) for line in text.splitlines())
