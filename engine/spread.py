"""A number over several runs: mean and deviation, and how it stands in a table."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


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
