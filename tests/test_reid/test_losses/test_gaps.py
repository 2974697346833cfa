"""Gaps of every mining against naive loops, their validity and gradients."""

import math

import pytest
import torch

from reid.losses.distances import get_distance
from reid.losses.gaps import MININGS, get_mining

METRIC = get_distance("euclidean")


def naive_gaps(mining, x, labels):
    """{(anchor, ...): gap} of the valid triplets, in Python floats."""
    n = len(x)
    d = [[math.dist(x[i].tolist(), x[j].tolist()) for j in range(n)] for i in range(n)]
    gaps = {}
    for a in range(n):
        positives = [i for i in range(n) if i != a and labels[i] == labels[a]]
        negatives = [i for i in range(n) if labels[i] != labels[a]]
        if not positives or not negatives:
            continue
        if mining == "batch_hard":
            gaps[(a,)] = max(d[a][p] for p in positives) - min(d[a][q] for q in negatives)
        elif mining == "semi_hard":
            for p in positives:
                beyond = [d[a][q] for q in negatives if d[a][q] > d[a][p]]
                gaps[a, p] = d[a][p] - (min(beyond) if beyond else max(d[a][q] for q in negatives))
        elif mining == "batch_all":
            gaps |= {(a, p, q): d[a][p] - d[a][q] for p in positives for q in negatives}
        else:
            up = {p: math.exp(d[a][p]) for p in positives}
            down = {q: math.exp(-d[a][q]) for q in negatives}
            gaps[(a,)] = sum(w * d[a][p] for p, w in up.items()) / sum(up.values()) - sum(
                w * d[a][q] for q, w in down.items()
            ) / sum(down.values())
    return gaps


def batch(seed, n):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 5, dtype=torch.float64, generator=generator)
    return x, torch.randint(0, 4, (n,), generator=generator)


@pytest.mark.parametrize("mining", sorted(MININGS))
@pytest.mark.parametrize(("seed", "n"), [(s, n) for s in range(4) for n in (1, 2, 5, 12)])
def test_equal_the_naive_loops(mining, seed, n):
    x, labels = batch(seed, n)
    values, valid = get_mining(mining)(METRIC, x, labels)
    assert values.shape == valid.shape
    expected = naive_gaps(mining, x, labels.tolist())
    assert {tuple(place) for place in valid.nonzero().tolist()} == set(expected)
    for place, gap in expected.items():
        assert values[place].item() == pytest.approx(gap, abs=1e-9)


@pytest.mark.parametrize("mining", sorted(MININGS))
def test_an_empty_batch(mining):
    values, valid = get_mining(mining)(METRIC, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    assert values.numel() == valid.numel() == 0
    assert valid.dtype == torch.bool


def test_weighted_lies_between_the_hardest_and_the_mean():
    x, labels = batch(0, 12)
    weighted, valid = MININGS["weighted"](METRIC, x, labels)
    hard, _ = MININGS["batch_hard"](METRIC, x, labels)
    everything, exists = MININGS["batch_all"](METRIC, x, labels)
    mean = everything.masked_fill(~exists, 0).sum((1, 2)) / exists.sum((1, 2))
    assert valid.sum() > 3
    assert (weighted[valid] <= hard[valid] + 1e-12).all()
    assert (weighted[valid] >= mean[valid] - 1e-12).all()


def test_weights_of_large_distances_do_not_overflow():
    x = torch.tensor([[0.0], [300.0], [-500.0], [1000.0]])
    values, _ = MININGS["weighted"](METRIC, x, torch.tensor([0, 0, 0, 1]))
    assert values[0] == 500 - 1000


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"batch_hard, semi_hard, weighted, batch_all, got 'easy'"):
        get_mining("easy")
