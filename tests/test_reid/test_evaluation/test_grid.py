"""The grid is as fine as promised, and arithmetic on it exact."""

import numpy as np
import pytest
import torch

from reid.evaluation.grid import on_grid


def features(kind, count=50, dim=40):
    x = np.random.default_rng(0).standard_normal((count, dim))
    if kind == "unit":
        x /= np.linalg.norm(x, axis=1, keepdims=True)
    elif kind == "offset":
        x = 1e4 + x
    elif kind == "tiny":
        x *= 1e-40
    elif kind == "huge":
        x *= 1e100
    elif kind == "one-dimension":
        x[:, 1:] = 0
    return x


KINDS = ["unit", "offset", "tiny", "huge", "one-dimension"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dim", [1, 3, 512, 5000])
def test_values_are_integers_that_fit(kind, dim):
    grid = on_grid(torch.from_numpy(features(kind, dim=dim)))
    values = grid.values.double()
    assert (values == values.round()).all()
    assert values.abs().max() <= 2**24 and grid.squares.max() <= 2**51
    assert (grid.squares == values.square().sum(1)).all()
    largest, longest = values.abs().max(), grid.squares.max().sqrt()
    assert largest >= 2**22.9 or longest >= 2**24.3  # no finer grid would fit


@pytest.mark.parametrize("kind", KINDS)
def test_distances_are_kept(kind):
    x = features(kind)
    grid = on_grid(torch.from_numpy(x[:20]), torch.from_numpy(x[20:]))
    squared = ((x[:, None] - x) ** 2 / np.abs(x - x.mean(0)).max() ** 2).sum(2)
    pairs = torch.cartesian_prod(torch.arange(50), torch.arange(50)).T
    found = grid.pair_distances(*pairs).view(50, 50).numpy()
    np.testing.assert_allclose(found / found.max(), squared / squared.max(), atol=1e-6)


def test_no_order_of_summation_makes_a_difference():
    x = torch.from_numpy(features("unit", 100, 700))
    values = on_grid(x).values.double()
    products = values @ values.T
    order = torch.randperm(700, generator=torch.Generator().manual_seed(0))
    assert torch.equal(values[:, order] @ values[:, order].T, products)
    assert torch.equal((values[:, None] * values).flip(2).sum(2), products)


def test_sums_of_small_integers_tie():
    """One-hot vectors are all equally far from each other, wherever the mean lies."""
    grid = on_grid(torch.eye(30)[:11], torch.eye(30)[11:])
    first, second = torch.triu_indices(30, 30, offset=1)
    assert len(grid.pair_distances(first, second).unique()) == 1


def test_equal_features_are_at_the_origin():
    grid = on_grid(torch.full((7, 5), 0.1, dtype=torch.float16))
    assert (grid.values == 0).all() and (grid.squares == 0).all()


def test_split_shares_memory():
    grid = on_grid(torch.from_numpy(features("unit")))
    first, rest = grid.split(20)
    assert len(first) == 20 and len(rest) == 30
    assert rest.values.data_ptr() == grid.values[20:].data_ptr()
    assert torch.equal(torch.cat([first.squares, rest.squares]), grid.squares)
