"""The exact scan in operations of torch: without a compiler, and on a GPU.

A tile of stored vectors at a time is multiplied with the queries in float32. Of each query, what
is above its limit, less the bound on the product's error, is judged by exact scores and merged with
the best so far.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reid.gallery.scores import Segments, exact_scores, screening_margins

_CPU = torch.device("cpu")
_TILE = {"cpu": 1024, "cuda": 1 << 16}  # stored vectors multiplied at a time
_QUERIES = 1024  # with so many queries
_PAIRS = {"cpu": 1 << 19, "cuda": 1 << 26}  # float64 terms of the pairs judged at a time

Found = tuple[list[NDArray[np.int64]], list[NDArray[np.float64]]]


class Best:
    """Of each of Q queries the k best rows so far, best first, equal scores by ascending row.

    Places that are still empty hold row -1 and score -inf.
    """

    def __init__(self, queries: int, k: int, device: torch.device) -> None:
        self.rows = torch.full((queries, k), -1, device=device)
        self.scores = torch.full((queries, k), -torch.inf, dtype=torch.float64, device=device)

    def limits(self) -> Tensor:
        """(Q,) what a score must reach to count: that of the k-th."""
        return torch.where(self.rows[:, -1] < 0, -torch.inf, self.scores[:, -1])

    def merge(self, queries: Tensor, rows: Tensor, scores: Tensor) -> None:
        """Offer P judged pairs of a query and a row."""
        order = _order(queries, rows, scores)
        queries, rows, scores = queries[order], rows[order], scores[order]
        met, sizes = torch.unique_consecutive(queries, return_counts=True)
        starts = sizes.cumsum(0) - sizes
        group = torch.repeat_interleave(torch.arange(len(met), device=met.device), sizes)
        place = torch.arange(len(rows), device=met.device) - starts[group]
        k = self.rows.shape[1]
        counts = place < k
        group, place = group[counts], place[counts]
        both_rows = torch.full((len(met), 2 * k), -1, device=met.device)
        both_scores = torch.full_like(both_rows, -torch.inf, dtype=torch.float64)
        both_rows[:, :k], both_scores[:, :k] = self.rows[met], self.scores[met]
        both_rows[group, k + place], both_scores[group, k + place] = rows[counts], scores[counts]
        # empty places last, also behind rows whose score is -inf
        key = torch.where(both_rows < 0, torch.iinfo(torch.int64).max, both_rows)
        order = torch.argsort(key, dim=1, stable=True)
        by_score = torch.argsort(both_scores.gather(1, order), dim=1, descending=True, stable=True)
        order = order.gather(1, by_score)[:, :k]
        self.rows[met], self.scores[met] = both_rows.gather(1, order), both_scores.gather(1, order)

    def found(self) -> Found:
        sizes = (self.rows >= 0).sum(1).tolist()
        rows, scores = self.rows.cpu().numpy(), self.scores.cpu().numpy()
        return (
            [row[:size] for row, size in zip(rows, sizes, strict=True)],
            [row[:size] for row, size in zip(scores, sizes, strict=True)],
        )


def _order(queries: Tensor, rows: Tensor, scores: Tensor) -> Tensor:
    """By query, then the best first, then by row."""
    order = torch.argsort(rows, stable=True)
    order = order[torch.argsort(scores[order], descending=True, stable=True)]
    return order[torch.argsort(queries[order], stable=True)]


def search(
    segments: Segments,
    queries: NDArray[np.float32],
    metric: str,
    keep: NDArray[np.bool_] | None,
    k: int | None,
    lowest: float = -math.inf,
    device: torch.device = _CPU,
) -> Found:
    """By query the k best rows that score at least ``lowest``, and their scores."""
    rows: list[NDArray[np.int64]] = []
    scores: list[NDArray[np.float64]] = []
    with precise(device):
        for start in range(0, len(queries), _QUERIES):
            block = torch.from_numpy(queries[start : start + _QUERIES]).to(device)
            found = _search(segments, block, metric, keep, k, lowest)
            rows += found[0]
            scores += found[1]
    return rows, scores


def _search(
    segments: Segments,
    queries: Tensor,
    metric: str,
    keep: NDArray[np.bool_] | None,
    k: int | None,
    lowest: float,
) -> Found:
    device = queries.device
    best = None if k is None else Best(len(queries), k, device)
    pairs: list[tuple[Tensor, Tensor, Tensor]] = []  # everything found, where there is no k
    squares = queries.double().square().sum(1)
    for numbers, vectors in _tiles(segments, keep, device):
        values, margins = _screen(queries, squares, vectors, metric)
        limits = torch.full_like(squares, lowest)
        if best is not None:
            limits = torch.maximum(limits, best.limits())
        limits = _as_value(limits, squares, metric)
        if k is not None and k <= len(numbers):  # k of this tile alone are a limit, too
            own = values.topk(k).values[:, -1] - margins
            limits = torch.where(own.isnan(), limits, torch.maximum(limits, own))
        reached = torch.nonzero(~(values + margins[:, None] < limits[:, None]))
        step = max(1, _PAIRS[device.type] // segments.dim)
        for query, column in (part.unbind(1) for part in reached.split(step)):
            scores = exact_scores(queries[query], vectors[column], metric)
            chosen = scores >= lowest
            judged = query[chosen], numbers[column[chosen]], scores[chosen]
            if best is None:
                pairs.append(judged)
            elif len(judged[0]):
                best.merge(*judged)
    if best is not None:
        return best.found()
    return _split(pairs, len(queries))


def _tiles(
    segments: Segments, keep: NDArray[np.bool_] | None, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Row numbers (n,) and vectors (n, dim), as stored, of the kept rows, a tile at a time."""
    tile = _TILE[device.type]
    waiting: list[NDArray[np.int64]] = []
    for start in range(0, len(segments), 8 * tile):
        stop = min(start + 8 * tile, len(segments))
        waiting.append(
            np.arange(start, stop) if keep is None else start + np.flatnonzero(keep[start:stop])
        )
        if sum(map(len, waiting)) >= tile or stop == len(segments):
            rows = np.concatenate(waiting)
            waiting = []
            for part in (rows[first : first + tile] for first in range(0, len(rows), tile)):
                yield torch.from_numpy(part).to(device), segments.tensor(part, device)


def _screen(
    queries: Tensor, squares: Tensor, vectors: Tensor, metric: str
) -> tuple[Tensor, Tensor]:
    """Screened values (Q, n) in float64 and what they may be off, (Q,)."""
    lengths = torch.linalg.vector_norm(vectors, dim=1, dtype=torch.float64)
    values = (queries @ vectors.float().T).double()
    if metric != "cosine":
        values -= lengths.square() / 2
    return values, screening_margins(squares.sqrt(), lengths.max(), queries.shape[1], metric)


def _as_value(limits: Tensor, squares: Tensor, metric: str) -> Tensor:
    """A score as a screened value, no higher than it."""
    if metric == "cosine":
        return limits
    distances = limits.square()
    values = (squares - distances) / 2 - 1e-12 * (squares + distances)
    return torch.where(limits > 0, torch.inf, torch.where(limits == -torch.inf, limits, values))


def _split(pairs: list[tuple[Tensor, Tensor, Tensor]], queries: int) -> Found:
    if not pairs:
        empty = np.empty(0, np.int64), np.empty(0)
        return [empty[0]] * queries, [empty[1]] * queries
    query, rows, scores = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    order = _order(query, rows, scores)
    cuts = torch.bincount(query, minlength=queries).cumsum(0)[:-1].cpu().numpy()
    return (
        np.split(rows[order].cpu().numpy(), cuts),
        np.split(scores[order].cpu().numpy(), cuts),
    )


# ---------------------------------------------------------------------------------------------
# full precision, from several threads

_lock = threading.Lock()
_inside = 0
_before: list[str] = []


@contextlib.contextmanager
def precise(device: torch.device) -> Iterator[None]:
    """No autocast, no TF32 or bfloat16 inside float32 products: the error bounds need it.

    The switches are the process's: of several threads the first one sets them, the last one puts
    them back.
    """
    global _inside
    with _lock:
        if not _inside:
            _before[:] = _switch(["ieee"] * 2)
        _inside += 1
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                _switch(_before)


def _switch(wanted: list[str]) -> list[str]:
    """Set the precision of products on a GPU and a CPU; returns what it was."""
    switches: list[Any] = [torch.backends.cuda.matmul, getattr(torch.backends.mkldnn, "matmul", 0)]
    if not all(hasattr(switch, "fp32_precision") for switch in switches):  # torch before 2.9
        before = [torch.get_float32_matmul_precision()] * 2
        torch.set_float32_matmul_precision("highest" if wanted[0] == "ieee" else wanted[0])
        return before
    before = [switch.fp32_precision for switch in switches]
    for switch, value in zip(switches, wanted, strict=True):
        switch.fp32_precision = value
    return before
