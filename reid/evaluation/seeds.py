"""Several runs of one recipe with different seeds: mean and deviation of every number."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.recipe import shared_name
from engine.spread import Spread, check_alike

from .results import ALIKE, ModelResult


@dataclass(frozen=True)
class Aggregate:
    """Runs of one recipe.

    Attributes:
        metrics: domain -> metric -> Spread; a number that one of the runs lacks is left out.
        refined: domain -> refinement -> metric -> Spread.
        camera_pairs: domain -> the pairs that all runs have, as of a DomainResult, in their means.
        verification: domain -> 'eer', 'auc', 'tar at <far>' -> Spread.
        mean_over_targets, mean_over_sources, gap: metric -> Spread.
    """

    name: str
    seeds: tuple[int | None, ...]
    sources: list[str]
    metrics: dict[str, dict[str, Spread]]
    refined: dict[str, dict[str, dict[str, Spread]]]
    camera_pairs: dict[str, list[dict[str, Any]]]
    verification: dict[str, dict[str, Spread]]
    mean_over_targets: dict[str, Spread]
    mean_over_sources: dict[str, Spread]
    gap: dict[str, Spread]

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
    check_alike(results, ALIKE)
    first = results[0]
    refined = {
        domain: {
            step: _spreads(
                found.metrics, lambda r, m, d=domain, s=step: r.value(d, m, s), results
            )
            for step, found in kept.refined.items()
        }
        for domain, kept in first.domains.items()
    }  # fmt: skip
    metrics = list(dict.fromkeys(m for d in first.domains.values() for m in d.metrics))
    return Aggregate(
        name=name or shared_name([r.name for r in results]) or _config_name(first),
        seeds=tuple(r.seed for r in results),
        sources=list(first.sources),
        metrics={
            domain: _spreads(kept.metrics, lambda r, m, d=domain: r.value(d, m), results)
            for domain, kept in first.domains.items()
        },
        refined=refined,
        camera_pairs={domain: _mean_pairs(results, domain) for domain in first.domains},
        verification={
            domain: _spreads(
                verification_numbers(first, domain),
                lambda r, key, d=domain: verification_numbers(r, d).get(key),
                results,
            )
            for domain in first.domains
        },
        mean_over_targets=_spreads(metrics, lambda r, m: r.mean_over_targets(m), results),
        mean_over_sources=_spreads(metrics, lambda r, m: r.mean_over_sources(m), results),
        gap=_spreads(metrics, lambda r, m: r.gap(m), results),
    )


def by_recipe(results: Sequence[ModelResult]) -> list[list[ModelResult]]:
    """Groups of two or more results of one recipe whose trainings had different, known seeds."""
    groups: dict[str, list[ModelResult]] = {}
    for result in results:
        if result.recipe and result.seed is not None:
            key = repr([get(result) for get in ALIKE.values()])
            groups.setdefault(key, []).append(result)
    return [
        group
        for group in groups.values()
        if len(group) > 1 and len({r.seed for r in group}) == len(group)
    ]


def verification_numbers(result: ModelResult, domain: str) -> dict[str, float | None]:
    """``eer``, ``auc`` and ``tar at <far>`` of one domain by name; empty where not measured."""
    found = result.domains[domain].verification if domain in result.domains else {}
    if not found:
        return {}
    points = {f"tar at {point['far']:g}": point["tar"] for point in found["points"]}
    return {"eer": found["eer"], "auc": found["auc"], **points}


def _mean_pairs(results: Sequence[ModelResult], domain: str) -> list[dict[str, Any]]:
    """The camera pairs that every run has, with the means of their numbers."""
    by_pair = [
        {(p["query_camera"], p["gallery_camera"]): p for p in r.domains[domain].camera_pairs}
        for r in results
    ]
    return [
        {
            **pair,
            "mAP": sum(pairs[key]["mAP"] for pairs in by_pair) / len(by_pair),
            "rank-1": sum(pairs[key]["rank-1"] for pairs in by_pair) / len(by_pair),
        }
        for key, pair in by_pair[0].items()
        if all(key in pairs for pairs in by_pair)
    ]


def _spreads(
    keys: Iterable[str],
    get: Callable[..., float | None],
    results: Sequence[ModelResult],
) -> dict[str, Spread]:
    """A Spread of ``get(result, key)`` for each key for which no result lacks a number."""
    found = {key: [get(result, key) for result in results] for key in keys}
    return {
        key: Spread.of([v for v in values if v is not None])
        for key, values in found.items()
        if None not in values
    }


def _config_name(result: ModelResult) -> str:
    return Path(result.config).stem or result.name
