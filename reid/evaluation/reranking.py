"""Exact k-reciprocal re-ranking in memory that grows with N k, not with N^2.

Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR 2017
(https://arxiv.org/abs/1701.08398). All N = Q + G items, queries first, then the gallery, take part:

1. D(i, j) is the distance of the *variant* (below), and d(i, j) = D(i, j) / max_j D(i, j), where
   the maximum is over all N items (the published codes divide columns and transpose; D is
   symmetric, so that is the same). If all items are equal, d is 0.
2. Every item ranks all N. It is its own nearest; others follow by distance, equals by position.
3. R(i, k) holds those of the first k of i that have i among their first k. R is taken with k1 + 1
   (itself included), R_half with about half of it, depending on the variant.
4. R*(i) is the union of R(i) and of the R_half(c) of all c in R(i) that share more than 2/3 of
   their members with R(i).
5. V(i, j) = exp(-d(i, j)) for j in R*(i), else 0, divided by its sum over j.
6. Local query expansion: V(i) becomes the mean of the V of the first k2 of i (itself one of them).
   k2 = 1 changes nothing.
7. Jaccard distance J(q, g) = 1 - m / (2 - m), m = sum_j min(V(q, j), V(g, j)).
8. The result is (1 - lambda) J(q, g) + lambda d(q, g).

Published codes differ, and so do their numbers; hence a number says its variant:

==================  ==========================  =================================================
variant             D                           half
==================  ==========================  =================================================
``zhong``           squared Euclidean           round((k1 + 1) / 2), halves up: the authors'
                                                MATLAB code
``torchreid``       its square (the code        round(k1 / 2) + 1, halves to even (``np.around``);
                    squares distances that are  the authors' numpy code, given squared distances
                    squared already)
``strong-baseline`` squared Euclidean           as ``torchreid``
==================  ==========================  =================================================

At k1 = 20 all have half = 11, and ``zhong`` and ``strong-baseline`` agree; the halves differ for
k1 = 3, 7, 11, ... only. The code that ``strong-baseline`` is named after keeps V in half precision;
that is not imitated: results differ from its own by the rounding, some 1e-3.

Distances are taken between the features *as given*: give unit lengths (what an
:class:`~reid.models.Embedder` predicts) to re-rank a cosine ranking.

*Camera-aware* re-ranking, if cameras are given: the features of each camera (of query and gallery
together; unknown cameras, -1, count as one) are standardised first, (f - mean) / deviation in every
dimension, and scaled to unit length. This is the camera-specific feature normalisation of Song et
al., "Exploring the Camera Bias of Person Re-identification", ICLR 2025
(https://arxiv.org/abs/2502.10195): images of one camera resemble each other whoever they show, and
crowd the neighbour lists with wrong identities. It needs a fair number of images of each camera; a
dimension that is constant within a camera becomes 0. Everything above then runs on the new
features. No identity is looked at.

Exactness: features are rounded once to a grid (:mod:`reid.evaluation.grid`), finer than float32,
on which all distances are exact. The result therefore does not depend on block sizes, threads,
device, or on whether the compiled kernels run; permuting the gallery permutes it (but for the order
of equal distances, which is by position).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reid.evaluation.distances import FeatureDistances
from reid.evaluation.grid import Grid, on_grid
from reid.evaluation.neighbours import neighbours_among
from reid.evaluation.reciprocal import average_over, encode, expanded_sets, reciprocal_sets
from reid.evaluation.reranking_cpu import CpuKernels, kernels_for

Variant = Literal["zhong", "torchreid", "strong-baseline"]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Items = npt.NDArray[np.int32]
Singles = npt.NDArray[np.float32]
SparseRows = tuple[Ints, Items, Singles]

_FEW_STEPS = 1 << 14  # of the grid between neighbours: their distances are known to 1e-4

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Rule:
    half: Callable[[int], int]
    """Neighbours in R_half, itself included, for k1."""
    squared_again: bool = False


def _numpy_half(k1: int) -> int:
    return round(k1 / 2) + 1  # as np.around: halves to even


_RULES: dict[str, _Rule] = {
    "zhong": _Rule(lambda k1: math.floor((k1 + 1) / 2 + 0.5)),
    "torchreid": _Rule(_numpy_half, squared_again=True),
    "strong-baseline": _Rule(_numpy_half),
}
VARIANTS = tuple(_RULES)


def rerank(
    query_features: Any,
    gallery_features: Any,
    *,
    k1: int = 20,
    k2: int = 6,
    lambda_value: float = 0.3,
    variant: Variant = "zhong",
    query_cameras: Any = None,
    gallery_cameras: Any = None,
) -> RerankedDistances:
    """Distances from queries to the gallery, re-ranked by their k-reciprocal neighbours.

    Args:
        query_features: (Q, D), numpy array or torch tensor of any real type, on any device.
        gallery_features: (G, D), likewise.
        k1: neighbours that are looked at, at least 1. Where there are fewer other items, all are,
            and a warning is logged.
        k2: neighbours to average encodings over, itself included, at least 1.
        lambda_value: weight of the original distance, 0..1.
        variant: which of the published formulas, see the head of this module.
        query_cameras: (Q,) integers, -1 for unknown: makes it camera-aware, see there.
        gallery_cameras: (G,) integers, likewise; both are given or neither.

    Returns:
        The :class:`RerankedDistances`, which :func:`~reid.evaluation.evaluate_distances` accepts.

    Raises:
        ValueError: for wrong shapes, options, and features that are not finite (naming the rows).
        TypeError: for features that are not real numbers, or cameras that are not integers.

    The features are copied, in float32 for the search and the gallery in float64 for the rows.
    Time is that of the neighbour search, N^2 D / 2 products on a CPU.
    """
    _check_options(k1, k2, lambda_value, variant)
    given = FeatureDistances(query_features, gallery_features, "euclidean")  # refuses what is bad
    queries, features = given.num_queries, [given.query, given.gallery]
    cameras = _both_cameras(query_cameras, gallery_cameras, queries, given.num_gallery)
    if cameras is not None:
        features = _standardised_by_camera(features, cameras)
    points, rule = on_grid(*features), _RULES[variant]
    count = len(points)
    if k1 >= count:
        logger.warning("k1 is %d, but an item has only %d others: all are taken", k1, count - 1)

    kernels = kernels_for(points.values.device)
    near, farthest = neighbours_among(points, max(k1, k2 - 1))
    if near.items.size and 0 < np.median(near.squared[:, -1]) < _FEW_STEPS**2:
        logger.warning(
            "most features differ little from their neighbours beside the longest ones, which cost "
            "them precision: scale the features to unit length"
        )
    itself = np.arange(count, dtype=np.int32)[:, None]
    ranks = np.concatenate([itself, near.items], axis=1)
    divisors = np.where(farthest > 0, farthest, 1.0)

    def distance(first: Items, second: Items) -> Floats:
        normalised = pair_distances(points, first, second, kernels) / divisors[first]
        return np.square(normalised) if rule.squared_again else normalised

    sets = reciprocal_sets(ranks, min(k1 + 1, count), kernels)
    half_sets = reciprocal_sets(ranks, min(rule.half(k1), count), kernels)
    encodings = encode(expanded_sets(sets, half_sets, kernels), distance)
    encodings = average_over(encodings, np.ascontiguousarray(ranks[:, :k2]))
    rules = {
        "method": "k-reciprocal re-ranking",
        "variant": variant,
        "k1": k1,
        "k2": k2,
        "lambda_value": float(lambda_value),
        "camera_aware": cameras is not None,
    }
    return RerankedDistances(points, queries, divisors[:queries], encodings, rules)


class RerankedDistances:
    """Query x gallery distances, computed when rows are asked for; made by :func:`rerank`.

    Attributes:
        shape: (Q, G).
        rules: what a number made with these distances has to say: ``method``, ``variant``, ``k1``,
            ``k2``, ``lambda_value``, ``camera_aware``.

    Args:
        points: Q queries, then G gallery items.
        queries: Q.
        divisors: (Q,) by which squared distances on the grid are divided.
        encodings: sparse (Q + G, Q + G).
    """

    def __init__(
        self, points: Grid, queries: int, divisors: Floats, encodings: Any, rules: dict[str, Any]
    ) -> None:
        self.shape = (queries, len(points) - queries)
        self.rules = rules
        self._queries, self._gallery = points.split(queries)
        self._divisors = divisors
        encodings.sort_indices()
        self._encodings = _plain(encodings[:queries])
        self._inverted = _plain(encodings[queries:].tocsc())

    def __len__(self) -> int:
        return self.shape[0]

    def __str__(self) -> str:
        rules = self.rules
        return (
            f"{rules['method']} ({rules['variant']}, k1 {rules['k1']}, k2 {rules['k2']}, "
            f"lambda {rules['lambda_value']:g}"
            f"{', features standardised by camera' if rules['camera_aware'] else ''}), "
            f"{self.shape[0]} x {self.shape[1]}"
        )

    def toarray(self) -> Singles:
        """All of them, (Q, G) float32."""
        return self.rows(0, self.shape[0])

    def rows(self, start: int, stop: int) -> Singles:
        """Distances of the queries ``start`` to ``stop``, (stop - start, G) float32.

        The numbers do not depend on how the rows are divided into calls.

        Raises:
            IndexError: if these are not rows.
        """
        if not 0 <= start <= stop <= self.shape[0]:
            raise IndexError(f"rows {start} to {stop} are not among the {self.shape[0]} queries")
        weight, again = self.rules["lambda_value"], _RULES[self.rules["variant"]].squared_again
        starts, columns, values = self._encodings
        arguments = (
            self._products(start, stop) if weight > 0 else None,
            self._queries.squares[start:stop].cpu().numpy(),
            self._gallery.squares.cpu().numpy(),
            self._divisors[start:stop],
            weight,
            again,
            (starts[start : stop + 1], columns, values),
            self._inverted,
        )
        kernels = kernels_for(torch.device("cpu"))
        return final_rows(*arguments) if kernels is None else kernels.final_rows(*arguments)

    def _products(self, start: int, stop: int) -> Floats:
        products: Floats = (self._queries.values[start:stop].double() @ self._wide.T).cpu().numpy()
        return products

    @cached_property
    def _wide(self) -> Tensor:
        """The gallery in float64, in which its products are exact, (G, D)."""
        return self._gallery.values.double()


def pair_distances(points: Grid, first: Items, second: Items, kernels: CpuKernels | None) -> Floats:
    """Squared distances of P pairs of positions, (P,), exact."""
    if kernels is not None:
        return kernels.pair_distances(points, first, second)
    device = points.values.device
    left, right = (torch.from_numpy(side).to(device, torch.int64) for side in (first, second))
    squared: Floats = points.pair_distances(left, right).cpu().numpy()
    return squared


def final_rows(
    products: Floats | None,
    row_squares: Floats,
    gallery_squares: Floats,
    divisors: Floats,
    lambda_value: float,
    again: bool,
    rows: SparseRows,
    inverted: SparseRows,
) -> Singles:
    """(1 - lambda) J + lambda d of some rows, (R, G): what the kernel of this name computes.

    Args:
        products: (R, G) of the queries and the gallery; None if lambda is 0.
        row_squares, gallery_squares: (R,) and (G,) squared lengths.
        divisors: (R,) of the squared distances.
        again: whether to square the quotient.
        rows: the encodings of the queries, by row: starts (R + 1,), columns, values.
        inverted: the encodings of the gallery, by column.
    """
    starts, columns, values = rows
    inverted_starts, items, item_values = inverted
    distances = np.empty((len(row_squares), len(gallery_squares)), np.float32)
    for row in range(len(distances)):
        part = slice(starts[row], starts[row + 1])
        first = inverted_starts[columns[part]]
        width = inverted_starts[columns[part] + 1] - first
        place = np.arange(width.sum()) + np.repeat(first - (np.cumsum(width) - width), width)
        smaller = np.minimum(np.repeat(values[part], width), item_values[place])
        shared = np.bincount(items[place], smaller, minlength=distances.shape[1])
        result = (1.0 - lambda_value) * (1.0 - shared / (2.0 - shared))
        if products is not None:
            squared = (row_squares[row] + gallery_squares) - 2.0 * products[row]
            distance = squared / divisors[row]
            result = result + lambda_value * (distance * distance if again else distance)
        distances[row] = result
    return distances


def _plain(matrix: Any) -> SparseRows:
    """The three arrays of a compressed sparse matrix, values in float32 as in the public codes."""
    return matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32), matrix.data.astype("f4")


# ---------------------------------------------------------------------------------------------
# input


def _check_options(k1: int, k2: int, lambda_value: float, variant: str) -> None:
    if variant not in _RULES:
        raise ValueError(f"variant must be one of {', '.join(map(repr, _RULES))}, got {variant!r}")
    for name, value in (("k1", k1), ("k2", k2)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
            raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")
    if not 0 <= lambda_value <= 1:
        raise ValueError(f"lambda_value must be 0..1, got {lambda_value!r}")


def _both_cameras(query: Any, gallery: Any, queries: int, items: int) -> Ints | None:
    """Cameras of all items, (N,), or None."""
    if (query is None) != (gallery is None):
        missing = "query_cameras" if query is None else "gallery_cameras"
        raise ValueError(
            f"{missing} is None but the other side's cameras are given; pass both, or None for "
            "both to re-rank without cameras"
        )
    if query is None:
        return None
    sides = []
    for side, name, length in (
        (query, "query_cameras", queries),
        (gallery, "gallery_cameras", items),
    ):
        cameras = np.asarray(side.cpu() if isinstance(side, Tensor) else side)
        if cameras.dtype.kind not in "iu":
            raise TypeError(f"{name} must be integers (-1 for unknown), got {cameras.dtype}")
        if cameras.shape != (length,):
            raise ValueError(f"{name} must have shape ({length},), got {cameras.shape}")
        sides.append(cameras.astype(np.int64))
    return np.concatenate(sides)


def _standardised_by_camera(features: list[Tensor], cameras: Ints) -> list[Tensor]:
    """(f - mean) / deviation over the items of each camera, of unit length, (N, D) float32."""
    together = torch.cat([part.to(torch.float32) for part in features])
    for camera in np.unique(cameras):
        items = torch.from_numpy(np.flatnonzero(cameras == camera)).to(together.device)
        values = together[items].double()
        deviation, mean = torch.std_mean(values, dim=0, correction=0)
        values = torch.where(deviation > 0, (values - mean) / deviation, 0.0)
        together[items] = torch.nn.functional.normalize(values, dim=1).float()
    return [together]
