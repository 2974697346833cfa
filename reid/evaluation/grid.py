"""Features on a grid, where squared distances are exact.

A float32 product rounds differently for equal vectors at different places of a matrix, with other
block sizes and with other numbers of threads; what is computed from it cannot be repeated to the
last bit, and equal distances do not tie. So the features are rounded *once*, to multiples of a
power of two, and counted in it: integers, of which

- no coordinate exceeds 2^24, so that float32 holds them exactly;
- no vector (less the centre of all) is longer than 2^25.5, so that every product of two, every
  partial sum of it and every squared distance is an integer below 2^53, which float64 holds
  exactly.

Then any float64 matrix product, on any machine, gives the same squared distances, and vectors of
equal values, or small integers at mathematically equal distances, tie. The step is at most 2^-23 of
the largest coordinate or 2^-24.4 of the greatest length, whichever is coarser: about the rounding
that the largest float32 coordinate has anyway. Features of unit length lose nothing by it; where
single vectors are a thousand times longer than the rest, the rest loses precision. Distances are
known up to the factor of the squared step, which cancels in re-ranking.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_LARGEST_COORDINATE = 2.0**24 - 2
_LARGEST_LENGTH = 2.0**25.4  # 2^25.5 after rounding, for up to a million dimensions
_BLOCK_ELEMENTS = 1 << 21
_UNIT_ROUNDOFF = 2.0**-24


class Grid:
    """Points with integer coordinates.

    Attributes:
        values: (N, D) float32, integers.
        squares: (N,) float64, the squared lengths, exact.
    """

    def __init__(self, values: Tensor, squares: Tensor) -> None:
        self.values = values
        self.squares = squares

    def __len__(self) -> int:
        return len(self.values)

    def split(self, count: int) -> tuple[Grid, Grid]:
        """The first ``count`` points and the rest, sharing memory."""
        return (
            Grid(self.values[:count], self.squares[:count]),
            Grid(self.values[count:], self.squares[count:]),
        )

    def pair_distances(self, first: Tensor, second: Tensor) -> Tensor:
        """Squared distances of P pairs of positions, (P,) float64, exact."""
        products = self.squares.new_empty(len(first))
        rows = max(1, _BLOCK_ELEMENTS // self.values.shape[1])
        for start in range(0, len(first), rows):
            part = slice(start, start + rows)
            left, right = self.values[first[part]].double(), self.values[second[part]].double()
            products[part] = left.mul_(right).sum(1)
        return (self.squares[first] + self.squares[second]) - 2 * products


def on_grid(*features: Tensor) -> Grid:
    """Sets of features, one after the other, on a grid of their own.

    Args:
        features: (N_1, D), (N_2, D), ...: finite real numbers of any type on one device.
    """
    count = sum(len(part) for part in features)
    dim, device = features[0].shape[1], features[0].device
    center = torch.zeros(dim, dtype=torch.float64, device=device)
    for part in features:
        for block in _blocks(part):
            center += part[block].double().sum(0)
    center /= count

    largest = longest = 0.0
    for part in features:
        for block in _blocks(part):
            centred = part[block].double() - center
            largest = max(largest, float(centred.abs().max()))
            longest = max(longest, float(torch.linalg.vector_norm(centred, dim=1).max()))

    values = torch.zeros(count, dim, dtype=torch.float32, device=device)
    squares = torch.zeros(count, dtype=torch.float64, device=device)
    if largest > 0:
        bound = min(_LARGEST_COORDINATE / largest, _LARGEST_LENGTH / longest)
        step = 2.0 ** (1 - math.frexp(bound)[1])  # its inverse is the power of two below the bound
        start = 0
        center = center.div_(step).round_()
        for part in features:
            for block in _blocks(part):
                rounded = part[block].double().div_(step).round_().sub_(center)
                stop = start + len(rounded)
                values[start:stop], squares[start:stop] = rounded, rounded.square().sum(1)
                start = stop
    return Grid(values, squares)


def screening_margins(points: Grid, others: Grid) -> Tensor:
    """How far a float32 product can lead half a squared distance astray, (N,) float32.

    Half the squared distance of a point to one of ``others``, computed as (h + h') - <a, b> from a
    float32 matrix product and rounded half squares h, is off by no more than this: D u |a| |b| for
    the product, in any order of summation (Higham, "Accuracy and Stability of Numerical
    Algorithms", 2002, section 3.1), and 2 u (|a|^2 + |b|^2) for the halves and the two sums.
    """
    length, longest = points.squares.sqrt(), others.squares.max().sqrt()
    terms = (points.values.shape[1] + 2) * length * longest
    terms += 2 * (length.square() + longest.square())
    return (1.02 * _UNIT_ROUNDOFF * terms).float()


def _blocks(values: Tensor) -> list[slice]:
    rows = max(1, _BLOCK_ELEMENTS // max(1, values.shape[1]))
    return [slice(start, start + rows) for start in range(0, len(values), rows)]
