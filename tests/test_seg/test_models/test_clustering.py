from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from seg.models.clustering import kmeans_1d


def naive_cost(values: np.ndarray, k: int) -> float:
    """The least sum of squares over all ways to cut the sorted values into at most k pieces."""
    values = np.sort(values)
    k = min(k, len(values))
    best = np.inf
    for cuts in combinations(range(1, len(values)), k - 1):
        pieces = np.split(values, cuts)
        best = min(best, sum(((p - p.mean()) ** 2).sum() for p in pieces))
    return best


def cost_of(values: np.ndarray, labels: np.ndarray) -> float:
    return sum(((values[labels == c] - values[labels == c].mean()) ** 2).sum() for c in set(labels))


@pytest.mark.parametrize("k", [1, 2, 3, 4])
@pytest.mark.parametrize("n", [1, 2, 3, 5, 9, 14])
def test_is_the_optimum(n: int, k: int) -> None:
    rng = np.random.default_rng(n * 10 + k)
    for values in (rng.normal(size=n), rng.integers(0, 4, n).astype(float), rng.lognormal(0, 3, n)):
        labels = kmeans_1d(values, k)
        assert cost_of(values, labels) == pytest.approx(naive_cost(values, k), abs=1e-9)
        order = np.argsort(values)
        assert (np.diff(labels[order]) >= 0).all()  # clusters are numbered upwards


def test_three_obvious_clusters_in_any_order_and_scale() -> None:
    values = np.array([5.0, 0.1, 9.0, 0.0, 5.2, 9.1, 0.2])
    for factor in (1.0, 1e-12, 1e12):
        assert kmeans_1d(values * factor, 3).tolist() == [1, 0, 2, 0, 1, 2, 0]


def test_equal_values_stay_together() -> None:
    assert kmeans_1d(np.ones(6), 3).tolist() == [0] * 6
    assert kmeans_1d([0, 1, 0, 1], 3).tolist() == [0, 1, 0, 1]
    assert kmeans_1d([], 3).shape == (0,)


def test_many_values() -> None:
    values = np.concatenate([np.full(100_000, 0.0), np.linspace(1, 1.1, 20_000), [7.0]])
    labels = kmeans_1d(values, 3)
    assert np.bincount(labels).tolist() == [100_000, 20_000, 1]


@pytest.mark.parametrize(("values", "k"), [([1.0], 0), ([float("nan")], 2), ([float("inf")], 2)])
def test_refused(values: list[float], k: int) -> None:
    with pytest.raises(ValueError, match="k-means"):
        kmeans_1d(values, k)
