"""Exact search over stored vectors as they lie in their files: no index, no copy in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid.gallery import scan_cpu, scan_gpu, scan_torch
from reid.gallery.scores import Segments

Found = tuple[list[NDArray[np.int64]], list[NDArray[np.float64]]]


def scan(
    segments: Sequence[NDArray[Any]],
    queries: NDArray[np.float32],
    k: int,
    metric: str,
    keep: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The k best rows of each query, best first, equal scores by ascending row.

    Args:
        segments: C-ordered (rows_i, dim) arrays, all float32 or all float16, usually mapped into
            memory; row number = position in their concatenation.
        queries: (Q, dim) float32.
        k: at least 1.
        metric: ``'cosine'``: the score is the inner product; ``'euclidean'``: minus the distance.
        keep: (rows,) the rows that count; None for all.

    Returns:
        rows (Q, m) int64 and their scores (Q, m) float64 (:mod:`reid.gallery.scores`), where
        m = min(k, number of rows that count).
    """
    stored, queries, keep, kept = _checked(segments, queries, metric, keep)
    m = min(k, kept)
    if m < 1 or not len(queries):
        return np.empty((len(queries), max(m, 0)), np.int64), np.empty((len(queries), max(m, 0)))
    rows, scores = _search(stored, queries, metric, keep, m, -np.inf)
    return np.stack(rows), np.stack(scores)


def scan_range(
    segments: Sequence[NDArray[Any]],
    queries: NDArray[np.float32],
    min_score: float,
    metric: str,
    keep: NDArray[np.bool_] | None = None,
    limit: int | None = None,
) -> Found:
    """All rows that score at least ``min_score``, in the order of :func:`scan`.

    Args:
        limit: at most the so many best of each query; None for all.

    Returns:
        by query the rows (m,) int64 and their scores (m,) float64.
    """
    stored, queries, keep, kept = _checked(segments, queries, metric, keep)
    most = kept if limit is None else min(limit, kept)
    if most < 1 or not len(queries):
        return [np.empty(0, np.int64) for _ in queries], [np.empty(0) for _ in queries]
    return _search(stored, queries, metric, keep, most, min_score)


def _search(
    stored: Segments,
    queries: NDArray[np.float32],
    metric: str,
    keep: NDArray[np.bool_] | None,
    k: int,
    lowest: float,
) -> Found:
    kept = len(stored) if keep is None else int(np.count_nonzero(keep))
    places = None if lowest > -np.inf and k == kept else k  # None: no table of k places
    found = scan_gpu.search(stored, queries, metric, keep, places, lowest)
    if found is not None:
        return found
    if (fast := scan_cpu.kernels()) is not None:
        return fast.search(stored, queries, metric, keep, k, lowest)
    return scan_torch.search(stored, queries, metric, keep, places, lowest)


def _checked(
    segments: Sequence[NDArray[Any]],
    queries: NDArray[np.float32],
    metric: str,
    keep: NDArray[np.bool_] | None,
) -> tuple[Segments, NDArray[np.float32], NDArray[np.bool_] | None, int]:
    """The arguments in the form that is computed with, and the number of rows that count."""
    if metric not in ("cosine", "euclidean"):
        raise ValueError(f"metric must be 'cosine' or 'euclidean'; got {metric!r}.")
    queries = np.ascontiguousarray(queries, np.float32)
    if queries.ndim != 2:
        raise ValueError(f"queries must have shape (Q, dim); got {queries.shape}.")
    stored = Segments(segments, queries.shape[1])
    if keep is None:
        return stored, queries, None, len(stored)
    keep = np.ascontiguousarray(keep, np.bool_)
    if keep.shape != (len(stored),):
        raise ValueError(
            f"keep must say of each of the {len(stored)} rows whether it counts; got shape "
            f"{keep.shape}."
        )
    kept = int(np.count_nonzero(keep))
    return stored, queries, None if kept == len(stored) else keep, kept
