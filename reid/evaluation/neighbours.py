"""Exact nearest neighbours by blocks: of all points among themselves, or of some among others.

Distances are those of :mod:`reid.evaluation.grid`, hence exact, and the result does not depend on
block sizes, threads or device. **Equal distances are ordered by position.** Neither the distance
matrix nor a ranking is ever held.

On a CPU one float32 product per tile screens (``reranking_cpu.cpp``). Every point has a short list
of candidates and a limit: the k-th smallest value it has seen, plus twice the bound on the error of
the screen. Nearly all of a tile is above the limits and is dismissed at the speed of a comparison;
a list that is full drops what has come to lie above its limit; and what remains in the end, a few
more than k, is judged by exact distances. Among themselves every pair of points is multiplied once
and offered to both of them, half of the work of the full matrix. The same pass finds how far the
farthest point is.

Elsewhere (on a GPU, or without a compiler) whole rows of exact float64 distances are made, a block
at a time, and the k smallest taken from each.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reid.evaluation.distances import full_precision
from reid.evaluation.grid import Grid
from reid.evaluation.reranking_cpu import Lists, Points, kernels_for

_TILE = 1024  # points on either side: products of 4 MB stay in the last-level cache
_EXACT_ELEMENTS = {"cpu": 1 << 23, "cuda": 1 << 27}  # of a block of exact distances


Floats = npt.NDArray[np.float64]


class Neighbours(NamedTuple):
    """The k nearest of each of N points, the nearest first."""

    items: npt.NDArray[np.int32]
    """(N, k) positions."""
    squared: Floats
    """(N, k) squared distances on the grid."""


def neighbours_among(points: Grid, k: int) -> tuple[Neighbours, Floats]:
    """The k nearest *other* points of each, and the squared distance of the farthest, (N,).

    Args:
        points: N of them, N >= 1.
        k: at least 1; at most N - 1 are found.
    """
    k = min(k, len(points) - 1)
    if k == 0:  # a single point
        return Neighbours(np.empty((1, 0), np.int32), np.empty((1, 0))), np.zeros(1)
    kernels = kernels_for(points.values.device)
    if kernels is None:
        return _by_whole_rows(points, points, k, among=True)
    with full_precision(points.values.device):
        side = Points(points, points)
        near, far = Lists(len(points), k, 1), Lists(len(points), 1, -1)
        space = torch.empty(_TILE * _TILE)
        for row in range(0, len(points), _TILE):
            for column in range(row, len(points), _TILE):
                products = _products(points, row, points, column, space)
                kernels.search_tile_both_ways(side, near, far, products, row, column)
        farthest: Floats = kernels.settle(side, side, far)[1][:, 0]
        return Neighbours(*kernels.settle(side, side, near)), farthest


def neighbours_between(points: Grid, others: Grid, k: int) -> Neighbours:
    """The k nearest of ``others`` for each of ``points``; at most all of them are found."""
    k = min(k, len(others))
    kernels = kernels_for(points.values.device)
    if kernels is None:
        return _by_whole_rows(points, others, k, among=False)[0]
    with full_precision(points.values.device):
        left, right = Points(points, others), Points(others, points)
        near = Lists(len(points), k, 1)
        space = torch.empty(_TILE * _TILE)
        for row in range(0, len(points), _TILE):
            for column in range(0, len(others), _TILE):
                products = _products(points, row, others, column, space)
                kernels.search_tile(left, right, near, products, row, column)
        return Neighbours(*kernels.settle(left, right, near))


def _products(points: Grid, row: int, others: Grid, column: int, space: Tensor) -> Tensor:
    left, right = points.values[row : row + _TILE], others.values[column : column + _TILE]
    out = space[: len(left) * len(right)].view(len(left), len(right))
    return torch.mm(left, right.T, out=out)


# ---------------------------------------------------------------------------------------------
# without the kernels


def _by_whole_rows(points: Grid, others: Grid, k: int, *, among: bool) -> tuple[Neighbours, Floats]:
    count = len(points)
    items = np.empty((count, k), np.int32)
    squared = np.empty((count, k), np.float64)
    farthest = np.zeros(count, np.float64)
    wide = others.values.double().T
    block = max(1, _EXACT_ELEMENTS[points.values.device.type] // len(others))
    for start in range(0, count, block):
        part = slice(start, min(start + block, count))
        distances = points.values[part].double() @ wide
        distances.mul_(-2).add_(points.squares[part, None] + others.squares)
        if among:
            farthest[part] = distances.amax(1).cpu().numpy()
            itself = torch.arange(part.start, part.stop, device=distances.device)
            distances[itself - start, itself] = torch.inf
        columns, values = _smallest(distances, k)
        items[part], squared[part] = columns.cpu().numpy(), values.cpu().numpy()
    return Neighbours(items, squared), farthest


def _smallest(distances: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Columns and values (B, k) of the smallest of each row of (B, N), ordered; equals by column.

    Library selections leave the order of equals open, so only their k-th value is used.
    """
    last = torch.topk(distances, k, dim=1, largest=False).values[:, -1:]
    chosen = distances <= last
    if int(chosen.sum()) > k * len(distances):  # equals of the k-th: the first ones of them
        nearer = distances < last
        equal = chosen & ~nearer
        chosen = nearer | (equal & (equal.cumsum(1) <= k - nearer.sum(1, keepdim=True)))
    columns = torch.nonzero(chosen)[:, 1].view(len(distances), k)
    values, order = torch.sort(distances.gather(1, columns), dim=1, stable=True)
    return columns.gather(1, order), values
