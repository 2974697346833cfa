"""Distances for ranking: read block by block in bounded memory, compared exactly.

A ranking needs comparisons, not numbers. The matrix product that makes all distances cheap rounds
differently for equal vectors at different places of a block, so by itself it cannot say whether
two of them tie. Features are therefore compared in two steps:

1. *Screen.* One float32 product per block, with a rigorous bound on its rounding error, decides
   every comparison that is wider than the bound: nearly all of them. Where many stay doubtful the
   block is screened once more in float64.
2. *Judge.* The few doubtful pairs, and every query-positive pair, are compared by their *exact
   key*: a float64 sum over the dimensions in a fixed order, made of elementwise IEEE operations
   only. It depends on the two vectors and on nothing else: not on their places, the block sizes,
   the number of threads or the device.

The outcome is the ranking of the exact keys, whatever the products rounded to. Two gallery vectors
of equal values tie exactly; so do distances that are equal mathematically whenever the features
are small integers.

The error bound is Higham, "Accuracy and Stability of Numerical Algorithms" (2002), section 3.1:
an inner product of n terms is off by at most n u / (1 - n u) times the sum of the terms'
magnitudes, in any order of summation. Cutting the dimensions into pieces of ``_PIECE`` keeps n,
and with it the number of doubtful pairs, small for long features at no cost in time.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from reid.evaluation.ranking_cpu import DTYPES, CpuKernels, cpu_kernels

_PIECE = 128  # dimensions per product
_SCREEN_ROWS = {"cpu": 512, "cuda": 4096}  # a block of 2 MB stays in a CPU's last-level cache
_SCREEN_COLUMNS = {"cpu": 1024, "cuda": 16384}
_OPEN_ELEMENTS = 1 << 24  # of query features held centred at a time, 64 MB
_GIVEN_ELEMENTS = 1 << 22  # of a given matrix read at a time
_JUDGE_ELEMENTS = {"cpu": 1 << 16, "cuda": 1 << 24}  # float64 values judged at a time
_MANY_PAIRS = 1 << 16  # from here on it pays to look for equal gallery vectors first
_CODE_ELEMENTS = {"cpu": 1 << 23, "cuda": 1 << 26}  # different pairs that are told apart at a time
_LARGEST_SQUARE = 1e150  # a key squares products of two features: stay inside float64
_SMALLEST_SQUARE = 1e-150


class Screen(NamedTuple):
    """Distances of some queries to some gallery items, good enough to screen.

    ``values`` (B, C) are those of the opened queries ``row`` and on to the gallery items ``column``
    and on; the reader may overwrite them. ``table`` (B, W) are the exact keys of the caller's table
    on the scale of ``values``. A value that differs from an entry by more than ``margin`` (B,) is
    certainly nearer, or certainly farther. ``margin`` is None if the values are exact keys.
    ``finer`` computes the same screen with a narrower margin, at twice the cost.
    """

    row: int
    column: int
    values: Tensor
    table: Tensor
    margin: Tensor | None
    finer: Callable[[], Screen] | None = None


class Rows(Protocol):
    """A block of B queries against the whole gallery."""

    def exact(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Exact keys of P pairs, (P,): any numbers that grow with the distance."""

    def screens(self, table: Tensor) -> Iterator[Screen]:
        """Every pair once; ``table`` (B, W) holds exact keys, padded with infinity."""


class Distances(Protocol):
    """Everything ranking wants to know about distances."""

    num_queries: int
    num_gallery: int
    device: torch.device
    block_rows: int
    """How many queries to open at once, at most."""

    def open(self, start: int, stop: int) -> Rows:
        """Queries ``start`` to ``stop``."""


# ---------------------------------------------------------------------------------------------
# distances computed from features


class FeatureDistances:
    """Cosine or Euclidean distances between two sets of features.

    Args:
        query: (Q, D) real numbers of any type, numpy or torch, on any device.
        gallery: (G, D), likewise. If one of the two is on a GPU, the other is moved there.
        metric: ``'cosine'`` (a zero vector has similarity 0 to everything) or ``'euclidean'``.

    Raises:
        ValueError: for anything but two finite, non-empty matrices of equal width.
        TypeError: for anything but real numbers.

    Memory: a screen, the opened queries and one block of the gallery converted, and a few (Q,) and
    (G,) tables; the gallery is never copied as a whole (unless it has to change device, or, on a
    CPU, type or layout for the exact keys).
    """

    def __init__(self, query: Any, gallery: Any, metric: str) -> None:
        if metric not in ("cosine", "euclidean"):
            raise ValueError(f"metric must be 'cosine' or 'euclidean', got {metric!r}")
        self.metric = metric
        self.query = _as_matrix(query, "query_features", "(queries, dimensions)")
        self.gallery = _as_matrix(gallery, "gallery_features", "(gallery, dimensions)")
        if self.query.shape[1] != self.gallery.shape[1]:
            raise ValueError(
                f"query_features have {self.query.shape[1]} dimensions, gallery_features "
                f"{self.gallery.shape[1]}: both must come from the same model and layer"
            )
        if self.query.device != self.gallery.device:
            target = self.query.device if self.query.is_cuda else self.gallery.device
            self.query, self.gallery = self.query.to(target), self.gallery.to(target)
        self.device = self.query.device
        self.num_queries, self.dim = self.query.shape
        self.num_gallery = self.gallery.shape[0]
        self.screen_rows = _SCREEN_ROWS[self.device.type]
        self.screen_columns = _SCREEN_COLUMNS[self.device.type]
        self.block_rows = max(self.screen_rows, _OPEN_ELEMENTS // self.dim)

        self.query_square = self._squares(self.query, "query_features")
        self.gallery_square = self._squares(self.gallery, "gallery_features")
        self.query_scale = self._scales(self.query_square)
        self.gallery_scale = self._scales(self.gallery_square)
        self.center = self._center()

    def open(self, start: int, stop: int) -> Rows:
        return _FeatureRows(self, start, stop)

    def part(self, queries: Any, gallery: Any) -> FeatureDistances:
        """Between some of the queries and some of the gallery, given by integer arrays."""
        queries, gallery = (torch.from_numpy(x).to(self.device) for x in (queries, gallery))
        return FeatureDistances(self.query[queries], self.gallery[gallery], self.metric)

    def _squares(self, features: Tensor, name: str) -> Tensor:
        """Squared lengths in float64, (N,); refuses rows that have none."""
        squares = torch.empty(len(features), dtype=torch.float64, device=self.device)
        kernels = cpu_kernels() if self.device.type == "cpu" else None
        if kernels is not None and features.dtype in DTYPES and features.is_contiguous():
            place = torch.arange(len(features))
            squares = kernels.pair_sums(features, features, place, place, False)
        else:
            for start in range(0, len(features), self._judged_rows):
                part = features[start : start + self._judged_rows].double()
                squares[start : start + len(part)] = _tree_sum(part * part)
        bad = torch.nonzero(~(squares <= _LARGEST_SQUARE)).flatten().tolist()
        if bad:
            raise ValueError(
                f"{name} must be finite: {_listed('row', bad)} of {len(features)} hold NaN, "
                "infinity or values too large to square; a model that diverged or overflowed in "
                "half precision gives such features"
            )
        return squares.masked_fill_(squares < _SMALLEST_SQUARE, 0.0)

    def _scales(self, squares: Tensor) -> Tensor:
        """Factors, (N,), that give unit length (cosine), or a length of at most 1 (euclidean)."""
        if self.metric == "euclidean":
            longest = torch.maximum(self.query_square.max(), self.gallery_square.max())
            squares = longest.clamp(min=_SMALLEST_SQUARE).expand_as(squares)
        return torch.where(squares > 0, squares.rsqrt(), 0.0)

    def _center(self) -> Tensor:
        """Mean scaled gallery feature, (D,), which the screen subtracts.

        Where features share a large common part (after a ReLU, or in a poorly trained model), the
        distances to be told apart are far smaller than the products that make them up.
        """
        total = torch.zeros(self.dim, dtype=torch.float64, device=self.device)
        for start in range(0, self.num_gallery, self._judged_rows):
            part = self.gallery[start : start + self._judged_rows].double()
            total += self.gallery_scale[start : start + len(part)] @ part
        return total / self.num_gallery

    def centred(self, features: Tensor, start: int, stop: int) -> Tensor:
        """Rows of ``query`` or ``gallery``, scaled, less the centre, (B, D) float64."""
        scale = self.query_scale if features is self.query else self.gallery_scale
        return (features[start:stop].double() * scale[start:stop, None]).sub_(self.center)

    def screened(self, features: Tensor, start: int, stop: int) -> tuple[Tensor, Tensor, Tensor]:
        """The same as float32; and, (B,) each, its products with the centre and squared lengths."""
        kernels = cpu_kernels() if self.device.type == "cpu" else None
        if kernels is not None and features.dtype in DTYPES:
            scale = self.query_scale if features is self.query else self.gallery_scale
            return kernels.center(features[start:stop], scale[start:stop], self.center)
        values = self.centred(features, start, stop)
        return values.float(), values @ self.center, values.square().sum(1)

    @property
    def _judged_rows(self) -> int:
        return max(1, _JUDGE_ELEMENTS[self.device.type] // self.dim)

    @cached_property
    def _equals(self) -> tuple[Tensor, Tensor] | None:
        """A number for each different gallery vector, (G,), and where one of each stands, (K,).

        None if looking for equal vectors would not pay.
        """
        values, group = torch.unique(self.gallery, dim=0, return_inverse=True)
        if 2 * len(values) > self.num_gallery:
            return None
        position = torch.empty(len(values), dtype=torch.int64, device=self.device)
        position[group] = torch.arange(self.num_gallery, device=self.device)
        return group, position

    def exact(self, queries: Tensor, columns: Tensor) -> Tensor:
        """Exact keys of P pairs, (P,) float64.

        Euclidean: the squared distance. Cosine: -s |s| / |g|^2 with s = <q, g>, which orders like
        the distance and needs no root, so that integer features give exact ties.
        """
        if len(queries) >= _MANY_PAIRS and self._equals is not None:  # judge different pairs once
            group, position = self._equals
            first, number = queries.min(), len(position)
            code = (queries - first) * number + group[columns]
            rows = int(queries.max() - first) + 1
            if rows * number <= _CODE_ELEMENTS[self.device.type]:
                seen = torch.zeros(rows * number, dtype=torch.bool, device=self.device)
                seen[code] = True
                codes = seen.nonzero()[:, 0]
                keys = torch.empty(rows * number, dtype=torch.float64, device=self.device)
                keys[codes] = self._keys(codes // number + first, position[codes % number])
                return keys[code]
        return self._keys(queries, columns)

    def _keys(self, queries: Tensor, columns: Tensor) -> Tensor:
        if self.metric == "euclidean":
            return self._pair_sums(queries, columns)
        product = self._pair_sums(queries, columns)
        square = self.gallery_square[columns]
        return torch.where(square > 0, -product * product.abs() / square, 0.0)

    def _pair_sums(self, queries: Tensor, columns: Tensor) -> Tensor:
        """Of products (cosine) or of squared differences (euclidean) of P pairs, (P,) float64."""
        squared = self.metric == "euclidean"
        if self._for_kernels is not None:
            kernels, query, gallery = self._for_kernels
            return kernels.pair_sums(query, gallery, queries, columns, squared)
        sums = torch.empty(len(queries), dtype=torch.float64, device=self.device)
        for start in range(0, len(queries), self._judged_rows):
            part = slice(start, start + self._judged_rows)
            terms = self.query.index_select(0, queries[part]).double()  # (P, D)
            gallery = self.gallery.index_select(0, columns[part]).double()
            sums[part] = _tree_sum(
                terms.sub_(gallery).square_() if squared else terms.mul_(gallery)
            )
        return sums

    @cached_property
    def _for_kernels(self) -> tuple[CpuKernels, Tensor, Tensor] | None:
        """The compiled kernels, if there are any, and the features as they want them."""
        kernels = cpu_kernels() if self.device.type == "cpu" else None
        if kernels is None:
            return None
        kind = torch.float32
        for features in (self.query, self.gallery):
            exact = features.is_floating_point() and features.dtype != torch.float64
            kind = kind if exact else torch.float64
        query, gallery = (x.to(kind).contiguous() for x in (self.query, self.gallery))
        return kernels, query, gallery


class _FeatureRows:
    """Screens: h(g) - <q - c, g - c>, which grows with the distance of g from the query q.

    c is the centre; h is |g - c|^2 / 2 for the Euclidean, and -<c, g - c> for the cosine distance.
    """

    def __init__(self, source: FeatureDistances, start: int, stop: int) -> None:
        self.source = source
        self.start, self.stop = start, stop
        self.single = source.center.new_empty((stop - start, source.dim), dtype=torch.float32)
        self.length, self.product = source.center.new_empty((2, stop - start))
        for part in self._parts():
            query, self.product[part], square = source.screened(source.query, *self._ends(part))
            self.single[part], self.length[part] = query, square.sqrt()

    def exact(self, rows: Tensor, columns: Tensor) -> Tensor:
        return self.source.exact(rows + self.start, columns)

    def screens(self, table: Tensor) -> Iterator[Screen]:
        """float32 screens, each with a float64 one in reserve."""
        source, table = self.source, self._on_screen_scale(table)
        parts = list(self._parts())
        height = min(len(self.single), source.screen_rows)
        space = self.single.new_empty(height * source.screen_columns)
        for first in range(0, source.num_gallery, source.screen_columns):
            last = min(first + source.screen_columns, source.num_gallery)
            gallery, product, square = source.screened(source.gallery, first, last)
            bias = square / 2 if source.metric == "euclidean" else -product
            length = square.max().sqrt()
            finest = self._margin_of_float64(length)
            margin = self._margin(length, bias.abs().max()) + finest
            single_bias = bias.float()
            for part in parts:
                query = self.single[part]
                values = space[: len(query) * (last - first)].view(len(query), -1)
                _minus_product(single_bias, query, gallery, out=values)
                finer = partial(self._finer, part, first, bias, table[part], finest[part])
                yield Screen(part.start, first, values, table[part], margin[part], finer)

    def _parts(self) -> Iterator[slice]:
        """The opened queries, a screen's share at a time."""
        rows = self.stop - self.start
        for start in range(0, rows, self.source.screen_rows):
            yield slice(start, min(start + self.source.screen_rows, rows))

    def _finer(
        self, part: slice, first: int, bias: Tensor, table: Tensor, margin: Tensor
    ) -> Screen:
        source = self.source
        query = source.centred(source.query, *self._ends(part))
        gallery = source.centred(source.gallery, first, first + len(bias))
        values = torch.addmm(bias, query, gallery.T, alpha=-1)
        return Screen(part.start, first, values, table, margin)

    def _ends(self, part: slice) -> tuple[int, int]:
        return self.start + part.start, self.start + part.stop

    def _on_screen_scale(self, keys: Tensor) -> Tensor:
        """Exact keys (B, W) as values of the screen, up to float64 rounding."""
        source = self.source
        if source.metric == "euclidean":
            scale = source.query_scale[0].square() / 2
            return torch.sub(keys * scale, (self.length.square() / 2)[:, None])
        square = source.query_square[self.start : self.stop]
        square = square.clamp(min=_SMALLEST_SQUARE)[:, None]  # keys of a zero query are 0
        square_of_center = _tree_sum(source.center.square()[None])
        cosine_distance = (keys.abs() / square).sqrt().copysign(keys)  # less 1
        return torch.add(cosine_distance, (self.product + square_of_center)[:, None])

    def _margin(self, length: Tensor, bias: Tensor) -> Tensor:
        """Bound on the error of the float32 screen for each query, (B,) float64."""
        pieces = -(-self.source.dim // _PIECE)
        terms = _PIECE + pieces + 4  # a piece, the sum of pieces, and the rounding of the inputs
        error = terms * self.length * length + (pieces + 3) * bias
        return torch.mul(error, 1.01 * 2.0**-24)

    def _margin_of_float64(self, length: Tensor) -> Tensor:
        """Bound on the error of everything done in float64, for each query, (B,).

        With s the sum of the two lengths less the centre (itself of length 1 at most), products,
        bias and table are off by at most 2 D s (1 + s) units; scaling, centring and the exact keys,
        which are sums by halving, by a few units a level. Where all features are alike, s is small.
        """
        s = self.length + length
        levels = self.source.dim.bit_length()
        return torch.mul(2 * self.source.dim * s * (1 + s) + 16 * levels + 256, 2.0**-53)


def _minus_product(bias: Tensor, query: Tensor, gallery: Tensor, *, out: Tensor) -> None:
    """out (B, C) = bias (C,) - query (B, D) gallery (C, D)^T, summed in pieces of dimensions."""
    addend = bias
    for start in range(0, query.shape[1], _PIECE):
        piece = slice(start, start + _PIECE)
        torch.addmm(addend, query[:, piece], gallery[:, piece].T, alpha=-1, out=out)
        addend = out


def _tree_sum(terms: Tensor) -> Tensor:
    """Sum over the last dimension of (P, D) in one fixed order; overwrites ``terms``.

    Library reductions choose the order by shape, alignment, threads and device. Halving with
    elementwise additions gives the same bits everywhere.
    """
    width = terms.shape[1]
    while width > 1:
        half = (width + 1) // 2
        terms[:, : width - half] += terms[:, half:width]
        width = half
    return terms[:, 0]


# ---------------------------------------------------------------------------------------------
# distances given as numbers


class GivenDistances:
    """A (Q, G) matrix, or an object that hands out its rows.

    Args:
        distances: numpy array or torch tensor, or any object with ``.rows(start, stop)`` that
            returns one of the two (or ``.toarray()`` that returns the whole).
        num_queries, num_gallery: the shape to expect.

    Raises:
        ValueError: for another shape, and (when the rows are read) for values that are not finite.
        TypeError: for anything but real numbers.

    The numbers are compared as they stand; no tolerance is applied.
    """

    def __init__(self, distances: Any, num_queries: int, num_gallery: int) -> None:
        self.num_queries = num_queries
        self.num_gallery = num_gallery
        self.block_rows = max(1, _GIVEN_ELEMENTS // num_gallery)
        self._matrix: Tensor | None = None
        self._lazy = distances
        if callable(getattr(distances, "rows", None)):
            self.device = self._read(0, 1).device
        else:
            if callable(getattr(distances, "toarray", None)):
                distances = distances.toarray()
            self._matrix = _as_matrix(distances, "distances", "(queries, gallery)")
            self._check_shape(tuple(self._matrix.shape), num_queries)
            self.device = self._matrix.device

    def open(self, start: int, stop: int) -> Rows:
        values = self._read(start, stop)
        if values.dtype not in (torch.float32, torch.float64):
            values = values.float() if values.is_floating_point() else values.double()
        low, high = torch.aminmax(values, dim=1)  # both are NaN where the row holds one
        bad = torch.nonzero(~(low.isfinite() & high.isfinite())).flatten() + start
        if len(bad):
            raise ValueError(
                f"distances must be finite: {_listed('query row', bad.tolist())} hold NaN or "
                "infinity; to leave items out, drop them or give them pid -1 in gallery_ids"
            )
        return _GivenRows(values)

    def _read(self, start: int, stop: int) -> Tensor:
        if self._matrix is not None:
            return self._matrix[start:stop]
        values = _as_matrix(self._lazy.rows(start, stop), "distances.rows()", "(rows, gallery)")
        self._check_shape(tuple(values.shape), stop - start)
        return values

    def _check_shape(self, shape: tuple[int, ...], num_queries: int) -> None:
        if shape != (num_queries, self.num_gallery):
            raise ValueError(
                f"distances must have shape ({num_queries}, {self.num_gallery}), a row for each "
                f"of query_ids and a column for each of gallery_ids, got {shape}"
            )


class _GivenRows:
    def __init__(self, values: Tensor) -> None:
        self.values = values

    def exact(self, rows: Tensor, columns: Tensor) -> Tensor:
        return self.values[rows, columns]

    def screens(self, table: Tensor) -> Iterator[Screen]:
        yield Screen(0, 0, self.values.clone(), table, None)


# ---------------------------------------------------------------------------------------------


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """No autocast, no TF32 or bfloat16 inside float32 products: the error bounds need it."""
    switches: list[Any] = [torch.backends.cuda.matmul, getattr(torch.backends.mkldnn, "matmul", 0)]
    switches = [switch for switch in switches if hasattr(switch, "fp32_precision")]
    before = [switch.fp32_precision for switch in switches]
    legacy = None if switches else torch.get_float32_matmul_precision()  # torch before 2.9
    try:
        for switch in switches:
            switch.fp32_precision = "ieee"
        if legacy:
            torch.set_float32_matmul_precision("highest")
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.fp32_precision = value
        if legacy:
            torch.set_float32_matmul_precision(legacy)


def _as_matrix(values: Any, name: str, shape: str) -> Tensor:
    tensor = values.detach() if isinstance(values, Tensor) else _from_numpy(values, name)
    if tensor.is_complex():
        raise TypeError(f"{name} must hold real numbers, got {tensor.dtype}")
    if tensor.ndim != 2:
        raise ValueError(f"{name} must be a matrix {shape}, got shape {tuple(tensor.shape)}")
    if 0 in tensor.shape:
        raise ValueError(f"{name} must not be empty, got shape {tuple(tensor.shape)}")
    if tensor.device.type not in ("cpu", "cuda"):
        tensor = tensor.cpu()  # other accelerators have no float64
    return tensor


def _from_numpy(values: Any, name: str) -> Tensor:
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must hold real numbers, got {type(values)} of {array.dtype}")
    if not array.dtype.isnative or any(stride < 0 for stride in array.strides):
        array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
    with warnings.catch_warnings():  # that a read-only array becomes a tensor: never written here
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(array)


def _listed(noun: str, rows: list[int], shown: int = 5) -> str:
    """'row 3', 'rows 3, 8', 'rows 0, 1, 2, 3, 4 and 95 more'."""
    text = ", ".join(map(str, rows[:shown]))
    if len(rows) > shown:
        text += f" and {len(rows) - shown} more"
    return f"{noun}{'s' if len(rows) > 1 else ''} {text}"
