"""The report of a verification as tables for a terminal."""

from __future__ import annotations

from rich.table import Table

from cls.datasets.verification import PartReport, VerificationReport

__all__ = ["class_table", "part_table"]

_MOST_CLASSES = 40  # a longer table shows the smallest classes alone
_SMALLEST = 10


def part_table(report: VerificationReport) -> Table:
    """A row a split or domain: images, classes, their balance, sizes, colours."""
    table = _table("")
    for name in ("images", "classes", "per class", "grayscale", "CMYK"):
        table.add_column(name, justify="right", header_style="bold")
    table.add_column("height x width (images)", header_style="bold")
    for part in report.parts:
        present = part.counts[part.counts > 0]
        low, high = int(present.min(initial=part.images)), int(present.max(initial=0))
        table.add_row(
            part.name,
            f"{part.images:,}",
            f"{len(present):,}",
            f"{low:,}" if low == high else f"{low:,} to {high:,}",
            f"{part.grayscale:,}" if part.grayscale else "-",
            f"{part.cmyk:,}" if part.cmyk else "-",
            _sizes(part),
        )
    return table


def class_table(report: VerificationReport, *, every_class: bool = False) -> Table:
    """A row a class: its label, and the images that each split or domain has of it.

    Of many classes the smallest are shown, by all their images, unless ``every_class``.
    """
    table = _table("class")
    table.add_column("label", justify="right", header_style="bold")
    for part in report.parts:
        table.add_column(part.name, justify="right", header_style="bold")
    labels = list(range(len(report.classes)))
    hidden = 0
    if len(labels) > _MOST_CLASSES and not every_class:
        labels.sort(key=lambda label: sum(int(part.counts[label]) for part in report.parts))
        hidden = len(labels) - _SMALLEST
        labels = labels[:_SMALLEST]
    for label in labels:
        cells = [f"{part.counts[label]:,}" for part in report.parts]
        table.add_row(report.classes[label], f"{label}", *cells)
    if hidden:
        table.add_row(f"and {hidden:,} classes with as many or more (--all)", "")
    return table


def _table(first: str) -> Table:
    table = Table(show_edge=False, pad_edge=False, box=None, padding=(0, 3, 0, 0))
    table.add_column(first, header_style="bold")
    return table


def _sizes(part: PartReport, limit: int = 2) -> str:
    """Few sizes with their numbers, many as ranges of heights and widths."""
    if len(part.sizes) <= limit:
        return ", ".join(f"{h}x{w} ({number:,})" for (h, w), number in part.sizes.items())
    heights, widths = zip(*part.sizes, strict=True)
    return (
        f"{min(heights)}..{max(heights)} x {min(widths)}..{max(widths)} ({len(part.sizes):,} sizes)"
    )
