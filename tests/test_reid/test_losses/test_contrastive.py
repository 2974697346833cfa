"""Contrastive loss against a naive loop over pairs."""

import math
from itertools import combinations

import pytest
import torch

from reid.losses import ContrastiveLoss
from reid.losses.distances import DISTANCES
from reid.registry import MODELS


def naive_contrastive(x, labels, margin):
    pull, push = [], []
    for i, j in combinations(range(len(x)), 2):
        d = math.dist(x[i].tolist(), x[j].tolist())
        if labels[i] == labels[j]:
            pull.append(d * d / 2)
        else:
            push.append(max(margin - d, 0) ** 2 / 2)
    mean = sum(pull) / max(len(pull), 1) + sum(push) / max(len(push), 1)
    return mean, sum(v > 0 for v in push) / max(len(push), 1)


def batch(seed, n=9, identities=3, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 4, dtype=dtype, generator=generator)
    return x, torch.randint(0, identities, (n,), generator=generator)


@pytest.mark.parametrize("margin", [0.5, 2.0, 5.0])
@pytest.mark.parametrize(("seed", "identities"), [(0, 3), (1, 3), (2, 1), (3, 100)])
def test_equals_the_naive_loop(margin, seed, identities):
    x, labels = batch(seed, identities=identities)
    loss = ContrastiveLoss(margin=margin, weight=3.0)
    value, active = naive_contrastive(x, labels.tolist(), margin)
    assert loss(x, labels).item() == pytest.approx(3 * value)
    assert loss.statistics["contrastive_active"].item() == pytest.approx(active)


@pytest.mark.parametrize("distance", sorted(DISTANCES))
def test_gradcheck(distance):
    x, labels = batch(0, n=6)
    loss = ContrastiveLoss(distance=distance)
    torch.autograd.gradcheck(lambda x: loss(x, labels), (x.requires_grad_(),))


def test_normalised_distances_do_not_see_the_length():
    x, labels = batch(0)
    loss = ContrastiveLoss(distance="normalized_euclidean")
    torch.testing.assert_close(loss(x, labels), loss(x * 50, labels))


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("distance", sorted(DISTANCES))
def test_collapsed_features_have_finite_gradients(value, distance):
    x = torch.full((4, 3), value, requires_grad=True)
    ContrastiveLoss(distance=distance)(x, torch.tensor([0, 0, 1, 1])).backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"margin": 0.0}, "expected a finite margin > 0, got 0.0"),
        ({"margin": math.inf}, "expected a finite margin"),
        ({"distance": "l1"}, "expected distance to be one of euclidean"),
        ({"input": "logits"}, "expected input to be one of feature, embedding"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ContrastiveLoss(**arguments)


def test_builds_from_a_config():
    loss = MODELS.build({"type": "reid.ContrastiveLoss", "margin": 0.7})
    assert (loss.input, loss.name, loss.margin) == ("feature", "contrastive_loss", 0.7)
    assert "margin=0.7, distance='euclidean'" in repr(loss)
