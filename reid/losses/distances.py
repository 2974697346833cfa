"""Distances between the rows of a batch: all pairs (to mine from) and chosen pairs (to learn from).

The all-pairs form is one matrix product: O(N^2) memory where differences would need O(N^2 D), at
the price of rounding errors near zero. The chosen pairs are so few that their differences are
taken directly, exact down to zero. All functions compute in at least float32, also under autocast.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Distance:
    """One metric in its two forms, both differentiable with finite gradients at distance 0.

    Attributes:
        pairwise: (N, D) -> (N, N), entries >= 0, symmetric up to rounding, diagonal exactly 0.
        paired: (N, D), (N, D) -> (N,), entries >= 0, row against row, exactly 0 for equal rows
            (cosine: up to rounding).
    """

    pairwise: Callable[[Tensor], Tensor]
    paired: Callable[[Tensor, Tensor], Tensor]


def squared_euclidean_pairwise(x: Tensor) -> Tensor:
    """||x_i - x_j||^2 for all rows of ``x`` (N, D), as an (N, N) matrix."""
    x = _at_least_float32(x)
    with torch.autocast(x.device.type, enabled=False):
        # Distances do not change when all points move, but |a|^2 + |b|^2 - 2ab cancels much less
        # around the origin. The shift is a constant: its gradient would be zero anyway.
        x = x - x.detach().mean(dim=0)
        squares = x.square().sum(dim=1)  # (N,)
        distances = squares[:, None] + squares[None, :] - 2 * (x @ x.T)  # (N, N)
    return _zero_diagonal(distances.clamp_min(0))


def squared_euclidean_paired(x: Tensor, y: Tensor) -> Tensor:
    """||x_i - y_i||^2 for the rows of ``x`` and ``y`` (N, D), as an (N,) vector."""
    return (_at_least_float32(x) - _at_least_float32(y)).square().sum(dim=1)


def euclidean_pairwise(x: Tensor) -> Tensor:
    """||x_i - x_j|| for all rows of ``x`` (N, D); the gradient at distance 0 is 0."""
    squared = squared_euclidean_pairwise(x)
    # The slope of the root at 0 is infinite and 0 * inf is NaN, so the root must not see the zeros.
    # Comparing with == (and not >) lets NaN through.
    is_zero = squared == 0
    return squared.masked_fill(is_zero, 1).sqrt().masked_fill(is_zero, 0)


def euclidean_paired(x: Tensor, y: Tensor) -> Tensor:
    """||x_i - y_i|| for the rows of ``x`` and ``y`` (N, D); the gradient at distance 0 is 0."""
    norms: Tensor = torch.linalg.vector_norm(_at_least_float32(x) - _at_least_float32(y), dim=1)
    return norms


def cosine_pairwise(x: Tensor) -> Tensor:
    """1 - cos(x_i, x_j) in 0..2 for all rows of ``x`` (N, D); 1 from a zero row to any other."""
    x = unit_rows(_at_least_float32(x))
    with torch.autocast(x.device.type, enabled=False):
        distances = 1 - x @ x.T
    return _zero_diagonal(distances.clamp_min(0))


def cosine_paired(x: Tensor, y: Tensor) -> Tensor:
    """1 - cos(x_i, y_i) in 0..2 for the rows of ``x`` and ``y`` (N, D); 1 if either is zero."""
    x, y = unit_rows(_at_least_float32(x)), unit_rows(_at_least_float32(y))
    return (1 - (x * y).sum(dim=1)).clamp_min(0)


def normalized_euclidean_pairwise(x: Tensor) -> Tensor:
    """Euclidean distances in 0..2 of the rows of ``x`` (N, D) brought to unit length."""
    return euclidean_pairwise(unit_rows(_at_least_float32(x)))


def normalized_euclidean_paired(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean distance in 0..2 of the rows of ``x`` and ``y`` (N, D) brought to unit length."""
    return euclidean_paired(unit_rows(_at_least_float32(x)), unit_rows(_at_least_float32(y)))


DISTANCES = {
    "euclidean": Distance(euclidean_pairwise, euclidean_paired),
    "squared_euclidean": Distance(squared_euclidean_pairwise, squared_euclidean_paired),
    "cosine": Distance(cosine_pairwise, cosine_paired),
    "normalized_euclidean": Distance(normalized_euclidean_pairwise, normalized_euclidean_paired),
}


def get_distance(name: str) -> Distance:
    """The distance of that name.

    Raises:
        ValueError: an unknown name; the message lists the known ones.
    """
    if name not in DISTANCES:
        raise ValueError(f"expected distance to be one of {', '.join(DISTANCES)}, got {name!r}")
    return DISTANCES[name]


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _zero_diagonal(distances: Tensor) -> Tensor:
    itself = torch.eye(len(distances), dtype=torch.bool, device=distances.device)
    return distances.masked_fill(itself, 0)


def unit_rows(x: Tensor) -> Tensor:
    """The rows of ``x`` (N, D) divided by their length; a zero row stays zero."""
    norms: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True)  # (N, 1)
    # A zero row has no direction; dividing it by 1 and not by a tiny epsilon bounds its gradient.
    return x / norms.masked_fill(norms == 0, 1)
