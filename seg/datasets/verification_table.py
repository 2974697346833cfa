"""The report of a verification as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.table import Table

from .verification import SplitReport, VerificationReport

__all__ = ["class_table", "split_table"]


def split_table(report: VerificationReport) -> Table:
    """A row a split: images, their sizes, pixels, what is ignored of them."""
    table = Table(show_edge=False, pad_edge=False, box=None, padding=(0, 3, 0, 0))
    table.add_column("")
    for name in ("images", "pixels", "ignored, %"):
        table.add_column(name, justify="right", header_style="bold")
    table.add_column("height x width (images)", header_style="bold")
    for split in report.splits:
        table.add_row(
            split.split,
            f"{split.images:,}",
            _millions(int(split.statistics.counts.sum())),
            f"{100 * split.statistics.ignored:.2f}",
            _sizes(split),
        )
    return table


def class_table(report: VerificationReport) -> Table:
    """A row a class: for each split the images that show it, and its share of labelled pixels.

    A class that the label source cannot contain has dashes.
    """
    table = Table(show_edge=False, pad_edge=False, box=None, padding=(0, 3, 0, 0))
    table.add_column("class", header_style="bold")
    for split in report.splits:
        table.add_column(f"{split.split}: images", justify="right", header_style="bold")
        table.add_column("pixels, %", justify="right", header_style="bold")
    spaces = {split.space for split in report.splits}
    if len(spaces) != 1:
        raise ValueError(f"expected splits in one label space, got {', '.join(sorted(spaces))}")
    for index, name in enumerate(report.splits[0].statistics.classes):
        cells: list[str] = []
        for split in report.splits:
            if index not in split.evaluated:
                cells += ["-", "-"]
                continue
            images = len(split.statistics.images_with(index))
            cells += [f"{images:,}", _percent(split.statistics.frequencies[index])]
        table.add_row(name, *cells)
    return table


def _percent(share: float) -> str:
    """Two digits at least of what there is: 33.06, 0.67, 0.0021."""
    percent = 100 * share
    if percent == 0:
        return "0"
    digits = max(2, 1 - int(np.floor(np.log10(percent))))
    return f"{percent:.{min(digits, 6)}f}"


def _millions(pixels: int) -> str:
    return f"{pixels:,}" if pixels < 10**6 else f"{pixels / 10**6:,.1f} M"


def _sizes(split: SplitReport, limit: int = 3) -> str:
    sizes = list(split.sizes.items())
    listed = [f"{h}x{w} ({n:,})" for (h, w), n in sizes[:limit]]
    return ", ".join([*listed, *_more(sizes[limit:])])


def _more(sizes: Sequence[tuple[tuple[int, int], int]]) -> list[str]:
    return [f"{len(sizes):,} more ({sum(n for _, n in sizes):,})"] if sizes else []
