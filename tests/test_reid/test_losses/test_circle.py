"""Pairwise circle loss against the equations of the paper, written out in loops."""

import math

import pytest
import torch

from reid.losses import CircleLoss, CircleSoftmaxLoss
from reid.losses.circle import circle_logit
from reid.registry import MODELS


def similarities_of(x, labels, anchor):
    cosines = torch.nn.functional.cosine_similarity(x[anchor : anchor + 1], x).tolist()
    others = [i for i in range(len(x)) if i != anchor]
    positive = {i: cosines[i] for i in others if labels[i] == labels[anchor]}
    negative = {i: cosines[i] for i in others if labels[i] != labels[anchor]}
    return positive, negative


def naive_circle(x, labels, m, gamma):
    losses = []
    for a in range(len(x)):
        positive, negative = similarities_of(x, labels, a)
        if positive and negative:
            up = sum(math.exp(-gamma * max(1 + m - s, 0) * (s - 1 + m)) for s in positive.values())
            down = sum(math.exp(gamma * max(s + m, 0) * (s - m)) for s in negative.values())
            losses.append(math.log(1 + up * down))
    return sum(losses) / max(len(losses), 1)


def batch(seed, n=9, identities=3, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 5, dtype=dtype, generator=generator)
    return x, torch.randint(0, identities, (n,), generator=generator)


@pytest.mark.parametrize("margin", [0.0, 0.25, 0.4])
@pytest.mark.parametrize("gamma", [1.0, 32.0])
@pytest.mark.parametrize("identities", [1, 3, 6, 100])
def test_equals_the_equation(margin, gamma, identities):
    x, labels = batch(0, identities=identities)
    value = naive_circle(x, labels.tolist(), margin, gamma)
    loss = CircleLoss(margin, gamma, weight=2.0)
    assert loss(x, labels).item() == pytest.approx(2 * value, abs=1e-12)


def test_gradients_of_the_similarities_are_those_of_equations_9_and_10():
    """Z gamma (s_p - 1 - m) and Z gamma (s_n + m), each with its share of the sum it stands in."""
    m, gamma = 0.25, 4.0
    positive = torch.tensor([0.3, 0.6], dtype=torch.float64, requires_grad=True)
    negative = torch.tensor([0.1, -0.2, 0.4], dtype=torch.float64, requires_grad=True)
    pull = (-gamma * circle_logit(positive, m, positive=True)).logsumexp(0)
    push = (gamma * circle_logit(negative, m, positive=False)).logsumexp(0)
    loss = torch.nn.functional.softplus(pull + push)
    loss.backward()
    z = 1 - math.exp(-loss.item())
    down = [math.exp(gamma * (s**2 - m**2)) for s in negative.tolist()]
    up = [math.exp(gamma * ((s - 1) ** 2 - m**2)) for s in positive.tolist()]
    for s, w, gradient in zip(positive.tolist(), up, positive.grad.tolist(), strict=True):
        assert gradient == pytest.approx(z * w / sum(up) * gamma * (s - 1 - m))
    for s, w, gradient in zip(negative.tolist(), down, negative.grad.tolist(), strict=True):
        assert gradient == pytest.approx(z * w / sum(down) * gamma * (s + m))


def test_gradcheck_with_the_weights_held_constant(monkeypatch):
    """The loss differentiates its weights away, so a numeric gradient needs them frozen."""
    x, labels = batch(0, n=6)
    loss = CircleLoss(gamma=8.0)
    rows = torch.nn.functional.normalize(x)
    fixed = rows @ rows.T

    def frozen(similarities, margin, *, positive):
        if positive:
            return (1 + margin - fixed).clamp_min(0) * (similarities - (1 - margin))
        return (fixed + margin).clamp_min(0) * (similarities - margin)

    ours = x.clone().requires_grad_()
    loss(ours, labels).backward()
    monkeypatch.setattr("reid.losses.circle.circle_logit", frozen)
    theirs = x.clone().requires_grad_()
    torch.autograd.gradcheck(lambda x: loss(x, labels), (theirs,))
    loss(theirs, labels).backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_statistics_are_the_mean_cosines():
    x, labels = batch(1)
    loss = CircleLoss()
    loss(x, labels)
    for key, kind in (("circle_positive", 0), ("circle_negative", 1)):
        values = [s for a in range(9) for s in similarities_of(x, labels, a)[kind].values()]
        assert loss.statistics[key].item() == pytest.approx(sum(values) / len(values))


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_collapsed_features_have_finite_gradients(value):
    x = torch.full((4, 3), value, requires_grad=True)
    loss = CircleLoss(gamma=256.0)(x, torch.tensor([0, 0, 1, 1]))
    loss.backward()
    assert loss.isfinite()
    assert x.grad.isfinite().all()


def test_perfect_features_have_a_small_loss():
    x = torch.eye(3).repeat_interleave(2, dim=0)
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    good, bad = CircleLoss()(x, labels), CircleLoss()(x, labels.roll(1))
    assert good < 0.01
    assert bad > 50


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"margin": -0.1}, r"expected margin in 0\.\.1, got -0.1"),
        ({"margin": math.nan}, r"expected margin in 0\.\.1"),
        ({"gamma": 0.0}, "expected a finite gamma > 0, got 0.0"),
        ({"gamma": math.inf}, "expected a finite gamma > 0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        CircleLoss(**arguments)


def test_builds_from_a_config():
    loss = MODELS.build({"type": "reid.CircleLoss", "gamma": 64})
    assert (loss.input, loss.name, loss.gamma) == ("feature", "circle_loss", 64)
    assert "margin=0.25, gamma=64" in repr(loss)


def test_class_level_is_the_pairwise_loss_of_an_image_and_the_class_weights():
    loss = CircleSoftmaxLoss(4, 5, scale=16.0, margin=0.25).double()
    x, labels = batch(2, n=6, identities=4)
    total = 0.0
    for row, label in zip(x, labels.tolist(), strict=True):
        s = torch.nn.functional.cosine_similarity(row[None], loss.class_weights).tolist()
        up = math.exp(-16 * max(1.25 - s[label], 0) * (s[label] - 0.75))
        down = sum(
            math.exp(16 * max(v + 0.25, 0) * (v - 0.25)) for k, v in enumerate(s) if k != label
        )
        total += math.log(1 + up * down)
    assert loss(x, labels).item() == pytest.approx(total / 6)
