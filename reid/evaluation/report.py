"""Ranking results as a table for people and as a dict for files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.atomic import write_json

if TYPE_CHECKING:
    from rich.console import Group


def result_table(rows: Mapping[str, Mapping[str, Mapping[str, float]]], title: str) -> Group:
    """A title and a table of percentages, for ``Console().print(..., soft_wrap=True)``.

    Args:
        rows: model -> domain -> metric -> value in 0..1, every domain with the same metrics.
        title: says the protocol: data, split, AP rule, seed.
    """
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table()
    table.add_column("model", overflow="fold")
    table.add_column("domain", overflow="fold")
    names = list(next(iter(next(iter(rows.values())).values())))
    for name in names:
        table.add_column(name, justify="right")
    for model, domains in rows.items():
        for domain, values in domains.items():
            table.add_row(model, domain, *(f"{100 * values[name]:.1f}" for name in names))
    return Group(Text(f"{title} (percent)"), table)


def write_results(
    path: Path,
    rows: Mapping[str, Mapping[str, Mapping[str, float]]],
    details: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    seed: int,
    config: str,
) -> Path:
    """Write the numbers of ``rows`` (as for a table), each domain with its protocol and data.

    Args:
        details: by domain, what its metric kept: ``DomainLoop.details``.
    """
    content = {
        "metrics": rows,
        "protocols": {name: describe_domain(found[0]) for name, found in details.items()},
        "data": {name: found[0]["data"] for name, found in details.items()},
        "seed": seed,
        "config": config,
    }
    return write_json(path, content)


def describe_domain(details: Mapping[str, Any]) -> str:
    """One line on how a domain's numbers were made."""
    data, rules, result = details["data"], details["rules"], details["result"]
    return (
        f"{data['name']} ({data['protocol']}): {result.num_valid_queries:,} valid of "
        f"{data['num_query_images']:,} queries, {data['num_gallery_images']:,} gallery images; "
        f"{rules['metric']} distance, AP rule '{rules['ap']}'"
    )
