"""The report as one HTML file: tables, confusion matrices, side-by-side pictures, worst images.

Nothing is loaded from elsewhere; pictures are embedded as small JPEGs. Every text from data (names,
paths, warnings) is escaped.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path, PurePath

import cv2
import numpy as np

from engine.atomic import write_bytes

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
    percent,
    protocol_numbers,
)
from .results import DomainResult, ModelResult

# (model, domain) -> its pictures
Pictures = Mapping[tuple[str, str], Sequence[Picture]]
WORST_SHOWN = 10

_STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --faint: #59636e; --line: #d1d9e0;
  --paper: #ffffff; --panel: #f6f8fa; --accent: #0969da; --alarm: #9a3b00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --faint: #9198a1; --line: #3d444d;
  --paper: #0d1117; --panel: #151b23; --accent: #4493f8; --alarm: #f0a35e; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 78rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; } h2 { font-size: 1.2rem; margin: 2.2rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; overflow-wrap: anywhere; }
p, li { overflow-wrap: anywhere; } a { color: var(--accent); }
.faint { color: var(--faint); font-size: .875rem; } .alarm { color: var(--alarm); }
.wide { overflow-x: auto; -webkit-overflow-scrolling: touch; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9375rem; }
th, td { padding: .3rem .65rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0;
  background: var(--paper); max-width: 55vw; white-space: normal; overflow-wrap: anywhere; }
thead th { background: var(--panel); } tfoot td { font-weight: 600; }
td.text, th.text { text-align: left; white-space: normal; overflow-wrap: anywhere; }
figure { margin: .75rem 0; } figcaption { color: var(--faint); font-size: .875rem;
  overflow-wrap: anywhere; }
img { max-width: 100%; height: auto; border-radius: 4px; background: #fff; }
details > summary { cursor: pointer; padding: .3rem 0; color: var(--accent); }
"""


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
        _notes(rows),
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
    made = time.strftime("%Y-%m-%d %H:%M:%S")
    body.append(f'<p class="faint">Made on {made}.</p>')
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(part for part in body if part)
        + "\n</body></html>\n"
    )


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
    return _table([*heads, *(["protocol"] if len(protocols) > 1 else [])], lines)


def _notes(rows: Rows) -> str:
    items = []
    for line in notes(rows):
        loud = line.startswith(("warning", "not comparable"))
        items.append(f"<li{' class=alarm' if loud else ''}>{escape(line)}</li>")
    return f'<ul class="faint">{"".join(items)}</ul>'


def _metric_table(rows: Rows) -> str:
    metrics = metric_names(rows)
    lines = [
        [row.name, domain, *(percent(cell(row, domain, metric)) for metric in metrics)]
        for row in rows
        for domain in (row.domains if isinstance(row, ModelResult) else row.metrics)
    ]
    return _table(["model", "domain", *(m.replace("_", " ") for m in metrics)], lines, text=(1,))


def _class_table(rows: Rows, domain: str) -> str:
    names, lines, means = class_cells(rows, domain)
    if not lines:
        return '<p class="faint">No single result among the rows.</p>'
    table = _table(["class", *names], lines, last=["mean", *means])
    if any(label.startswith("(") for label, *_ in lines):
        table += (
            '<p class="faint">Classes in brackets are not in this data\'s labels and not in the '
            "mean.</p>"
        )
    return table


def _domain(row: ModelResult, name: str, domain: DomainResult, pictures: Sequence[Picture]) -> str:
    title = f"{row.name} on {name}"
    parts = [
        f"<h2>{escape(title)}</h2>",
        f'<p class="faint">{escape(describe_domain(domain))}</p>',
    ]
    if domain.confusion:
        parts.append(
            "<details><summary>Confusion matrix</summary><figure>"
            + _image(confusion_picture(domain, title), "png", f"confusion matrix of {title}")
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
            [_short_path(i["path"]), percent(i["mIoU"]), percent(i["pixel_accuracy"])]
            for i in domain.images[:WORST_SHOWN]
        ]
        parts.append("<details><summary>Worst images</summary>")
        parts.append(_table(["image", "mIoU", "pixel accuracy"], lines))
        parts.append("</details>")
    return "\n".join(parts)


def _figure(picture: Picture, palette: Sequence[Sequence[int]], classes: Sequence[str]) -> str:
    data = side_by_side(picture, palette, classes, columns=2)  # a phone shows no four beside
    caption = f"{_short_path(picture.path)}, mIoU {percent(picture.iou)}%"
    shown = _image(data, "jpeg", caption)
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


def _table(
    heads: Sequence[str],
    lines: Sequence[Sequence[str]],
    *,
    text: Sequence[int] = (),
    last: Sequence[str] = (),
) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        marked = (
            f"<{tag}{' class=text' if i in text else ''}>{escape(str(c))}</{tag}>"
            for i, c in enumerate(cells)
        )
        return f"<tr>{''.join(marked)}</tr>"

    foot = f"<tfoot>{line(last, 'td')}</tfoot>" if last else ""
    return (
        f'<div class="wide"><table><thead>{line(heads, "th")}</thead>'
        f"<tbody>{''.join(line(cells, 'td') for cells in lines)}</tbody>{foot}</table></div>"
    )


def _image(data: bytes, kind: str, alternative: str) -> str:
    encoded = base64.b64encode(data).decode()
    return (
        f'<img loading="lazy" alt="{escape(alternative)}" src="data:image/{kind};base64,{encoded}">'
    )


def _short_path(path: str) -> str:
    """The last three parts: enough to find the file, without somebody's home directory."""
    return "/".join(PurePath(path).parts[-3:])
