"""The nearest neighbours are those of all distances, with equal ones in the order of positions."""

import numpy as np
import pytest
import torch

from reid.evaluation import neighbours
from reid.evaluation.grid import on_grid, screening_margins
from reid.evaluation.neighbours import neighbours_among, neighbours_between
from reid.evaluation.reranking_cpu import Lists, Points, cpu_kernels


@pytest.fixture(params=["compiled", "torch"], autouse=True)
def kernels(request, monkeypatch):
    monkeypatch.setattr(neighbours, "_TILE", 64)
    monkeypatch.setitem(neighbours._EXACT_ELEMENTS, "cpu", 5000)
    if request.param == "torch":
        monkeypatch.setenv("REID_KERNELS", "torch")
    elif cpu_kernels() is None:
        pytest.skip("no C++ compiler is installed")


def points(kind, count, dim=19, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, dim))
    if kind == "integers":
        x = rng.integers(-1, 2, (count, 3))
    elif kind == "few":
        x = x[rng.integers(0, min(4, count), count)]
    elif kind == "one":
        x[:] = x[0]
    elif kind == "one-hot":
        x = np.eye(count)
    elif kind == "tight":  # clusters far narrower than a float32 product can resolve
        x = x[rng.integers(0, min(4, count), count)] + 1e-5 * x
    return torch.from_numpy(x)


def expected(left, right, k, among):
    squared = np.stack([((right - row) ** 2).sum(1) for row in left])
    farthest = squared.max(1)
    if among:
        np.fill_diagonal(squared, np.inf)
    items = np.argsort(squared, axis=1, kind="stable")[:, :k]
    return items, np.take_along_axis(squared, items, 1), farthest


KINDS = ["normal", "integers", "few", "one", "one-hot", "tight"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("count", "k"), [(2, 1), (64, 5), (65, 64), (300, 7), (300, 70)])
def test_among(kind, count, k):
    grid = on_grid(points(kind, count))
    found, farthest = neighbours_among(grid, k)
    values = grid.values.double().numpy()
    items, squared, largest = expected(values, values, k, among=True)
    assert (found.items == items).all() and (found.squared == squared).all()
    assert (farthest == largest).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("left", "right", "k"), [(1, 1, 1), (1, 70, 3), (130, 200, 9), (90, 5, 5)])
def test_between(kind, left, right, k):
    grid = on_grid(points(kind, left + right))
    one, other = grid.split(left)
    found = neighbours_between(one, other, k)
    values = grid.values.double().numpy()
    items, squared, _ = expected(values[:left], values[left:], k, among=False)
    assert (found.items == items).all() and (found.squared == squared).all()


def test_no_more_than_there_are():
    grid = on_grid(points("normal", 6))
    assert neighbours_among(grid, 20)[0].items.shape == (6, 5)
    assert neighbours_between(*grid.split(2), 20).items.shape == (2, 4)
    found, farthest = neighbours_among(on_grid(points("normal", 1)), 3)
    assert found.items.shape == (1, 0) and farthest == 0


@pytest.mark.parametrize("dim", [1, 100, 700])
@pytest.mark.parametrize("kind", ["normal", "tight"])
def test_screens_stay_within_their_margins(kind, dim):
    grid = on_grid(points(kind, 60, dim), points("normal", 40, dim, seed=1) * 30)
    half = (grid.squares / 2).float()
    screened = (half[:, None] + half) - grid.values @ grid.values.T
    values = grid.values.double()
    exact = ((values[:, None] - values) ** 2).sum(2) / 2
    error = (screened.double() - exact).abs().amax(1)
    margins = screening_margins(grid, grid).double()
    assert (error <= margins).all()
    assert (margins < 1e-3 * exact.amax(1)).all()  # and they are of use


def test_a_list_in_any_order_of_tiles_settles_the_same():
    """Limits only ever dismiss what cannot be among the nearest."""
    made = cpu_kernels()
    if made is None:
        pytest.skip("no C++ compiler is installed")
    grid = on_grid(points("integers", 256))
    side = Points(grid, grid)
    results = []
    for order in ([0, 64, 128, 192], [192, 0, 128, 64]):
        near = Lists(256, 9, 1)
        for row in order:
            for column in reversed(order):
                tile = grid.values[row : row + 64] @ grid.values[column : column + 64].T
                made.search_tile(side, side, near, tile, row, column)
        results.append(made.settle(side, side, near))
    assert (results[0][0] == results[1][0]).all() and (results[0][1] == results[1][1]).all()
