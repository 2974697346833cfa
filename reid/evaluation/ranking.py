"""Exact ranking metrics of re-identification: CMC, mAP and mINP, without sorting the gallery.

For every query the gallery is ranked by distance, after leaving out what the protocol ignores:
items of the query's identity *and* camera, and junk (gallery pid -1). The remaining items of the
query's identity are its positives, everything else (pid 0 included) is negative. With R positives
at ranks r_1 < ... < r_R:

- CMC@k: whether r_1 <= k;
- INP = R / r_R, and mINP its mean over the queries (Ye et al., "Deep Learning for Person
  Re-identification: A Survey and Outlook", https://arxiv.org/abs/2001.04193);
- AP, by one of two rules in use, which differ by up to a point of mAP:

  ``step``: the mean of the precisions j / r_j. Means are taken over the *valid* queries, those
  with at least one positive. The rule of nearly all published codes.

  ``trapezoid``: the mean of (j / r_j + (j - 1) / (r_j - 1)) / 2, where the second term is 1 for
  r_j = 1. Means are taken over *all* queries; one without a positive counts 0. The rule of the
  Market-1501 authors (Zheng et al., "Scalable Person Re-identification: A Benchmark", ICCV 2015)
  and of the object retrieval evaluation of Philbin et al. that they use.

**Ties count against the query**: a negative at the distance of a positive ranks before it.
Positives that tie with each other take successive ranks behind all negatives at their distance.
The result therefore does not depend on the order of the gallery.

Only the ranks of the positives matter, and r_j is j plus the number of negatives not farther than
the j-th positive. So nothing is sorted but the positives: of every row only the negatives not
farther than the farthest positive are looked at, each finds its place among the positives by
binary search, and a running sum over the places gives the counts. Blocks of queries and gallery
are independent, so memory is bounded by a block whatever the sizes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reid.evaluation.distances import (
    Distances,
    FeatureDistances,
    GivenDistances,
    Rows,
    full_precision,
)
from reid.evaluation.ranking_cpu import DTYPES, cpu_kernels

ApRule = Literal["step", "trapezoid"]
Metric = Literal["cosine", "euclidean"]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_JUNK = -1
_NO_CAMERA = -1
_TABLE_ELEMENTS = 1 << 21  # of the per-block table of positive distances
_DOUBTFUL_SHARE = 1 / 256  # of a screen: beyond it a float64 product costs less than judging


@dataclass(frozen=True, eq=False)
class RankingResult:
    """Retrieval quality, as ratios 0..1, and how every query contributed to it.

    Arrays have one entry per query, in the order given; ranks are 1-based, among the items that
    the protocol does not ignore. A query without a positive has NaN average precision and inverse
    negative penalty, and ranks 0.
    """

    cmc: dict[int, float]
    """k -> share of queries with a positive among the first k."""
    mAP: float
    mINP: float
    num_queries: int
    num_valid_queries: int
    """Queries with at least one positive."""
    ap: str
    """The rule: ``'step'`` or ``'trapezoid'``."""
    metric: str
    """``'cosine'``, ``'euclidean'`` or ``'precomputed'``."""
    average_precision: Floats = field(repr=False)
    inverse_negative_penalty: Floats = field(repr=False)
    num_positives: Ints = field(repr=False)
    first_match_rank: Ints = field(repr=False)
    last_match_rank: Ints = field(repr=False)

    def __str__(self) -> str:
        """One line in percent that names its rule, distance and denominator."""
        cmc = ", ".join(f"rank-{k} {100 * value:.2f}" for k, value in self.cmc.items())
        return (
            f"mAP {100 * self.mAP:.2f}, mINP {100 * self.mINP:.2f}, {cmc} (%; AP rule {self.ap}, "
            f"{self.metric} distance, {self.num_valid_queries} of {self.num_queries} queries valid)"
        )


def evaluate_ranking(
    query_features: Any,
    gallery_features: Any,
    query_ids: Any,
    gallery_ids: Any,
    query_cameras: Any = None,
    gallery_cameras: Any = None,
    *,
    metric: Metric = "cosine",
    ap: ApRule = "step",
    ks: Iterable[int] = (1, 5, 10),
) -> RankingResult:
    """Rank the gallery for every query by the distance of features, and score the rankings.

    Args:
        query_features: (Q, D), numpy array or torch tensor of any real type, on any device.
        gallery_features: (G, D), likewise.
        query_ids: (Q,) integers.
        gallery_ids: (G,) integers; -1 is junk and ignored, 0 is an identity like any other.
        query_cameras: (Q,) integers, -1 for unknown; None switches the same-camera filter off.
        gallery_cameras: (G,) integers, likewise; both are given or neither.
        metric: ``'cosine'`` or ``'euclidean'``.
        ap: ``'step'`` or ``'trapezoid'``, see the head of this module.
        ks: the ranks at which to report CMC.

    Returns:
        The :class:`RankingResult`. It is the ranking by *exact* distances (see
        :mod:`reid.evaluation.distances`): gallery vectors of equal values tie, and the order of
        queries and gallery, block sizes, threads and device make no difference.

    Raises:
        ValueError: for wrong shapes, lengths or options, features that are not finite (naming the
            rows), and if no query has a positive.
        TypeError: for features that are not real numbers, or ids that are not integers.
    """
    distances = FeatureDistances(query_features, gallery_features, metric)
    matches = Matches(
        as_labels(query_ids, "query_ids", distances.num_queries, "query_features"),
        as_labels(gallery_ids, "gallery_ids", distances.num_gallery, "gallery_features"),
        query_cameras,
        gallery_cameras,
    )
    return _evaluate(distances, matches, metric, ap, ks)


def evaluate_distances(
    distances: Any,
    query_ids: Any,
    gallery_ids: Any,
    query_cameras: Any = None,
    gallery_cameras: Any = None,
    *,
    ap: ApRule = "step",
    ks: Iterable[int] = (1, 5, 10),
) -> RankingResult:
    """Score the rankings that a query x gallery distance matrix gives.

    Args:
        distances: (Q, G) real numbers, smaller is nearer: numpy array, torch tensor, or an object
            with ``.rows(start, stop)`` or ``.toarray()`` that returns one of them. They are
            compared as they stand: only equal numbers tie.
        query_ids, gallery_ids, query_cameras, gallery_cameras, ap, ks: as for
            :func:`evaluate_ranking`.

    Raises:
        ValueError, TypeError: as :func:`evaluate_ranking`, for distances instead of features.
    """
    matches = Matches(
        as_labels(query_ids, "query_ids"),
        as_labels(gallery_ids, "gallery_ids"),
        query_cameras,
        gallery_cameras,
    )
    given = GivenDistances(distances, len(matches.query_ids), len(matches.gallery_ids))
    return _evaluate(given, matches, "precomputed", ap, ks)


# ---------------------------------------------------------------------------------------------
# protocol: which gallery items count for which query


class Matches:
    """The gallery items of each query's identity, and which of them are positives."""

    def __init__(
        self, query_ids: Ints, gallery_ids: Ints, query_cameras: Any, gallery_cameras: Any
    ) -> None:
        self.query_ids, self.gallery_ids = query_ids, gallery_ids
        if (query_cameras is None) != (gallery_cameras is None):
            missing = "query_cameras" if query_cameras is None else "gallery_cameras"
            raise ValueError(
                f"{missing} is None but the other side's cameras are given; pass both, or None "
                "for both to keep matches within a camera"
            )
        self.query_cameras = _cameras(query_cameras, "query_cameras", query_ids)
        self.gallery_cameras = _cameras(gallery_cameras, "gallery_cameras", gallery_ids)
        self.junk = gallery_ids == _JUNK

        self._by_id = np.argsort(gallery_ids, kind="stable")
        sorted_ids = gallery_ids[self._by_id]
        self._first = np.searchsorted(sorted_ids, query_ids, side="left")
        self.same_id = np.searchsorted(sorted_ids, query_ids, side="right") - self._first
        self.same_id[query_ids == _JUNK] = 0  # junk matches nothing
        self.num_positives = np.zeros_like(self.same_id)

        step = 1024  # queries: the pairs of all of them need not fit in memory
        for start in range(0, len(query_ids), step):
            stop = min(start + step, len(query_ids))
            rows, _, positive = self.pairs(start, stop)
            self.num_positives[start:stop] = np.bincount(rows[positive], minlength=stop - start)

    def pairs(self, start: int, stop: int) -> tuple[Ints, Ints, npt.NDArray[np.bool_]]:
        """Query (less ``start``) and gallery index of all P pairs of one identity, (P,) each, and
        whether the pair is a positive (or else ignored). Rows ascend, and columns within a row."""
        count = self.same_id[start:stop]
        rows = np.repeat(np.arange(stop - start), count)
        columns = self._by_id[_ranges(self._first[start:stop], count)]
        camera = self.query_cameras[start:stop][rows]
        same_camera = (camera == self.gallery_cameras[columns]) & (camera != _NO_CAMERA)
        return rows, columns, ~same_camera

    def require_valid(self) -> None:
        if self.num_positives.any():
            return
        if self.same_id.any():
            raise ValueError(
                "no query has a positive in another camera: all matches share the query's camera "
                "and are ignored; check the camera labels, or pass query_cameras=None and "
                "gallery_cameras=None to keep matches within a camera"
            )
        raise ValueError(
            "no query identity occurs in the gallery "
            f"(query ids {_examples(self.query_ids)}; gallery ids {_examples(self.gallery_ids)}): "
            "both must use the same labels, and -1 stands for junk"
        )


def as_labels(values: Any, name: str, length: int | None = None, of: str = "") -> Ints:
    """Integers, (N,); ``length`` is what ``of`` asks for."""
    array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, got shape {array.shape}")
    if length is not None and len(array) != length:
        raise ValueError(f"{name} has {len(array)} entries, {of} {length}: give one for each")
    if len(array) == 0:
        raise ValueError(f"{name} must not be empty")
    if array.dtype.kind not in "iu":
        hint = "use -1 for an unknown camera" if "camera" in name else "number the identities"
        raise TypeError(f"{name} must be integers, got {array.dtype}; {hint}")
    return array.astype(np.int64, copy=False)


def _cameras(values: Any, name: str, ids: Ints) -> Ints:
    if values is None:
        return np.full(len(ids), _NO_CAMERA, dtype=np.int64)
    return as_labels(values, name, len(ids), name.replace("cameras", "ids"))


def _ranges(first: Ints, count: Ints) -> Ints:
    """first[0], first[0] + 1, ... (count[0] of them), first[1], ..."""
    starts = np.cumsum(count) - count
    ranges: Ints = np.arange(count.sum()) + np.repeat(first - starts, count)
    return ranges


def _examples(ids: Ints, shown: int = 3) -> str:
    unique = np.unique(ids)
    return ", ".join(map(str, unique[:shown].tolist())) + (", ..." if len(unique) > shown else "")


# ---------------------------------------------------------------------------------------------
# ranks of the positives


def _evaluate(
    distances: Distances, matches: Matches, metric: str, ap: str, ks: Iterable[int]
) -> RankingResult:
    ks = checked_rules(ap, ks)
    matches.require_valid()
    return summary(rank(distances, matches, ap), ap, metric, ks)


def checked_rules(ap: str, ks: Iterable[int]) -> list[int]:
    if ap not in ("step", "trapezoid"):
        raise ValueError(f"ap must be 'step' or 'trapezoid', got {ap!r}")
    ks = list(ks)
    if not ks or not all(isinstance(k, int | np.integer) and k > 0 for k in ks):
        raise ValueError(f"ks must be positive integers, at least one, got {ks}")
    return ks


class Ranked(NamedTuple):
    """What a ranking says of each query, (Q,) each; see :class:`RankingResult`."""

    average_precision: Floats
    num_positives: Ints
    first: Ints
    last: Ints


def rank(distances: Distances, matches: Matches, ap: str) -> Ranked:
    step = max(1, min(distances.block_rows, _TABLE_ELEMENTS // int(matches.num_positives.max())))
    average_precision = np.full(distances.num_queries, np.nan)
    first, last = np.zeros((2, distances.num_queries), dtype=np.int64)
    with full_precision(distances.device):
        for start in range(0, distances.num_queries, step):
            part = slice(start, min(start + step, distances.num_queries))
            block = distances.open(part.start, part.stop)
            ranks = _positive_ranks(block, matches, part, distances.device)
            count = matches.num_positives[part]
            valid, ends = count > 0, np.cumsum(count)
            average_precision[part] = _average_precision(ranks, count, ap)
            first[part][valid] = ranks[(ends - count)[valid]]
            last[part][valid] = ranks[ends[valid] - 1]
    return Ranked(average_precision, matches.num_positives, first, last)


def summary(ranked: Ranked, ap: str, metric: str, ks: list[int]) -> RankingResult:
    """The means over the queries of ``ranked``, of which one at least is valid."""
    average_precision, num_positives, first, last = ranked
    valid = num_positives > 0
    denominator = int(valid.sum()) if ap == "step" else len(valid)
    inverse_negative_penalty = np.full(len(valid), np.nan)
    inverse_negative_penalty[valid] = num_positives[valid] / last[valid]
    return RankingResult(
        cmc={int(k): float((first[valid] <= k).sum() / denominator) for k in ks},
        mAP=float(average_precision[valid].sum() / denominator),
        mINP=float(inverse_negative_penalty[valid].sum() / denominator),
        num_queries=len(valid),
        num_valid_queries=int(valid.sum()),
        ap=ap,
        metric=metric,
        average_precision=average_precision,
        inverse_negative_penalty=inverse_negative_penalty,
        num_positives=num_positives,
        first_match_rank=first,
        last_match_rank=last,
    )


def _average_precision(ranks: Ints, count: Ints, ap: str) -> Floats:
    """AP of B queries, (B,), from the ascending ranks of their ``count`` (B,) positives."""
    rows = np.repeat(np.arange(len(count)), count)
    found = _ranges(np.ones_like(count), count)  # 1, 2, ... R of every query
    precision = found / ranks
    if ap == "trapezoid":
        before = np.where(ranks > 1, (found - 1) / np.maximum(ranks - 1, 1), 1.0)
        precision = (precision + before) / 2
    total = np.bincount(rows, weights=precision, minlength=len(count))
    mean: Floats = np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
    return mean


def _positive_ranks(block: Rows, matches: Matches, part: slice, device: torch.device) -> Ints:
    """Ranks of all positives of a block of queries, query by query, ascending within each."""
    if not matches.num_positives[part].any():
        return np.zeros(0, dtype=np.int64)
    pairs = matches.pairs(part.start, part.stop)
    rows, columns, positive = (torch.from_numpy(array).to(device) for array in pairs)
    count = torch.from_numpy(matches.num_positives[part]).to(device)  # (B,)
    table = _sorted_table(rows[positive], block.exact(rows[positive], columns[positive]), count)
    ignored = PairMask(rows, columns, np.flatnonzero(matches.junk), device)

    nearer = torch.zeros(table.shape, dtype=torch.int64, device=device)
    for screen in block.screens(table):
        here = slice(screen.row, screen.row + len(screen.values))
        ignored.apply(screen.row, screen.column, screen.values)
        limit = screen.values.numel()
        few = limit if screen.finer is None else int(_DOUBTFUL_SHARE * limit)
        counts, doubtful = count_nearer(
            screen.values, screen.table, count[here], screen.margin, few
        )
        if doubtful is None and screen.finer is not None:
            screen = screen.finer()
            ignored.apply(screen.row, screen.column, screen.values)
            counts, doubtful = count_nearer(
                screen.values, screen.table, count[here], screen.margin, limit
            )
        if doubtful is not None and len(doubtful):
            row, column = _unflattened(doubtful, screen.values.shape[1])
            key = block.exact(row + screen.row, column + screen.column)
            counts += _histogram(row, _search(table[here], row, key), table[here].shape).cumsum(1)
        nearer[here] += counts

    place = torch.arange(table.shape[1], device=device)
    ranks = nearer + place + 1
    return np.asarray(ranks[place < count[:, None]].cpu().numpy(), dtype=np.int64)


class PairMask:
    """Takes out of blocks of values what is no negative: all of the query's identity, and junk."""

    def __init__(self, rows: Tensor, columns: Tensor, junk: Ints, device: torch.device) -> None:
        self._columns, order = columns.sort()
        self._rows = rows[order]
        self._junk = torch.from_numpy(junk).to(device)
        self._column, self._here = -1, slice(0)
        self._pair_rows = self._pair_columns = rows[:0]

    def apply(self, row: int, column: int, values: Tensor) -> None:
        """Set to infinity in ``values`` (B, C), which begin at ``row`` and ``column``."""
        height, width = values.shape
        if column != self._column:  # blocks of the same gallery items come one after another
            edges = torch.tensor([column, column + width], device=self._rows.device)
            pairs = slice(*torch.searchsorted(self._columns, edges).tolist())
            self._pair_rows, order = self._rows[pairs].sort()
            self._pair_columns = self._columns[pairs][order] - column
            self._here = slice(*torch.searchsorted(self._junk, edges).tolist())
            self._column = column
        edges = torch.tensor([row, row + height], device=self._rows.device)
        pairs = slice(*torch.searchsorted(self._pair_rows, edges).tolist())
        values[self._pair_rows[pairs] - row, self._pair_columns[pairs]] = torch.inf
        if self._here.stop > self._here.start:
            values[:, self._junk[self._here] - column] = torch.inf


def count_nearer(
    values: Tensor, table: Tensor, count: Tensor, margin: Tensor | None, limit: int
) -> tuple[Tensor, Tensor | None]:
    """How many of a query's ``values`` are certainly not farther than each of its positives.

    Args:
        values: (B, C) screened distances, or exact ones.
        table: (B, W) distances of the positives, ascending in every row; W = 2^n - 1.
        count: (B,) how many entries of each row of ``table`` are positives; the others are inf.
        margin: (B,) as of a :class:`~reid.evaluation.distances.Screen`.
        limit: how many doubtful values to name at most.

    Returns:
        Counts, (B, W), meaningful where there are positives; and the places, in the flattened
        ``values`` and in any order, of those that may or may not be farther than some positive:
        counted nowhere. None in their stead if there are more than ``limit``.
    """
    kernels = cpu_kernels() if values.device.type == "cpu" else None
    if kernels is not None and values.dtype in DTYPES:
        return kernels.count(values, table.double(), count, margin, limit)
    lower, upper = table, table
    if margin is not None:
        lower, upper = table - margin[:, None], table + margin[:, None]
        if values.dtype == torch.float32:
            lower, upper = _rounded(lower, -1), _rounded(upper, 1)
    farthest = upper.gather(1, (count - 1).clamp(min=0)[:, None])
    near = values <= farthest.masked_fill(count[:, None] == 0, -torch.inf)  # (B, C)
    index = near.reshape(-1).nonzero()[:, 0]
    row = index.div(values.shape[1], rounding_mode="floor")
    value = values.reshape(-1)[index]
    place = _search(upper, row, value)
    doubtful = torch.zeros_like(place, dtype=torch.bool)
    if margin is not None:
        doubtful = lower.reshape(-1)[row * table.shape[1] + place] <= value
    counts = _histogram(row[~doubtful], place[~doubtful], table.shape).cumsum(1)
    return counts, index[doubtful] if int(doubtful.sum()) <= limit else None


def _histogram(row: Tensor, place: Tensor, shape: tuple[int, ...]) -> Tensor:
    """How often each place, (B, W), occurs; places beyond the last are left out."""
    height, width = shape
    index = row * (width + 1) + place
    counts = torch.bincount(index, minlength=height * (width + 1))
    return counts.view(height, width + 1)[:, :width]


def _unflattened(index: Tensor, width: int) -> tuple[Tensor, Tensor]:
    row = index.div(width, rounding_mode="floor")
    return row, index - row * width


def _rounded(values: Tensor, direction: int) -> Tensor:
    """float64 to float32, never towards the inside: down for -1, up for 1."""
    single = values.float()
    return torch.nextafter(single, torch.full_like(single, direction * torch.inf))


def _sorted_table(rows: Tensor, keys: Tensor, count: Tensor) -> Tensor:
    """Ragged keys (P,) of ascending ``rows`` as a (B, W) table, ascending in every row.

    Padded with infinity, by one at least, to W = 2^n - 1: a full binary search tree.
    """
    width = 2 ** (int(count.max()) + 1).bit_length() - 1
    order = keys.argsort()
    order = order[rows[order].argsort(stable=True)]
    place = torch.arange(len(rows), device=rows.device) - (count.cumsum(0) - count)[rows]
    table = keys.new_full((len(count), width), torch.inf)
    table[rows, place] = keys[order]
    return table


def _search(table: Tensor, row: Tensor, value: Tensor) -> Tensor:
    """How many entries of ``table[row]`` (B, 2^n - 1) are below ``value``, (N,) each."""
    entries = table.reshape(-1)
    base = row * table.shape[1] - 1
    place = base.clone()
    step = (table.shape[1] + 1) // 2
    while step:
        place += (entries.take(place + step) < value) * step
        step //= 2
    return place.sub_(base)
