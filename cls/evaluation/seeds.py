"""Several runs of one recipe with different seeds: mean and deviation of every number."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.spread import Spread, check_alike

from .results import ModelResult

# What a training is made of; the rest of a configuration says where files go and what is logged.
_RECIPE = (
    *("model", "train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler"),
    *("precision", "custom_hooks", "auto_scale_lr", "sync_bn", "load_from"),
)
# of no effect on what is trained
_ELSEWHERE = {"root", "num_workers", "persistent_workers", "pin_memory", "prefetch_factor"}
_ELSEWHERE |= {"val_interval", "seed"}


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


def recipe_digest(config: Mapping[str, Any] | None) -> str:
    """What a training's configuration says without its seed, its folders and its logs: a sha256.

    Empty for None.
    """
    if not config:
        return ""
    told = {key: _essential(config[key]) for key in _RECIPE if config.get(key) is not None}
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()


def _essential(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _essential(v) for k, v in value.items() if k not in _ELSEWHERE}
    if isinstance(value, list | tuple):
        return [_essential(item) for item in value]
    return value


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
    """``bin_s0/epoch_30`` and ``bin_s1/epoch_30`` -> ``bin``."""
    folders = [r.name.partition("/")[0] for r in results]
    shared = folders[0]
    while shared and not all(folder.startswith(shared) for folder in folders):
        shared = shared[:-1]
    shared = re.sub(r"[_-](seed|s)?\d*$", "", shared)  # of ..._seed0, ..._s0, ...-0
    return shared or Path(results[0].config).stem or results[0].name
