"""Protocols that are a mean over random draws of queries and gallery, and all others as one draw.

VehicleID draws one gallery image of each vehicle, ten times over; CUHK03's classic protocol draws
one gallery image of each person. A data set says so by ``trials`` in its metainfo: pairs of query
and gallery positions in its test split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from engine.spread import Spread

from .ranking import RankingResult

Positions: TypeAlias = "npt.NDArray[np.int64]"
# Positions of the queries and of the gallery in the test split.
Draw: TypeAlias = "tuple[Positions, Positions]"


def draws_of(metainfo: Mapping[str, Any], num_images: int) -> list[Draw]:
    """The draws of a data set: its trials, or queries first and then the gallery.

    Args:
        metainfo: with ``num_query`` or with ``trials``. num_images: of the test split.
    """
    if trials := metainfo.get("trials"):
        return [(np.asarray(q, np.int64), np.asarray(g, np.int64)) for q, g in trials]
    queries = int(metainfo["num_query"])
    whole = np.arange(num_images, dtype=np.int64)
    return [(whole[:queries], whole[queries:])]


def ranking_metrics(result: RankingResult) -> dict[str, float]:
    """``mAP``, ``rank-<k>`` and ``mINP`` by name, in 0..1."""
    return {
        "mAP": result.mAP,
        **{f"rank-{k}": value for k, value in result.cmc.items()},
        "mINP": result.mINP,
    }


def spread_over_draws(
    metrics: Sequence[Mapping[str, float]],
) -> tuple[dict[str, float], dict[str, float]]:
    """Means over the draws, and sample standard deviations (none of a single draw)."""
    spreads = {name: Spread.of([draw[name] for draw in metrics]) for name in metrics[0]}
    means = {name: spread.mean for name, spread in spreads.items()}
    return means, {n: s.deviation for n, s in spreads.items() if s.deviation is not None}
