"""What a score is, to the last bit, and how far a float32 product may lead astray.

The score of a query and a stored vector is their inner product (cosine), or minus the length of
their difference (euclidean). Every exact score of a gallery is computed in one way: both vectors
are taken as they are, in float64; the terms are added by halves, the upper half of the row onto the
lower one until a single number is left, whatever processor or library does it. So a query scores
the same bits alone and in a batch, over any segments, and on any device; and equal rows tie.

A float32 product is much faster, and *screens*: what cannot reach the scores found so far, by a
bound on the product's error, is dismissed, and all the rest is judged by exact scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_UNIT_ROUNDOFF = 2.0**-24
_TINY = 2.0**-124
_HUGE = 1e37
_BLOCK_ELEMENTS = 1 << 19  # of float64 terms: 4 MB


class Segments:
    """Several C-ordered (rows_i, dim) arrays of float32, or all of float16, counted through.

    Row number = position in their concatenation. They may be memory-mapped; none is copied.
    """

    def __init__(self, arrays: Sequence[NDArray[Any]], dim: int) -> None:
        self.arrays = [array for array in arrays if len(array)]
        self.dim = dim
        self.dtype = self.arrays[0].dtype if self.arrays else np.dtype(np.float32)
        for array in self.arrays:
            if array.ndim != 2 or array.shape[1] != dim or not array.flags.c_contiguous:
                raise ValueError(
                    f"a segment must be a C-ordered array (rows, {dim}); got shape {array.shape}."
                )
            if array.dtype != self.dtype or self.dtype not in (np.float32, np.float16):
                raise ValueError(
                    f"segments must all be float32 or all float16; got {self.dtype} and "
                    f"{array.dtype}."
                )
        self.starts = np.zeros(len(self.arrays) + 1, np.int64)
        np.cumsum([len(array) for array in self.arrays], out=self.starts[1:])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Copies of some rows, (n, dim), as they are stored."""
        if len(self.arrays) == 1:
            return np.asarray(self.arrays[0])[rows]
        taken = np.empty((len(rows), self.dim), self.dtype)
        home = np.searchsorted(self.starts, rows, side="right") - 1
        for number in np.unique(home):
            here = home == number
            taken[here] = self.arrays[number][rows[here] - self.starts[number]]
        return taken

    def tensor(self, rows: NDArray[np.int64], device: torch.device) -> Tensor:
        """The same on a device."""
        return torch.from_numpy(self.take(rows)).to(device)


def exact_scores(queries: Tensor, vectors: Tensor, metric: str) -> Tensor:
    """The scores of pairs: (n, dim) queries and (n, dim) stored vectors -> (n,) float64.

    A score that is no number (of a damaged vector) counts as minus infinity.
    """
    if metric == "cosine":
        terms = queries.double() * vectors.double()
    else:
        terms = queries.double() - vectors.double()
        terms = terms * terms
    width = 1 << (terms.shape[1] - 1).bit_length()
    terms = torch.nn.functional.pad(terms, (0, width - terms.shape[1]))
    while width > 1:
        width //= 2
        terms = terms[:, :width] + terms[:, width:]
    scores = terms[:, 0] if metric == "cosine" else -_root(terms[:, 0])
    return torch.nan_to_num(scores, nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)


def _root(squares: Tensor) -> Tensor:
    """Square roots, rounded correctly: on a CPU torch may ask a library that rounds otherwise."""
    return squares.sqrt() if squares.is_cuda else torch.from_numpy(np.sqrt(squares.numpy()))


def score_rows(
    segments: Segments, queries: NDArray[np.float32], rows: NDArray[np.int64], metric: str
) -> NDArray[np.float64]:
    """Exact scores (Q, m) of the rows (Q, m) that were proposed; -inf where a row is negative."""
    flat = rows.ravel()
    scores = np.full(len(flat), -np.inf)
    wanted = np.flatnonzero(flat >= 0)
    step = max(1, _BLOCK_ELEMENTS // segments.dim)
    for start in range(0, len(wanted), step):
        part = wanted[start : start + step]
        theirs = torch.from_numpy(segments.take(flat[part]))
        ours = torch.from_numpy(queries[part // rows.shape[1]])
        scores[part] = exact_scores(ours, theirs, metric).numpy()
    return scores.reshape(rows.shape)


def screening_margins(lengths: Tensor, longest: Tensor, dim: int, metric: str) -> Tensor:
    """How far a screened value may be from the true one.

    Screened is <q, x> for cosine, <q, x> - |x|^2 / 2 for euclidean, from a float32 product and a
    rounded half square. The product of ``dim`` terms is off by no more than dim u / (1 - dim u)
    times |q| |x|, in any order of summation (Higham, "Accuracy and Stability of Numerical
    Algorithms", 2002, section 3.1), to which comes what may be lost where numbers below the
    smallest normal one are taken for zero; half square and difference add a few u. Where float32
    might overflow there is no bound, and everything is judged exactly.

    Args:
        lengths: (Q,) float64, |q| of the queries.
        longest: the greatest |x|.
    """
    terms = (dim + 8) * _UNIT_ROUNDOFF
    unit = 1.01 * terms / (1 - terms) if terms <= 0.5 else torch.inf
    products, squares = lengths * longest, longest * longest
    margins = unit * products + dim * _TINY * (1 + lengths + longest)
    fits = products < _HUGE
    if metric != "cosine":
        margins += 8 * _UNIT_ROUNDOFF * squares
        fits &= squares < _HUGE
    return torch.where(fits & ~margins.isnan(), margins, torch.inf)
