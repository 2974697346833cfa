"""Triplet loss against a naive loop, its invariances, degenerate batches and messages."""

import logging
import math

import pytest
import torch

from reid.losses import TripletLoss
from reid.losses.distances import DISTANCES, get_distance
from reid.losses.gaps import MININGS
from reid.registry import MODELS


def naive_triplet(x, labels, margin, distance):
    """(mean over the valid anchors, share of them violating the margin), in Python floats."""
    x, labels = x.tolist(), labels.tolist()

    def d(i, j):
        squared = sum((a - b) ** 2 for a, b in zip(x[i], x[j], strict=True))
        if distance == "cosine":
            dot = sum(a * b for a, b in zip(x[i], x[j], strict=True))
            return 1 - dot / (math.hypot(*x[i]) * math.hypot(*x[j]))
        return squared if distance == "squared_euclidean" else math.sqrt(squared)

    terms, violations = [], 0
    for a in range(len(x)):
        positives = [d(a, i) for i in range(len(x)) if i != a and labels[i] == labels[a]]
        negatives = [d(a, i) for i in range(len(x)) if labels[i] != labels[a]]
        if not positives or not negatives:
            continue
        gap = max(positives) - min(negatives)
        if margin == "soft":
            terms.append(math.log1p(math.exp(gap)))
            violations += gap >= 0
        else:
            terms.append(max(gap + margin, 0.0))
            violations += gap + margin > 0
    return (sum(terms) / len(terms), violations / len(terms)) if terms else (0.0, 0.0)


def batch(seed, n=None, d=6, identities=5, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    n = n or int(torch.randint(2, 16, (), generator=generator))
    x = torch.randn(n, d, dtype=dtype, generator=generator)
    return x, torch.randint(0, identities, (n,), generator=generator)


@pytest.mark.parametrize("distance", ["euclidean", "squared_euclidean", "cosine"])
@pytest.mark.parametrize("margin", [0.0, 0.3, 2, "soft"])
@pytest.mark.parametrize("seed", range(5))
def test_equals_the_naive_loop_for_random_counts(distance, margin, seed):
    x, labels = batch(seed)
    loss = TripletLoss(margin=margin, distance=distance, weight=0.5)
    value, active = naive_triplet(x, labels, margin, distance)
    assert loss(x, labels).item() == pytest.approx(0.5 * value, abs=1e-9)
    assert loss.statistics["triplet_active"].item() == pytest.approx(active)


def test_counts_1_1_4_leave_the_singletons_out():
    x, _ = batch(3, n=6)
    labels = torch.tensor([5, 9, 2, 2, 2, 2])
    loss = TripletLoss()
    value, _ = naive_triplet(x, labels, 0.3, "euclidean")
    assert loss(x, labels).item() == pytest.approx(value)
    assert loss.statistics["triplet_valid"].item() == pytest.approx(4 / 6)


@pytest.mark.parametrize("mining", sorted(MININGS))
@pytest.mark.parametrize("reduction", ["mean", "active"])
@pytest.mark.parametrize("margin", [0.5, "soft"])
@pytest.mark.parametrize("seed", range(4))
def test_every_mining_and_reduction_equals_the_mean_of_the_gaps(mining, reduction, margin, seed):
    """What the gaps are, test_gaps.py compares with loops; here is what becomes of them."""
    x, labels = batch(seed)
    gaps, valid = MININGS[mining](get_distance("euclidean"), x, labels)
    soft = margin == "soft"
    losses, violated = [], []
    for gap in gaps[valid].tolist():
        losses.append(math.log1p(math.exp(gap)) if soft else max(gap + margin, 0.0))
        violated.append(gap >= 0 if soft else gap + margin > 0)
    counted = [v for v, bad in zip(losses, violated, strict=True) if bad or reduction == "mean"]
    loss = TripletLoss(margin=margin, mining=mining, reduction=reduction)
    value = loss(x, labels).item()
    assert value == pytest.approx(sum(counted) / max(len(counted), 1), abs=1e-9)
    active = sum(violated) / max(len(violated), 1)
    assert loss.statistics["triplet_active"].item() == pytest.approx(active)
    anchors = valid.reshape(len(x), -1).any(dim=1).float().mean().item()
    assert loss.statistics["triplet_valid"].item() == pytest.approx(anchors)


@pytest.mark.parametrize("distance", sorted(DISTANCES))
@pytest.mark.parametrize("mining", sorted(MININGS))
@pytest.mark.parametrize("margin", [0.3, "soft"])
def test_gradcheck(distance, mining, margin):
    x, labels = batch(1, n=7)
    loss = TripletLoss(margin=margin, distance=distance, mining=mining)
    torch.autograd.gradcheck(lambda x: loss(x, labels), (x.requires_grad_(),))


def test_order_of_the_batch_and_names_of_the_identities_do_not_matter():
    x, labels = batch(4, n=12, dtype=torch.float32)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    loss = TripletLoss()
    torch.testing.assert_close(loss(x[order], labels[order]), loss(x, labels))
    torch.testing.assert_close(loss(x, 1000 - 7 * labels), loss(x, labels))
    torch.testing.assert_close(loss(x, labels.int()), loss(x, labels))


@pytest.mark.parametrize("mining", sorted(MININGS))
@pytest.mark.parametrize(
    "labels", [[], [4], [4, 4, 4], [1, 2, 3]], ids=["empty", "one", "one_identity", "singletons"]
)
@pytest.mark.parametrize("margin", [0.3, "soft"])
def test_no_valid_anchor_is_a_zero_with_a_graph_and_one_warning(mining, labels, margin, caplog):
    loss = TripletLoss(margin=margin, mining=mining)
    x = torch.randn(len(labels), 4, requires_grad=True)
    labels = torch.tensor(labels, dtype=torch.int64)
    with caplog.at_level(logging.WARNING, logger="reid.losses.triplet"):
        for _ in range(3):
            value = loss(x, labels)
    assert value.item() == 0
    value.backward()
    assert (x.grad == 0).all()
    assert loss.statistics["triplet_active"] == loss.statistics["triplet_valid"] == 0
    assert len(caplog.records) == 1
    assert "at least 2 identities" in caplog.text


def test_healthy_batches_do_not_warn(caplog):
    x, labels = batch(4, n=12)
    TripletLoss()(x, labels)
    assert not caplog.records


@pytest.mark.parametrize("mining", sorted(MININGS))
@pytest.mark.parametrize("distance", ["euclidean", "squared_euclidean", "cosine"])
@pytest.mark.parametrize("margin", [0.3, "soft"])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_collapsed_features_have_finite_gradients(mining, distance, margin, value):
    x = torch.full((6, 4), value, requires_grad=True)
    loss = TripletLoss(margin=margin, distance=distance, mining=mining)(
        x, torch.tensor([0, 0, 1, 1, 2, 2])
    )
    assert loss.item() == pytest.approx(math.log(2) if margin == "soft" else margin, abs=1e-5)
    loss.backward()
    assert x.grad.isfinite().all()


def test_bf16_autocast_returns_float32_and_gradients_of_the_input_type():
    x, labels = batch(2, n=12, d=32, dtype=torch.bfloat16)
    x.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = TripletLoss()(x, labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, TripletLoss()(x.float(), labels))
    loss.backward()
    assert x.grad.dtype == torch.bfloat16


@pytest.mark.parametrize("mining", sorted(MININGS))
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("row", [0, 5], ids=["anchor", "singleton"])
@pytest.mark.parametrize("distance", ["euclidean", "squared_euclidean", "cosine"])
def test_non_finite_features_surface(mining, bad, row, distance):
    x, _ = batch(0, n=6)
    x[row, 1] = bad
    loss = TripletLoss(distance=distance, mining=mining)(x, torch.tensor([0, 0, 0, 1, 1, 2]))
    assert not loss.isfinite()


def test_input_is_left_as_it_was():
    x, labels = batch(0, n=8)
    before = x.clone()
    TripletLoss()(x, labels)
    assert torch.equal(x, before)


def test_builds_from_a_config():
    loss = MODELS.build({"type": "reid.TripletLoss", "margin": "soft", "weight": 2.0})
    assert (loss.input, loss.name, loss.weight) == ("feature", "triplet_loss", 2.0)
    loss.configure(num_classes=3, feature_dim=4)  # accepted by every loss
    assert not loss.state_dict()
    assert "margin='soft', distance='euclidean', mining='batch_hard'" in repr(loss)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"margin": -0.1}, "expected margin to be a finite number >= 0 or 'soft', got -0.1"),
        ({"margin": math.nan}, "expected margin"),
        ({"margin": "hard"}, "expected margin .* got 'hard'"),
        ({"distance": "l1"}, "expected distance to be one of euclidean, .* got 'l1'"),
        ({"mining": "random"}, "expected mining to be one of batch_hard, .* got 'random'"),
        ({"reduction": "sum"}, "expected reduction to be one of mean, active, got 'sum'"),
        ({"input": "logits"}, "expected input to be one of feature, embedding, got 'logits'"),
        ({"weight": -1.0}, "expected a finite weight >= 0, got -1.0"),
        ({"weight": math.inf}, "expected a finite weight"),
        ({"name": "triplet"}, "expected a name that contains 'loss'.*'triplet_loss'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        TripletLoss(**arguments)
