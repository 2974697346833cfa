"""ArcFace, CosFace and class-level circle loss: formulas with angles, gradients at the ends."""

import math

import pytest
import torch

from reid.losses import ArcFaceLoss, CircleSoftmaxLoss, CosFaceLoss
from reid.registry import MODELS

P, D = 5, 4
LOSSES = {cls.__name__: cls for cls in (ArcFaceLoss, CosFaceLoss, CircleSoftmaxLoss)}


@pytest.fixture(params=sorted(LOSSES))
def kind(request):
    return LOSSES[request.param]


def batch(seed=0, n=7, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, D, dtype=dtype, generator=generator) * 3
    return x, torch.randint(0, P, (n,), generator=generator)


def naive_logits(kind, x, weights, label, margin):
    """Cosines of one row with the margin, by angles and not by the addition theorem."""
    cosines = torch.nn.functional.cosine_similarity(x[None], weights).tolist()
    if kind is ArcFaceLoss:
        angle = math.acos(cosines[label]) + margin
        beyond = cosines[label] - margin * math.sin(margin)
        cosines[label] = math.cos(angle) if angle < math.pi else beyond
    elif kind is CosFaceLoss:
        cosines[label] -= margin
    else:
        own = max(1 + margin - cosines[label], 0) * (cosines[label] - 1 + margin)
        cosines = [max(c + margin, 0) * (c - margin) for c in cosines]
        cosines[label] = own
    return cosines


def naive_loss(kind, x, labels, weights, margin, scale, eps):
    total = 0.0
    for row, label in zip(x, labels.tolist(), strict=True):
        logits = [scale * c for c in naive_logits(kind, row, weights, label, margin)]
        top = max(logits)
        log_sum = top + math.log(sum(math.exp(v - top) for v in logits))
        for k, value in enumerate(logits):
            total -= ((1 - eps) * (k == label) + eps / P) * (value - log_sum)
    return total / len(x)


@pytest.mark.parametrize("margin", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("scale", [1.0, 64.0])
@pytest.mark.parametrize("eps", [0.0, 0.1])
def test_equals_the_formula(kind, margin, scale, eps):
    loss = kind(P, D, scale=scale, margin=margin, label_smoothing=eps, weight=2.0).double()
    x, labels = batch()
    expected = naive_loss(kind, x, labels, loss.class_weights, margin, scale, eps)
    assert loss(x, labels).item() == pytest.approx(2 * expected)


def test_accuracy_is_that_of_the_cosines_without_a_margin(kind):
    loss = kind(P, D).double()
    x, labels = batch(1)
    loss(x, labels)
    nearest = [
        int(torch.nn.functional.cosine_similarity(row[None], loss.class_weights).argmax())
        for row in x
    ]
    (key,) = loss.statistics
    assert key == loss.name.replace("loss", "accuracy")
    expected = sum(a == b for a, b in zip(nearest, labels.tolist(), strict=True)) / len(x)
    assert loss.statistics[key].item() == pytest.approx(expected)


@pytest.mark.parametrize("cls", [ArcFaceLoss, CosFaceLoss])
def test_gradcheck(cls):
    loss = cls(P, D, scale=8.0).double()
    x, labels = batch()

    def of(x, weights):
        loss.class_weights.data = weights.data
        return torch.func.functional_call(loss, {"class_weights": weights}, (x, labels))

    weights = loss.class_weights.detach().clone().requires_grad_()
    torch.autograd.gradcheck(of, (x.requires_grad_(), weights))


def test_gradcheck_of_circle_with_its_weights_held_constant(monkeypatch):
    loss = CircleSoftmaxLoss(P, D, scale=8.0).double()
    x, labels = batch()
    fixed = [None, None]

    def frozen(similarities, margin, *, positive):
        if fixed[positive] is None:
            fixed[positive] = (
                1 + margin - similarities.detach() if positive else similarities.detach() + margin
            ).clamp_min(0)
        return fixed[positive] * (similarities - (1 - margin if positive else margin))

    ours = x.clone().requires_grad_()
    loss(ours, labels).backward()
    monkeypatch.setattr("reid.losses.circle.circle_logit", frozen)
    theirs = x.clone().requires_grad_()
    loss(theirs, labels).backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    torch.autograd.gradcheck(lambda x: loss(x, labels), (theirs,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_gradients_are_finite_at_both_ends_of_the_cosine(kind, dtype, sign):
    loss = kind(P, D).to(dtype)
    generator = torch.Generator().manual_seed(0)
    loss.class_weights.data = torch.randn(P, D, generator=generator).to(dtype)
    exact = sign * loss.class_weights.detach() * torch.logspace(-3, 3, P, dtype=dtype)[:, None]
    for noise in (0.0, 1e-7, 1e-4):
        x = exact * (1 + noise * torch.randn(P, D, generator=generator).to(dtype))
        x.requires_grad_()
        loss.zero_grad()
        value = loss(x, torch.arange(P))
        value.backward()
        assert value.isfinite()
        # A cosine's slope is at most 1 / |x|: times scale and margin no gradient is larger.
        bound = 64 * 2.5 / x.detach().norm(dim=1, keepdim=True)
        assert (x.grad.abs() <= bound).all()
        assert loss.class_weights.grad.isfinite().all()


def test_arcface_falls_steadily_with_the_angle():
    loss = ArcFaceLoss(P, D, margin=0.5)
    angles = torch.linspace(0, math.pi, 1001, dtype=torch.float64)
    logits = loss.own_logit(angles.cos()[:, None], torch.tensor(0.5, dtype=torch.float64))
    assert (logits[1:] < logits[:-1] + 1e-9).all()


def test_a_zero_feature_has_a_bounded_gradient(kind):
    loss = kind(P, D)
    x = torch.zeros(2, D, requires_grad=True)
    loss(x, torch.tensor([0, 1])).backward()
    assert x.grad.isfinite().all()
    assert loss.class_weights.grad.isfinite().all()


def test_lengths_do_not_matter(kind):
    loss = kind(P, D).double()
    x, labels = batch()
    value = loss(x, labels)
    loss.class_weights.data *= 7
    torch.testing.assert_close(loss(x * 100, labels), value)


def test_empty_batch_has_zero_gradients_for_the_class_weights_too(kind):
    loss = kind(P, D)
    x = torch.empty(0, D, requires_grad=True)
    value = loss(x, torch.empty(0, dtype=torch.int64))
    assert value.item() == 0
    value.backward()
    assert (loss.class_weights.grad == 0).all()  # no other rank waits for it
    assert x.grad.shape == (0, D)


def test_the_margin_grows_over_the_warmup_and_the_count_is_saved(kind):
    loss = kind(P, D, margin_warmup=4).double()
    x, labels = batch()
    plain = [kind(P, D, margin=kind.default_margin * share).double() for share in (0, 0.25, 0.5)]
    for steps, other in enumerate(plain):
        other.class_weights.data = loss.class_weights.data
        loss.eval()
        torch.testing.assert_close(loss(x, labels), other(x, labels))  # does not count
        loss.train()
        torch.testing.assert_close(loss(x, labels), other(x, labels))
        assert loss.steps == steps + 1
    restored = kind(P, D, margin_warmup=4).double()
    restored.load_state_dict(loss.state_dict())
    full = kind(P, D).double()
    full.class_weights.data = loss.class_weights.data
    for _ in range(3):
        value = restored(x, labels)
    torch.testing.assert_close(value, full(x, labels))
    assert set(full.state_dict()) == {"class_weights"}


def test_trains_a_toy_problem(kind):
    torch.manual_seed(0)
    x = torch.eye(P).repeat(4, 1) @ torch.randn(P, 8) + 0.1 * torch.randn(4 * P, 8)
    labels = torch.arange(P).repeat(4)
    loss = kind(P, 8, scale=16.0)
    optimiser = torch.optim.Adam(loss.parameters(), lr=0.01)
    for _ in range(100):
        optimiser.zero_grad()
        loss(x, labels).backward()
        optimiser.step()
    assert next(iter(loss.statistics.values())) == 1


def test_bf16_autocast_computes_in_float32(kind):
    loss = kind(P, D)
    x, labels = batch(dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(x, labels)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(x.float(), labels))


@pytest.mark.parametrize("label", [P, -1])
def test_label_out_of_range(kind, label):
    with pytest.raises(ValueError, match=rf"{kind.__name__}: expected labels in 0\.\.4, got"):
        kind(P, D)(torch.ones(2, D), torch.tensor([0, label]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": 0.0}, "expected a finite scale > 0, got 0.0"),
        ({"scale": math.inf}, "expected a finite scale"),
        ({"margin": -0.1}, r"expected margin in 0\.\.[12].*, got -0.1"),
        ({"margin": 2.5}, r"expected margin in 0\.\.[12].*, got 2.5"),
        ({"margin": math.nan}, "expected margin"),
        ({"label_smoothing": 1.0}, r"expected label_smoothing in \[0, 1\), got 1.0"),
        ({"margin_warmup": -1}, "expected margin_warmup >= 0 steps, got -1"),
        ({"input": "logits"}, "expected input to be one of feature, embedding, got 'logits'"),
    ],
)
def test_bad_arguments(kind, arguments, message):
    with pytest.raises(ValueError, match=f"{kind.__name__}: {message}"):
        kind(P, D, **arguments)


def test_builds_from_a_config_and_takes_its_sizes_from_the_model(kind):
    loss = MODELS.build({"type": f"reid.{kind.__name__}"})
    assert (loss.input, loss.scale, loss.margin) == ("embedding", 64.0, kind.default_margin)
    assert not list(loss.parameters())
    loss.configure(num_classes=P, feature_dim=D)
    assert [tuple(p.shape) for p in loss.parameters()] == [(P, D)]
    assert f"scale=64.0, margin={kind.default_margin}" in repr(loss)
