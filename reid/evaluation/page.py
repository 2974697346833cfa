"""The report as one HTML file: tables, camera pairs, verification, maps, queries with their hits.

Nothing is loaded from elsewhere. Every text from data (names, paths, warnings) is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from engine.atomic import write_file
from engine.page import document, embedded_image, remarks, short_path, table
from engine.spread import percent

from .pictures import camera_pair_picture, histogram_picture, roc_picture
from .report import (
    Row,
    Rows,
    describe_domain,
    domain_names,
    domains_of,
    notes,
    pair_cells,
    pairs_of,
    result_cells,
    row_name,
    transfer_cells,
    verification_cells,
    verification_notes,
)
from .results import DomainResult, ModelResult


@dataclass
class Pictures:
    """Files of pictures; (row's name, domain) -> the bytes of one.

    Attributes:
        worst, random: sheets of queries with their hits, JPEG.
        activations: where the network looks, JPEG.
        identities: maps of the embeddings of a few identities, PNG.
        domains: row's name -> a map of the embeddings of all its domains, PNG.
        camera_pairs, scores: PNGs of what stands in a result, as ``draw`` makes them.
        roc: domain -> a PNG of all models' curves, likewise.
    """

    worst: dict[tuple[str, str], bytes] = field(default_factory=dict)
    random: dict[tuple[str, str], bytes] = field(default_factory=dict)
    activations: dict[tuple[str, str], bytes] = field(default_factory=dict)
    identities: dict[tuple[str, str], bytes] = field(default_factory=dict)
    domains: dict[str, bytes] = field(default_factory=dict)
    camera_pairs: dict[tuple[str, str], bytes] = field(default_factory=dict)
    scores: dict[tuple[str, str], bytes] = field(default_factory=dict)
    roc: dict[str, bytes] = field(default_factory=dict)

    def draw(self, rows: Rows) -> None:
        """Add what needs neither a model nor images; what is there is not drawn again."""
        for row in rows:
            for domain in domains_of(row):
                key, title = (row_name(row), domain), f"{row_name(row)} on {domain}"
                pairs = pairs_of(row, domain)
                if pairs and key not in self.camera_pairs:
                    self.camera_pairs[key] = camera_pair_picture(pairs, title)
                found = row.domains[domain].verification if isinstance(row, ModelResult) else {}
                if found and key not in self.scores:
                    self.scores[key] = histogram_picture(found, f"{title}: scores of pairs")
        for domain in domain_names(rows):
            curves = {
                row.name: found
                for row in rows
                if isinstance(row, ModelResult)
                and domain in row.domains
                and (found := row.domains[domain].verification)
            }
            if curves and domain not in self.roc:
                self.roc[domain] = roc_picture(curves, f"ROC on {domain}")


def write_page(
    path: str | Path, rows: Rows, title: str, pictures: Pictures | None = None, note: str = ""
) -> Path:
    """Write the report.

    Args:
        rows: results and aggregates, as for the tables.
        note: a line under the title, e.g. the command.
    """
    return write_file(path, page(rows, title, pictures, note).encode())


def page(rows: Rows, title: str, pictures: Pictures | None = None, note: str = "") -> str:
    """The whole document as text; arguments as for ``write_page``."""
    pictures = pictures or Pictures()
    pictures.draw(rows)
    heads, lines, _ = result_cells(rows)
    words = 3 if "ranking" in heads else 2
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="faint">{escape(note)}</p>' if note else "",
        "<h2>Ranking (percent)</h2>",
        table(heads, lines, text=range(1, words)),
        remarks(notes(rows)),
        '<p class="faint">mAP: mean average precision. rank-k: a right match among the first k. '
        "mINP: how early the last right match comes.</p>",
        _transfer(rows),
        _verification(rows, pictures),
    ]
    for name in domain_names(rows):
        body += [_camera_pairs(row, name, pictures) for row in rows]
    for row in rows:
        if row_name(row) in pictures.domains:
            shown = embedded_image(pictures.domains[row_name(row)], "png", "map of the domains")
            body += [
                f"<h2>{escape(row_name(row))}: the domains' embeddings</h2>",
                f"<figure>{shown}<figcaption>Where domains mix, the network sees no difference "
                "between them. Distances between far groups mean nothing.</figcaption></figure>",
            ]
        if isinstance(row, ModelResult):
            for name, domain in row.domains.items():
                body.append(_domain(row.name, name, domain, pictures))
    return document(title, body)


def _transfer(rows: Rows) -> str:
    heads, lines = transfer_cells(rows)
    if not lines:
        return ""
    return f"<h2>From the source to the targets (percent)</h2>{table(heads, lines)}"


def _verification(rows: Rows, pictures: Pictures) -> str:
    heads, lines = verification_cells(rows)
    if not lines:
        return ""
    parts = [
        "<h2>Verification: are two images of one identity? (percent)</h2>",
        table(heads, lines, text=(1,)),
        remarks(verification_notes(rows)),
        '<p class="faint">TAR: share of pairs of one identity that are accepted, where FAR, the '
        "share of pairs of two identities, is so much. EER: where both errors are equal. "
        "Thresholds are cosine similarities.</p>",
    ]
    for name in domain_names(rows):
        if name in pictures.roc:
            shown = embedded_image(pictures.roc[name], "png", f"ROC on {name}")
            parts.append(f"<figure>{shown}</figure>")
    return "\n".join(parts)


def _camera_pairs(row: Row, name: str, pictures: Pictures) -> str:
    pairs = pairs_of(row, name) if name in domains_of(row) else []
    if not pairs:
        return ""
    title = f"{row_name(row)} on {name}"
    drawn = pictures.camera_pairs[row_name(row), name]
    picture = embedded_image(drawn, "png", f"camera pairs of {title}")
    heads, lines = pair_cells(pairs)
    first_heads, first_lines = pair_cells(pairs, "rank-1")
    return (
        f"<h2>{escape(title)}: camera pairs</h2><figure>{picture}<figcaption>How well queries of "
        "one camera are found among the images of another alone.</figcaption></figure>"
        f"<details><summary>The numbers</summary><h3>mAP (percent)</h3>{table(heads, lines)}"
        f"<h3>rank-1 (percent)</h3>{table(first_heads, first_lines)}</details>"
    )


def _domain(model: str, name: str, domain: DomainResult, pictures: Pictures) -> str:
    title, key = f"{model} on {name}", (model, name)
    parts = [
        f"<h2>{escape(title)}</h2>",
        f'<p class="faint">{escape(describe_domain(domain))}</p>',
    ]
    if domain.problem:
        parts.append(f'<p class="alarm">No numbers: {escape(domain.problem)}</p>')
    if key in pictures.scores:
        shown = embedded_image(pictures.scores[key], "png", f"scores of pairs of {title}")
        parts.append(
            f"<figure>{shown}<figcaption>Both shapes have the same area. Dashed: thresholds at "
            "which so many pairs of two identities are accepted.</figcaption></figure>"
        )
    if key in pictures.identities:
        shown = embedded_image(pictures.identities[key], "png", f"map of identities of {title}")
        parts.append(
            f"<h3>Embeddings of a few identities</h3><figure>{shown}<figcaption>Colours: "
            "identities; markers: cameras. Distances between far groups mean nothing."
            "</figcaption></figure>"
        )
    for heading, sheets, caption in (
        ("The worst queries", pictures.worst, "The lowest average precisions, the lowest first."),
        ("Random queries", pictures.random, "For balance; the same for every model."),
        (
            "Where the network looks",
            pictures.activations,
            "The queries above, as the network gets them, and the activation of its last feature "
            "map on them: from dark violet (low) to yellow (high).",
        ),
    ):
        if key in sheets:
            shown = embedded_image(
                sheets[key], "jpeg", f"{heading.lower()} of {title}", scrolls=True
            )
            parts.append(
                f"<h3>{heading}</h3><figure>{shown}<figcaption>{caption}</figcaption></figure>"
            )
    worst = [example for example in domain.examples if example["why"] == "worst"]
    if worst:
        parts.append("<details><summary>Files of the worst queries</summary>")
        parts.append(table(*_files(worst), text=(2,)) + "</details>")
    return "\n".join(parts)


def _files(examples: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    heads = ["query", "AP (%)", "nearest", "first right match at rank"]
    lines = [
        [
            short_path(example["path"]),
            percent(example["average_precision"]),
            short_path(example["hits"][0]["path"]) if example["hits"] else "-",
            f"{example['first_match']:,}",
        ]
        for example in examples
    ]
    return heads, lines
