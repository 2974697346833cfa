"""Segmentation results as tables for people; all numbers in percent."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from engine.spread import Spread, percent

from .results import DomainResult, ModelResult
from .seeds import Aggregate

if TYPE_CHECKING:
    from rich.console import Group

Rows = Sequence["ModelResult | Aggregate"]

# ------------------------------------------------------------------------ what stands in a cell


def cell(row: ModelResult | Aggregate, domain: str, metric: str) -> float | Spread | None:
    if isinstance(row, Aggregate):
        return row.metrics.get(domain, {}).get(metric)
    return row.value(domain, metric)


def domain_names(rows: Rows) -> list[str]:
    """All domains of all rows, sources first."""
    names: dict[str, None] = {}
    for row in rows:
        names.update(dict.fromkeys(row.domains if isinstance(row, ModelResult) else row.metrics))
    sources = {row.source for row in rows}
    return sorted(names, key=lambda name: name not in sources)


def header(domain: str, rows: Rows) -> str:
    return f"{domain} (source)" if domain in {row.source for row in rows} else domain


def mean_over_targets(row: ModelResult | Aggregate) -> float | Spread | None:
    if isinstance(row, Aggregate):
        return row.mean_over_targets.get("mIoU")
    return row.mean_over_targets()


def gap(row: ModelResult | Aggregate) -> float | Spread | None:
    return row.gap if isinstance(row, Aggregate) else row.gap()


# ------------------------------------------------------------------ what must be said with a table


def protocol_numbers(rows: Rows) -> dict[str, int]:
    """Protocol text -> its number, in the order of the rows."""
    texts = dict.fromkeys(row.protocol.get("text", "none") for row in rows)
    return {text: number for number, text in enumerate(texts, start=1)}


def notes(rows: Rows) -> list[str]:
    """Lines that belong under a table of these rows: protocols, data, and, beginning with 'not
    comparable' or 'warning', what a reader must not overlook."""
    protocols = protocol_numbers(rows)
    if len(protocols) == 1:
        lines = [f"protocol: {next(iter(protocols))}"]
    else:
        lines = [f"protocol [{number}]: {text}" for text, number in protocols.items()]
        lines.append("not comparable: the rows follow different protocols")
    single = [row for row in rows if isinstance(row, ModelResult)]
    compared: list[tuple[str, Callable[[DomainResult], Any]]] = [
        ("tested on different data", lambda d: d.data.get("fingerprint")),
        ("their means are over different classes", lambda d: [d.classes, d.evaluated_classes]),
        ("evaluated by different rules", lambda d: d.rules),
    ]
    for domain in domain_names(rows):
        found = [row.domains[domain] for row in single if domain in row.domains]
        for text, get in compared:
            if len({repr(get(d)) for d in found}) > 1:
                lines.append(f"not comparable on {domain}: {text}")
        if found:
            lines.append(f"{domain}: {describe_domain(found[0])}")
    if len({tuple(sorted(row.targets)) for row in single}) > 1:
        lines.append("not comparable in their means: over different sets of targets")
    lines += dict.fromkeys(f"warning: {text}" for row in single for text in row.warnings)
    return lines


def describe_domain(domain: DomainResult) -> str:
    """One line on how a domain's numbers were made."""
    data = domain.data
    parts = [f"{data.get('name', '?')} {data.get('split', '')}".strip()]
    if data.get("num_images") is not None:
        parts.append(f"{data['num_images']:,} images")
    parts.append(
        f"mean over {len(domain.evaluated_classes)} of {len(domain.classes)} classes"
        if len(domain.evaluated_classes) != len(domain.classes)
        else f"mean over {len(domain.classes)} classes"
    )
    if domain.rules.get("inference"):
        parts.append(str(domain.rules["inference"]))
    if domain.rules.get("boundary"):
        parts.append(f"boundary: {domain.rules['boundary']}")
    if data.get("fingerprint"):
        parts.append(f"data {str(data['fingerprint'])[:12]}")
    return ", ".join(parts)


# ------------------------------------------------------------------------------------- the tables


def result_table(rows: Rows, title: str) -> Group:
    """Models by domains: mIoU, its mean over targets and the gap from the source, and what the
    numbers depend on below. For ``Console().print(..., soft_wrap=True)``."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table()
    table.add_column("model", overflow="fold")
    names = domain_names(rows)
    for name in names:
        table.add_column(Text(header(name, rows)), justify="right")
    several = any(len([n for n in names if n != row.source]) > 1 for row in rows)
    gaps = any(gap(row) is not None for row in rows)
    if several:
        table.add_column("mean of targets", justify="right")
    if gaps:
        table.add_column("gap to source", justify="right")
    protocols = protocol_numbers(rows)
    if len(protocols) > 1:
        table.add_column("protocol")
    for row in rows:
        cells = [percent(cell(row, name, "mIoU")) for name in names]
        if several:
            cells.append(percent(mean_over_targets(row)))
        if gaps:
            cells.append(percent(gap(row)))
        if len(protocols) > 1:
            number = protocols[row.protocol.get("text", "none")]
            cells.append(f"{row.protocol.get('name', 'none')} [{number}]")
        table.add_row(Text(row.name), *map(Text, cells))
    return Group(Text(f"{title}: mIoU (percent)"), table, *map(Text, notes(rows)))


def metric_table(rows: Rows) -> Group:
    """Every metric of every model and domain."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table()
    table.add_column("model", overflow="fold")
    table.add_column("domain", overflow="fold")
    metrics = metric_names(rows)
    for metric in metrics:
        table.add_column(metric.replace("_", " "), justify="right")
    for row in rows:
        for domain in row.domains if isinstance(row, ModelResult) else row.metrics:
            cells = [percent(cell(row, domain, metric)) for metric in metrics]
            table.add_row(Text(row.name), Text(domain), *map(Text, cells))
    return Group(Text("all metrics (percent)"), table)


def metric_names(rows: Rows) -> list[str]:
    names: dict[str, None] = {}
    for row in rows:
        for domain in (row.domains if isinstance(row, ModelResult) else row.metrics).values():
            names.update(
                dict.fromkeys(domain.metrics if isinstance(domain, DomainResult) else domain)
            )
    return list(names)


def class_cells(rows: Rows, domain: str) -> tuple[list[str], list[list[str]], list[str]]:
    """Per-class IoU on one domain: names of the rows that were tested on it; for each class its
    name and a cell a row; the rows' means. Classes outside the mean are in brackets."""
    tested = [r for r in rows if cell(r, domain, "mIoU") is not None]
    known = next((r.domains[domain] for r in tested if isinstance(r, ModelResult)), None)
    lines = []
    if known is not None:
        for index, label in enumerate(known.classes):
            cells: list[str] = []
            for row in tested:
                if isinstance(row, Aggregate):
                    cells.append(percent(row.iou.get(domain, {}).get(label)))
                elif label in row.domains[domain].classes:
                    found = row.domains[domain]
                    cells.append(percent(found.iou[found.classes.index(label)]))
                else:
                    cells.append("-")
            inside = index in known.evaluated_classes
            lines.append([label if inside else f"({label})", *cells])
    means = [percent(cell(row, domain, "mIoU")) for row in tested]
    return [row.name for row in tested], lines, means


def class_table(rows: Rows, domain: str) -> Group:
    """IoU by class on one domain."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    names, lines, means = class_cells(rows, domain)
    table = Table()
    table.add_column("class")
    for name in names:
        table.add_column(Text(name, overflow="fold"), justify="right")
    for label, *cells in lines:
        table.add_row(Text(label), *map(Text, cells))
    table.add_section()
    table.add_row(Text("mean"), *map(Text, means))
    bracketed = any(label.startswith("(") for label, *_ in lines)
    note = "; classes in brackets are not in the data's labels and not in the mean"
    return Group(Text(f"{domain}: IoU by class (percent{note if bracketed else ''})"), table)


# ------------------------------------------------------------------------------------ the picture


def confusion_picture(domain: DomainResult, title: str) -> bytes:
    """The confusion matrix as a PNG: row c says as what the pixels of class c were seen."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    counts = np.asarray(domain.confusion, np.float64)
    size = len(counts)
    totals = counts.sum(1, keepdims=True)
    share = np.divide(counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)
    side = 2.6 + 0.36 * size
    figure = Figure(figsize=(side, side), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)  # without pyplot, and so without a window or global state
    axes = figure.add_subplot()
    axes.imshow(np.nan_to_num(share), vmin=0, vmax=1, cmap="Blues")
    axes.set_xticks(range(size), domain.classes, rotation=90)
    axes.set_yticks(range(size), domain.classes)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true (rows add up to 100%)")
    axes.set_title(_wrapped(title), fontsize=10, parse_math=False)
    for row in range(size):
        if totals[row, 0] == 0:
            axes.text(size / 2 - 0.5, row, "does not occur", ha="center", va="center", color="grey")
            continue
        for column in range(size):
            value = share[row, column]
            if value >= 0.005:
                axes.text(
                    column,
                    row,
                    f"{100 * value:.0f}",
                    ha="center",
                    va="center",
                    fontsize=8,
                    color="white" if value > 0.5 else "black",
                )
    data = io.BytesIO()
    figure.savefig(data, format="png")
    return data.getvalue()


def _wrapped(text: str) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(text, 70)) or text
