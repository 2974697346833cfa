"""Cross-entropy with label smoothing against the formula written out."""

import math

import pytest
import torch

from reid.losses import CrossEntropyLoss
from reid.registry import MODELS


def naive_cross_entropy(logits, labels, eps):
    total = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        log_sum = math.log(sum(math.exp(v) for v in row))
        for k, value in enumerate(row):
            target = (1 - eps) * (k == label) + eps / len(row)
            total -= target * (value - log_sum)
    return total / len(labels)


def batch(n=5, p=7, dtype=torch.float64):
    generator = torch.Generator().manual_seed(n)
    x = torch.randn(n, p, dtype=dtype, generator=generator)
    return x, torch.randint(0, p, (n,), generator=generator)


@pytest.mark.parametrize("eps", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("n", [1, 5])
@pytest.mark.parametrize("p", [1, 7])
def test_equals_the_formula(eps, n, p):
    logits, labels = batch(n, p)
    loss = CrossEntropyLoss(label_smoothing=eps, weight=2.0)
    expected = 2 * naive_cross_entropy(logits, labels, eps)
    assert loss(logits, labels).item() == pytest.approx(expected, abs=1e-12)


def test_gradcheck():
    logits, labels = batch()
    torch.autograd.gradcheck(lambda x: CrossEntropyLoss()(x, labels), (logits.requires_grad_(),))


def test_order_of_the_batch_does_not_matter():
    logits, labels = batch()
    loss = CrossEntropyLoss()
    torch.testing.assert_close(loss(logits.flip(0), labels.flip(0)), loss(logits, labels))
    torch.testing.assert_close(loss(logits, labels.int()), loss(logits, labels))


def test_empty_batch_is_a_zero_with_a_graph():
    x = torch.empty(0, 7, requires_grad=True)
    loss = CrossEntropyLoss()(x, torch.empty(0, dtype=torch.int64))
    assert loss.item() == 0
    loss.backward()
    assert x.grad.shape == (0, 7)


def test_bf16_autocast_returns_float32():
    logits, labels = batch(dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = CrossEntropyLoss()(logits, labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, CrossEntropyLoss()(logits.float(), labels))


def test_nan_surfaces():
    logits, labels = batch()
    logits[0, 0] = torch.nan
    assert CrossEntropyLoss()(logits, labels).isnan()


@pytest.mark.parametrize("label", [7, -1, -100, 1501])
def test_label_out_of_range(label):
    logits, labels = batch()
    labels[2] = label
    message = rf"expected labels in 0\.\.6, got {label}; train on the dataset's contiguous labels"
    with pytest.raises(ValueError, match=message):
        CrossEntropyLoss()(logits, labels)


def test_builds_from_a_config():
    loss = MODELS.build({"type": "reid.CrossEntropyLoss"})
    assert (loss.input, loss.name, loss.weight) == ("logits", "id_loss", 1.0)
    assert "label_smoothing=0.1, name='id_loss', input='logits', weight=1.0" in repr(loss)


@pytest.mark.parametrize("eps", [-0.1, 1.0, math.nan])
def test_bad_smoothing(eps):
    with pytest.raises(ValueError, match=r"expected label_smoothing in \[0, 1\), got"):
        CrossEntropyLoss(label_smoothing=eps)
