"""The report as one HTML file: tables, confusion matrices, side-by-side pictures, worst images.

Nothing is loaded from elsewhere; pictures are embedded as small JPEGs. Every text from data (names,
paths, warnings) is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import cv2
import numpy as np

from engine.atomic import write_bytes
from engine.page import document, embedded_image, remarks, short_path, table
from engine.spread import percent

from .metric import Picture
from .report import (
    Rows,
    cell,
    class_cells,
    confusion_picture,
    describe_domain,
    domain_names,
    gap,
    header,
    mean_over_targets,
    metric_names,
    notes,
    protocol_numbers,
)
from .results import DomainResult, ModelResult

# (model, domain) -> its pictures
Pictures = Mapping[tuple[str, str], Sequence[Picture]]
WORST_SHOWN = 10


def write_page(
    path: str | Path, rows: Rows, title: str, pictures: Pictures | None = None, note: str = ""
) -> Path:
    """Write the report.

    Args:
        rows: results and aggregates, as for the tables.
        pictures: by (row's name, domain).
        note: a line under the title, e.g. the command.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, page(rows, title, pictures, note).encode())
    return path


def page(rows: Rows, title: str, pictures: Pictures | None = None, note: str = "") -> str:
    """The whole document as text."""
    single = [row for row in rows if isinstance(row, ModelResult)]
    names = domain_names(rows)
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="faint">{escape(note)}</p>' if note else "",
        "<h2>mIoU (percent)</h2>",
        _main_table(rows, names),
        remarks(notes(rows)),
        "<h2>All metrics (percent)</h2>",
        _metric_table(rows),
        '<p class="faint">Pixel accuracy: share of labelled pixels. Class accuracy: mean over '
        "classes of the share found. Boundary mIoU: mIoU of the pixels near contours.</p>",
    ]
    for name in names:
        body.append(f"<h2>{escape(header(name, rows))}: IoU by class (percent)</h2>")
        body.append(_class_table(rows, name))
    for row in single:
        for name, domain in row.domains.items():
            body.append(_domain(row, name, domain, (pictures or {}).get((row.name, name), ())))
    return document(title, body)


def _main_table(rows: Rows, names: Sequence[str]) -> str:
    protocols = protocol_numbers(rows)
    heads = ["model", *(header(name, rows) for name in names), "mean of targets", "gap to source"]
    lines = []
    for row in rows:
        cells = [percent(cell(row, name, "mIoU")) for name in names]
        cells += [percent(mean_over_targets(row)), percent(gap(row))]
        if len(protocols) > 1:
            number = protocols[row.protocol.get("text", "none")]
            cells.append(f"{row.protocol.get('name', 'none')} [{number}]")
        lines.append([row.name, *cells])
    return table([*heads, *(["protocol"] if len(protocols) > 1 else [])], lines)


def _metric_table(rows: Rows) -> str:
    metrics = metric_names(rows)
    lines = [
        [row.name, domain, *(percent(cell(row, domain, metric)) for metric in metrics)]
        for row in rows
        for domain in (row.domains if isinstance(row, ModelResult) else row.metrics)
    ]
    return table(["model", "domain", *(m.replace("_", " ") for m in metrics)], lines, text=(1,))


def _class_table(rows: Rows, domain: str) -> str:
    names, lines, means = class_cells(rows, domain)
    if not lines:
        return '<p class="faint">No single result among the rows.</p>'
    shown = table(["class", *names], lines, last=["mean", *means])
    if any(label.startswith("(") for label, *_ in lines):
        shown += (
            '<p class="faint">Classes in brackets are not in this data\'s labels and not in the '
            "mean.</p>"
        )
    return shown


def _domain(row: ModelResult, name: str, domain: DomainResult, pictures: Sequence[Picture]) -> str:
    title = f"{row.name} on {name}"
    parts = [
        f"<h2>{escape(title)}</h2>",
        f'<p class="faint">{escape(describe_domain(domain))}</p>',
    ]
    if domain.confusion:
        parts.append(
            "<details><summary>Confusion matrix</summary><figure>"
            + embedded_image(
                confusion_picture(domain, title), "png", f"confusion matrix of {title}"
            )
            + "<figcaption>Percent of each true class's pixels. Dark off the diagonal: classes "
            "that are taken for each other.</figcaption></figure></details>"
        )
    palette = domain.data.get("palette")
    for why, text in (("sample", "Pictures"), ("worst", "Pictures of the worst images")):
        chosen = [p for p in pictures if p.why == why]
        if chosen and palette:
            parts.append(f"<h3>{text}</h3>")
            parts += [_figure(p, palette, domain.classes) for p in chosen]
    if domain.images:
        lines = [
            [short_path(i["path"]), percent(i["mIoU"]), percent(i["pixel_accuracy"])]
            for i in domain.images[:WORST_SHOWN]
        ]
        parts.append("<details><summary>Worst images</summary>")
        parts.append(table(["image", "mIoU", "pixel accuracy"], lines))
        parts.append("</details>")
    return "\n".join(parts)


def _figure(picture: Picture, palette: Sequence[Sequence[int]], classes: Sequence[str]) -> str:
    data = side_by_side(picture, palette, classes, columns=2)  # a phone shows no four beside
    caption = f"{short_path(picture.path)}, mIoU {percent(picture.iou)}%"
    shown = embedded_image(data, "jpeg", caption)
    return f"<figure>{shown}<figcaption>{escape(caption)}</figcaption></figure>"


def side_by_side(
    picture: Picture,
    palette: Sequence[Sequence[int]],
    classes: Sequence[str],
    *,
    width: int = 400,
    columns: int = 4,
) -> bytes:
    """Image, truth, prediction and errors as one JPEG; each ``width`` pixels wide."""
    from ..visualization import comparison

    image, truth, prediction = picture.arrays()
    shown = comparison(
        image, truth, prediction, palette, classes, panel_width=width, columns=columns
    )
    bgr = np.ascontiguousarray(shown[..., ::-1])
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()
