"""Sets of k-reciprocal neighbours, and the sparse encodings made of them.

From the neighbour lists of N items on everything is linear in N k^2. A family of sets is held as
(starts, members): set i is ``members[starts[i]:starts[i + 1]]``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from reid.evaluation.reranking_cpu import CpuKernels

Items = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]
Sets = tuple[npt.NDArray[np.int64], Items]

_BLOCK_ROWS = 8192


def reciprocal_sets(ranks: Items, k: int, kernels: CpuKernels | None) -> Sets:
    """R(i, k): those of the first k of i that have i among their first k; i itself is one.

    Args:
        ranks: (N, K) the nearest items of each, itself first.
        k: how many of them, itself included; at most K.
    """
    first = np.ascontiguousarray(ranks[:, :k])
    if kernels is not None:
        mutual = kernels.mutual_neighbours(first, k)
    else:
        forward = np.arange(len(ranks))[:, None] * len(ranks) + first
        backward = first.astype(np.int64) * len(ranks) + np.arange(len(ranks))[:, None]
        mutual = np.isin(backward, forward)
    return _starts(mutual.sum(1)), first[mutual]


def expanded_sets(sets: Sets, half_sets: Sets, kernels: CpuKernels | None) -> Sets:
    """R*(i): R(i, k) and the R(c, k/2) of its members c that lie in it for more than two thirds.

    Args:
        sets: the R(i, k).
        half_sets: the R(i, k/2).

    Returns:
        The sets, each ascending.
    """
    if kernels is not None:
        return kernels.expand_sets(sets, half_sets)
    (starts, members), (half_starts, half_members) = sets, half_sets
    count = len(starts) - 1
    sizes, found = [], []
    for first in range(0, count, _BLOCK_ROWS):
        last = min(first + _BLOCK_ROWS, count)
        edges = slice(starts[first], starts[last])
        owner = np.repeat(np.arange(first, last), np.diff(starts[first : last + 1]))
        candidate = members[edges]
        own = owner * count + candidate
        width = np.diff(half_starts)[candidate]  # of each candidate's set
        edge = np.repeat(np.arange(len(candidate)), width)
        step = np.arange(len(edge)) - np.repeat(np.cumsum(width) - width, width)
        theirs = owner[edge] * count + half_members[half_starts[candidate][edge] + step]
        common = np.bincount(edge, np.isin(theirs, own), minlength=len(candidate))
        joined = 3 * common > 2 * width
        union = np.unique(np.concatenate([own, theirs[joined[edge]]]))
        sizes.append(np.bincount(union // count - first, minlength=last - first))
        found.append((union % count).astype(np.int32))
    return _starts(np.concatenate(sizes)), np.concatenate(found)


def encode(sets: Sets, distance: Callable[[Items, Items], Floats]) -> Any:
    """V, a sparse (N, N) float64 matrix: exp(-d) on the set of each item, divided by its sum.

    Args:
        sets: R*.
        distance: of P pairs of items, (P,).
    """
    from scipy import sparse

    starts, members = sets
    count = len(starts) - 1
    sizes = np.diff(starts)
    values = np.empty(len(members))
    for first in range(0, count, _BLOCK_ROWS):
        last = min(first + _BLOCK_ROWS, count)
        part = slice(starts[first], starts[last])
        row = np.repeat(np.arange(first, last, dtype=np.int32), sizes[first:last])
        weights = np.exp(-distance(row, members[part]))
        values[part] = weights / np.bincount(row - first, weights)[row - first]
    return sparse.csr_matrix((values, members, starts), shape=(count, count))


def average_over(encodings: Any, ranks: Items) -> Any:
    """Local query expansion: the mean of the encodings of the items in each row of ``ranks``."""
    from scipy import sparse

    count, k = ranks.shape
    if k == 1:
        return encodings
    choice = sparse.csr_matrix(
        (np.ones(count * k), ranks.reshape(-1), np.arange(0, count * k + 1, k)),
        shape=(count, count),
    )
    mean = choice @ encodings
    mean.data /= k
    return mean


def _starts(sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
