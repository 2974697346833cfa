"""Queries to look at: the worst by average precision, and random ones for balance.

An example is a plain dict, so that it can stand in ``results.json``:

- ``why``: 'worst' or 'random'; ``path``, ``pid``, ``camera`` (None where unknown) of the query;
- ``average_precision``, 0..1, and ``first_match``, the rank of the first positive;
- ``hits``: the nearest of the gallery, best first, each with ``path``, ``pid``, ``camera``,
  ``score`` (cosine similarity, or minus the Euclidean distance), ``verdict``: 'same' or 'other'
  identity, or 'ignored' by the protocol (same identity and camera, or junk), and ``rank``, which
  counts what is not ignored and is None for the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .draws import Draw
from .ranking import Metric, RankingResult

Ints = npt.NDArray[np.int64]
HITS = 10
_MORE = 3  # of those that are ignored, at most so many besides


def example_queries(
    result: RankingResult,
    features: npt.NDArray[np.floating[Any]],
    pids: Ints,
    camids: Ints,
    paths: Sequence[str],
    draw: Draw,
    *,
    worst: int,
    random: int,
    metric: Metric = "cosine",
    hits: int = HITS,
) -> list[dict[str, Any]]:
    """The ``worst`` queries by average precision, then ``random`` others of them.

    The random ones depend on the number of queries alone: they are the same for every model.

    Args:
        result: of the draw; queries without a positive are left out.
        features: (N, D) of the test split; pids, camids, paths: one for each.
        hits: how many each example has, and up to 3 more where some of them are ignored.
    """
    valid = np.flatnonzero(result.num_positives > 0)
    precision = result.average_precision[valid]
    ranked = valid[np.argsort(precision, kind="stable")]
    chosen = [(int(q), "worst") for q in ranked[:worst]]
    shown = {query for query, _ in chosen}
    drawn = np.random.default_rng(0).permutation(valid)
    others = [(int(q), "random") for q in drawn if int(q) not in shown]
    chosen += others[:random]
    queries, gallery = draw
    examples = []
    for place, why in chosen:
        query = int(queries[place])
        examples.append(
            {
                "why": why,
                "index": query,
                **_who(query, pids, camids, paths),
                "average_precision": float(result.average_precision[place]),
                "first_match": int(result.first_match_rank[place]),
                "hits": _hits(query, gallery, features, pids, camids, paths, metric, hits),
            }
        )
    return examples


def _hits(
    query: int,
    gallery: Ints,
    features: npt.NDArray[np.floating[Any]],
    pids: Ints,
    camids: Ints,
    paths: Sequence[str],
    metric: Metric,
    wanted: int,
) -> list[dict[str, Any]]:
    scores = _scores(features[query], features[gallery], metric)
    found: list[dict[str, Any]] = []
    rank = 0
    for place in np.argsort(-scores, kind="stable"):
        item = int(gallery[place])
        same = pids[item] == pids[query]
        own_camera = camids[item] == camids[query] and camids[query] != -1
        ignored = pids[item] == -1 or (same and own_camera)
        rank += not ignored
        found.append(
            {
                **_who(item, pids, camids, paths),
                "score": float(scores[place]),
                "verdict": "ignored" if ignored else "same" if same else "other",
                "rank": None if ignored else rank,
            }
        )
        if rank == wanted or len(found) == wanted + _MORE:
            break
    return found


def _scores(
    query: npt.NDArray[np.floating[Any]], gallery: npt.NDArray[np.floating[Any]], metric: Metric
) -> npt.NDArray[np.float64]:
    query, gallery = query.astype(np.float64), gallery.astype(np.float64)
    scores: npt.NDArray[np.float64]
    if metric == "euclidean":
        scores = -np.linalg.norm(gallery - query, axis=1)
        return scores
    lengths = np.linalg.norm(gallery, axis=1) * np.linalg.norm(query)
    scores = np.divide(gallery @ query, lengths, out=np.zeros(len(gallery)), where=lengths > 0)
    return scores


def _who(item: int, pids: Ints, camids: Ints, paths: Sequence[str]) -> dict[str, Any]:
    camera = int(camids[item])
    return {
        "path": paths[item],
        "pid": int(pids[item]),
        "camera": None if camera == -1 else camera,
    }
