"""Several runs of one recipe with different seeds: mean and deviation of every number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.recipe import shared_name
from engine.spread import Spread, check_alike

from .results import ModelResult


@dataclass(frozen=True)
class Aggregate:
    """Runs of one recipe.

    Attributes:
        metrics: domain -> metric -> Spread. accuracy: domain -> class -> Spread, over the runs in
            which the class occurs. shifts: domain -> shift -> metric -> Spread; drops: domain ->
            shift -> Spread of what top-1 loses.
        mean, mean_over_targets: metric -> Spread of the means over domains.
    """

    name: str
    seeds: tuple[int | None, ...]
    source: str | None
    metrics: dict[str, dict[str, Spread]]
    accuracy: dict[str, dict[str, Spread]]
    shifts: dict[str, dict[str, dict[str, Spread]]]
    drops: dict[str, dict[str, Spread]]
    mean: dict[str, Spread]
    mean_over_targets: dict[str, Spread]

    @property
    def n(self) -> int:
        return len(self.seeds)

    def plain(self) -> dict[str, Any]:
        """For a file: dicts, lists and numbers."""
        return asdict(self)


def aggregate(results: Sequence[ModelResult], name: str | None = None) -> Aggregate:
    """Mean and sample standard deviation over runs that differ in their seed only.

    Args:
        name: of the row; default: the folders of the runs as far as they agree, or the config's.

    Raises:
        ValueError: no results, or results that cannot be averaged: of different recipes, domains,
            data or rules, or one checkpoint twice.
    """
    alike: dict[str, Callable[[ModelResult], Any]] = {
        "recipe": lambda r: r.recipe,
        "epochs": lambda r: r.epoch,
        "source domain": lambda r: r.source,
        "domains": lambda r: sorted(r.domains),
        "data": lambda r: {k: v.data.get("fingerprint") for k, v in r.domains.items()},
        "evaluation rules": lambda r: {k: v.rules for k, v in r.domains.items()},
        "classes": lambda r: {k: v.classes for k, v in r.domains.items()},
        "metrics": lambda r: {k: sorted(v.metrics) for k, v in r.domains.items()},
        "appearance shifts": lambda r: {k: v.shift_words for k, v in r.domains.items()},
    }
    check_alike(results, alike)
    first = results[0]
    accuracy: dict[str, dict[str, Spread]] = {}
    shifts: dict[str, dict[str, dict[str, Spread]]] = {}
    drops: dict[str, dict[str, Spread]] = {}
    for domain, found in first.domains.items():
        accuracy[domain] = {
            label: Spread.of(values)
            for c, label in enumerate(found.classes)
            if (values := [v for r in results if (v := r.domains[domain].accuracy[c]) is not None])
        }
        shifts[domain] = {
            shift: _spreads(
                metrics, lambda r, m, d=domain, s=shift: r.domains[d].shifts[s].get(m), results
            )
            for shift, metrics in found.shifts.items()
        }
        drops[domain] = _spreads(
            found.shifts, lambda r, shift, d=domain: r.domains[d].drop(shift), results
        )
    metrics = dict.fromkeys(m for d in first.domains.values() for m in d.metrics)
    return Aggregate(
        name=name or _shared_name(results),
        seeds=tuple(r.seed for r in results),
        source=first.source,
        metrics={
            domain: _spreads(found.metrics, lambda r, m, d=domain: r.value(d, m), results)
            for domain, found in first.domains.items()
        },
        accuracy=accuracy,
        shifts=shifts,
        drops=drops,
        mean=_spreads(metrics, lambda r, m: r.mean(m), results),
        mean_over_targets=_spreads(metrics, lambda r, m: r.mean_over_targets(m), results),
    )


def by_recipe(results: Sequence[ModelResult]) -> list[list[ModelResult]]:
    """Groups of two or more results of one recipe whose trainings had different, known seeds."""
    groups: dict[tuple[Any, ...], list[ModelResult]] = {}
    for result in results:
        if result.recipe and result.seed is not None:
            key = (
                *(result.recipe, result.epoch),
                tuple((d, v.data.get("fingerprint")) for d, v in sorted(result.domains.items())),
                tuple((d, repr(v.rules), *v.shifts) for d, v in sorted(result.domains.items())),
            )
            groups.setdefault(key, []).append(result)
    return [
        group
        for group in groups.values()
        if len(group) > 1 and len({r.seed for r in group}) == len(group)
    ]


def _spreads(
    keys: Any, get: Callable[..., float | None], results: Sequence[ModelResult]
) -> dict[str, Spread]:
    """A Spread of ``get(result, key)`` for each key for which no result lacks a number."""
    found = {key: [get(result, key) for result in results] for key in keys}
    return {
        key: Spread.of([v for v in values if v is not None])
        for key, values in found.items()
        if None not in values
    }


def _shared_name(results: Sequence[ModelResult]) -> str:
    shared = shared_name([r.name for r in results])
    return shared or Path(results[0].config).stem or results[0].name
