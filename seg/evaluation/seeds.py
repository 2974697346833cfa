"""Several runs of one recipe with different seeds: mean and deviation of every number."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.spread import Spread, check_alike

from .results import ModelResult


@dataclass(frozen=True)
class Aggregate:
    """Runs of one recipe.

    Attributes:
        metrics: domain -> metric -> Spread. iou: domain -> class -> Spread, over the runs in which
            the class has an IoU (its n says how many).
        mean_over_targets: metric -> Spread. gap: Spread of source minus mean of the targets, None
            where the source was not tested.
    """

    name: str
    seeds: tuple[int | None, ...]
    source: str | None
    protocol: dict[str, Any]
    metrics: dict[str, dict[str, Spread]]
    iou: dict[str, dict[str, Spread]]
    mean_over_targets: dict[str, Spread]
    gap: Spread | None

    @property
    def n(self) -> int:
        return len(self.seeds)

    def plain(self) -> dict[str, Any]:
        """For a file: dicts, lists and numbers."""
        return asdict(self)


def aggregate(results: Sequence[ModelResult], name: str | None = None) -> Aggregate:
    """Mean and sample standard deviation over runs that differ in their seed only.

    Args:
        name: of the row; default: the config's.

    Raises:
        ValueError: no results, or results that cannot be averaged: of different protocols or
            deviations from them, other domains, data or rules, or one checkpoint twice.
    """
    alike: dict[str, Callable[[ModelResult], Any]] = {
        "protocol": lambda r: r.protocol.get("text", "none"),
        "source domain": lambda r: r.source,
        "domains": lambda r: sorted(r.domains),
        "data": lambda r: {k: v.data.get("fingerprint") for k, v in r.domains.items()},
        "evaluation rules": lambda r: {k: v.rules for k, v in r.domains.items()},
        "evaluated classes": lambda r: {k: v.evaluated_classes for k, v in r.domains.items()},
        "classes": lambda r: {k: v.classes for k, v in r.domains.items()},
        "metrics": lambda r: {k: sorted(v.metrics) for k, v in r.domains.items()},
    }
    check_alike(results, alike)
    first = results[0]
    metrics, iou = {}, {}
    for domain, found in first.domains.items():
        metrics[domain] = {
            m: Spread.of(values)
            for m in found.metrics
            if (values := _all(r.value(domain, m) for r in results))
        }
        iou[domain] = {
            label: Spread.of(values)
            for c, label in enumerate(found.classes)
            if (values := [v for r in results if (v := r.domains[domain].iou[c]) is not None])
        }
    means = {
        m: Spread.of(values)
        for m in next(iter(first.domains.values())).metrics
        if (values := _all(r.mean_over_targets(m) for r in results))
    }
    gaps = _all(r.gap() for r in results)
    return Aggregate(
        name=name or Path(first.config).stem or first.name,
        seeds=tuple(r.seed for r in results),
        source=first.source,
        protocol=first.protocol,
        metrics=metrics,
        iou=iou,
        mean_over_targets=means,
        gap=Spread.of(gaps) if gaps else None,
    )


def by_recipe(results: Sequence[ModelResult]) -> list[list[ModelResult]]:
    """Groups of two or more results of one config whose trainings had different, known seeds."""
    groups: dict[tuple[str, str], list[ModelResult]] = {}
    for result in results:
        key = result.config, result.protocol.get("text", "none")
        groups.setdefault(key, []).append(result)
    return [
        group
        for group in groups.values()
        if len(group) > 1
        and None not in (seeds := [r.seed for r in group])
        and len(set(seeds)) == len(group)
    ]


def _all(values: Any) -> list[float]:
    """The values, or nothing if one of them is missing."""
    found = list(values)
    return [] if any(v is None or math.isnan(v) for v in found) else found
