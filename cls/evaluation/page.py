"""The report as one HTML file: tables, confusion matrices, training curves, confident mistakes.

Nothing is loaded from elsewhere. Every text from data (names, paths, warnings) is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path

from engine.atomic import write_file
from engine.page import document, embedded_image, remarks, short_path, table
from engine.spread import percent

from .counting import top_confusions
from .pictures import confusion_picture
from .report import (
    CONFUSIONS_SHOWN,
    Rows,
    appearance_cells,
    appearance_notes,
    class_cells,
    describe_domain,
    domain_names,
    header,
    notes,
    result_cells,
    shift_names,
)
from .results import DomainResult, ModelResult

WORST_SHOWN = 10


def write_page(
    path: str | Path,
    rows: Rows,
    title: str,
    *,
    mistakes: Mapping[tuple[str, str], bytes] | None = None,
    curves: bytes | None = None,
    paper: bool = False,
    note: str = "",
) -> Path:
    """Write the report.

    Args:
        rows: results and aggregates, as for the tables.
        mistakes: (row's name, domain) -> a PNG of the most confident mistakes.
        curves: a PNG of the training curves.
        paper: with the IBN-Net paper's rows in the tables of appearance shifts.
        note: a line under the title, e.g. the command.
    """
    text = page(rows, title, mistakes=mistakes, curves=curves, paper=paper, note=note)
    return write_file(path, text.encode())


def page(
    rows: Rows,
    title: str,
    *,
    mistakes: Mapping[tuple[str, str], bytes] | None = None,
    curves: bytes | None = None,
    paper: bool = False,
    note: str = "",
) -> str:
    """The whole document as text; arguments as for ``write_page``."""
    heads, lines, means = result_cells(rows)
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="faint">{escape(note)}</p>' if note else "",
        "<h2>Accuracy (percent)</h2>",
        table(["model", *heads], lines),
        remarks([*means, *notes(rows)]),
        '<p class="faint">Class accuracy: mean over classes of the share found.</p>',
    ]
    names = domain_names(rows)
    for name in names:
        if shift_names(rows, name):
            shifts, cells = appearance_cells(rows, name, paper=paper)
            told = [[_in_one_line(text) for text in line] for line in cells]
            body += [
                f"<h2>{escape(name)}: top-1 under appearance shifts (percent)</h2>",
                table(["model", *shifts], told),
                remarks(["in brackets the change", *appearance_notes(rows, name, paper=paper)]),
            ]
    if curves is not None:
        body += ["<h2>Training</h2>", embedded_image(curves, "png", "training curves")]
    for name in names:
        columns, by_class, last = class_cells(rows, name)
        if by_class:
            body += [
                f"<h2>{escape(header(name, rows))}: accuracy by class (percent)</h2>",
                table(["class", *columns], by_class, last=["mean", *last]),
            ]
    for row in rows:
        if isinstance(row, ModelResult):
            for name, domain in row.domains.items():
                picture = (mistakes or {}).get((row.name, name))
                body.append(_domain(f"{row.name} on {name}", domain, picture))
    return document(title, body)


def _domain(title: str, domain: DomainResult, mistakes: bytes | None) -> str:
    loss, error = domain.extras.get("log_loss"), domain.extras.get("calibration_error")
    certainty = f"log loss {'-' if loss is None else f'{loss:.3f}'} nats, calibration error "
    parts = [
        f"<h2>{escape(title)}</h2>",
        f'<p class="faint">{escape(describe_domain(domain))}. {certainty}{percent(error, 2)}%.</p>',
        "<details><summary>Confusion matrix</summary><figure>"
        + embedded_image(confusion_picture(domain, title), "png", f"confusion of {title}")
        + "<figcaption>Percent of each true class's images.</figcaption></figure></details>",
    ]
    if found := top_confusions(domain.matrix(), domain.classes, CONFUSIONS_SHOWN):
        lines = [[t, p, f"{number:,}", percent(share)] for t, p, number, share in found]
        parts.append("<h3>Most frequent confusions</h3>")
        parts.append(
            table(["truth", "taken for", "images", "of its class (%)"], lines, text=(1,))
        )  # fmt: skip
    if mistakes is not None:
        parts.append("<h3>Most confident mistakes</h3>")
        parts.append(embedded_image(mistakes, "png", f"most confident mistakes of {title}"))
    if domain.worst:
        lines = [
            [short_path(i["path"]), i["truth"], i["prediction"], percent(i["confidence"])]
            for i in domain.worst[:WORST_SHOWN]
        ]
        parts.append("<details><summary>Files of the most confident mistakes</summary>")
        heads = ["image", "truth", "taken for", "confidence (%)"]
        parts.append(table(heads, lines, text=(1, 2)) + "</details>")
    return "\n".join(parts)


def _in_one_line(text: str) -> str:
    number, _, change = text.partition("\n")
    return f"{number} ({change})" if change else number
