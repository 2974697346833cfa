"""Exact k-means of numbers on a line, by dynamic programming.

In one dimension the clusters are intervals of the sorted values, so the optimum can be found
exactly: Wang and Song, "Ckmeans.1d.dp", The R Journal 2011,
https://journal.r-project.org/articles/RJ-2011-015/. Its cost matrix is totally monotone, hence
divide and conquer: O(k n log n), here with all subproblems of one depth in one numpy operation.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Cost = Callable[[Indices, Indices], Array]


def kmeans_1d(values: npt.ArrayLike, k: int) -> npt.NDArray[np.int64]:
    """The cluster of each value, 0 for the cluster with the smallest values.

    Equal values are always in one cluster; fewer distinct values than ``k`` give fewer clusters.

    Args:
        values: n finite numbers, of any shape.
        k: number of clusters, 1 or more.

    Returns:
        (n,) int64, ``0 .. k-1``, that minimises the sum of squared distances to the clusters'
        means.

    Raises:
        ValueError: k below 1, or values that are not finite.
    """
    flat = np.asarray(values, np.float64).ravel()
    if k < 1:
        raise ValueError(f"k-means needs 1 cluster or more, got k={k}")
    if not np.isfinite(flat).all():
        raise ValueError("k-means: some values are NaN or infinite")
    if not flat.size:
        return np.zeros(0, np.int64)
    points, place, counts = np.unique(flat, return_inverse=True, return_counts=True)
    k = min(k, len(points))
    scale = points[-1] - points[0]
    points = (points - points.mean()) / (scale if scale > 0 else 1.0)
    cost = _interval_cost(points, counts.astype(np.float64))

    n = len(points)
    total = cost(np.zeros(n, np.int64), np.arange(n))  # of points 0..j in one cluster
    starts = np.zeros((k, n), np.int64)  # [m, j]: where the last of m + 1 clusters of 0..j begins
    for m in range(1, k):
        total, starts[m] = _one_more(total, cost, m)

    labels = np.empty(n, np.int64)
    end = n
    for m in range(k - 1, -1, -1):
        labels[starts[m, end - 1] : end] = m
        end = starts[m, end - 1]
    return labels[place.ravel()]


def _interval_cost(points: Array, counts: Array) -> Cost:
    """The function (first, last) -> squared distances to the mean within points first..last."""
    weight = np.concatenate([[0.0], np.cumsum(counts)])
    sums = np.concatenate([[0.0], np.cumsum(counts * points)])
    squares = np.concatenate([[0.0], np.cumsum(counts * points**2)])

    def cost(first: Indices, last: Indices) -> Array:
        w = weight[last + 1] - weight[first]
        s = sums[last + 1] - sums[first]
        value: Array = np.maximum(squares[last + 1] - squares[first] - s * s / w, 0)
        return value

    return cost


def _one_more(before: Array, cost: Cost, m: int) -> tuple[Array, Indices]:
    """Best costs of points 0..j in m + 1 clusters, and where the last cluster begins.

    ``before``: the same for m clusters. Points j < m cannot fill m + 1 clusters: infinite cost.
    The best start never decreases with j, so the middle point's start bounds both halves'.
    """
    n = len(before)
    best, start = np.full(n, np.inf), np.full(n, m, np.int64)
    # each row: points low..high are open, their starts lie in first..last
    low, high = np.array([m]), np.array([n - 1])
    first, last = np.array([m]), np.array([n - 1])
    while len(low):
        middle = (low + high) // 2
        sizes = np.minimum(last, middle) - first + 1  # candidates of each middle, 1 or more
        offsets = np.cumsum(sizes) - sizes
        row = np.repeat(np.arange(len(low)), sizes)
        candidate = np.arange(sizes.sum()) - offsets[row] + first[row]
        value = before[candidate - 1] + cost(candidate, middle[row])
        least = np.minimum.reduceat(value, offsets)
        hits = np.flatnonzero(value == least[row])
        owners, where = np.unique(row[hits], return_index=True)
        assert len(owners) == len(low)
        chosen = candidate[hits[where]]
        best[middle], start[middle] = least, chosen
        left, right = low < middle, middle < high
        low, high, first, last = (
            np.concatenate([low[left], middle[right] + 1]),
            np.concatenate([middle[left] - 1, high[right]]),
            np.concatenate([first[left], chosen[right]]),
            np.concatenate([chosen[left], last[right]]),
        )
    return best, start
