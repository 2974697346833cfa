"""A number over several runs: mean and deviation, and how it stands in a table."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation (divided by n - 1; None for n = 1) of n values."""

    mean: float
    deviation: float | None
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        deviation = statistics.stdev(values) if len(values) > 1 else None
        return cls(statistics.fmean(values), deviation, len(values))


def complete_mean(values: Sequence[float | None]) -> float | None:
    """Their mean; None where there is none, or one is missing: a mean of the rest would flatter."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def percent(value: float | Spread | None, digits: int = 1) -> str:
    """``38.2``, ``38.2 ± 0.4 (n=3)`` or ``-``, from a ratio 0..1 or a difference of two."""
    if value is None:
        return "-"
    if isinstance(value, Spread):
        text = f"{100 * value.mean:.{digits}f}"
        if value.deviation is not None:
            text += f" ± {100 * value.deviation:.{digits}f} (n={value.n})"
        return text
    return f"{100 * value:.{digits}f}"


def check_alike(results: Sequence[Any], alike: Mapping[str, Callable[[Any], Any]]) -> None:
    """Raise a ValueError unless the results are of different runs of one recipe.

    Args:
        results: each with ``name``, ``checkpoint`` and ``weights`` (fingerprint of its file, or
            empty).
        alike: what must not differ, by name, and how to read it off a result.
    """
    if not results:
        raise ValueError("aggregate: expected at least one result")
    first = results[0]
    for result in results[1:]:
        for what, get in alike.items():
            if get(result) != get(first):
                raise ValueError(
                    f"cannot average {first.name} and {result.name}: their {what} differ "
                    f"({_short(get(first))} against {_short(get(result))}); average only runs that "
                    "differ in their seed"
                )
    weights = [r.weights or r.checkpoint for r in results if r.weights or r.checkpoint]
    if len(set(weights)) != len(weights):
        raise ValueError("aggregate: the same checkpoint is given twice; give each run once")


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
