"""Distances of the losses: both forms against a naive loop, and the numerics near zero."""

import math

import pytest
import torch

from reid.losses.distances import DISTANCES, get_distance

NAMES = sorted(DISTANCES)


def naive(name, a, b):
    a, b = a.tolist(), b.tolist()
    squared = sum((p - q) ** 2 for p, q in zip(a, b, strict=True))
    if name == "squared_euclidean":
        return squared
    if name == "euclidean":
        return math.sqrt(squared)
    if name == "normalized_euclidean":
        return math.hypot(
            *(p / math.hypot(*a) - q / math.hypot(*b) for p, q in zip(a, b, strict=True))
        )
    lengths = math.hypot(*a) * math.hypot(*b)
    return 1 - sum(p * q for p, q in zip(a, b, strict=True)) / lengths if lengths else 1.0


def features(n=7, d=5, dtype=torch.float64, seed=0):
    return torch.randn(n, d, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", NAMES)
def test_both_forms_equal_the_naive_loop(name):
    x = features()
    expected = torch.tensor([[naive(name, a, b) for b in x] for a in x], dtype=x.dtype)
    distance = get_distance(name)
    torch.testing.assert_close(distance.pairwise(x), expected)
    for shift in range(len(x)):
        torch.testing.assert_close(
            distance.paired(x, x.roll(shift, 0)),
            torch.stack([expected[i, (i - shift) % len(x)] for i in range(len(x))]),
        )


@pytest.mark.parametrize("name", NAMES)
def test_pairwise_is_symmetric_nonnegative_with_exact_zero_diagonal(name):
    d = get_distance(name).pairwise(features(16, 64, torch.float32) * 1e3 + 7)
    torch.testing.assert_close(d, d.T)
    assert (d >= 0).all()
    assert (d.diagonal() == 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_gradients(name):
    distance = get_distance(name)
    x, y = features(4, 3).requires_grad_(), features(4, 3, seed=1).requires_grad_()
    torch.autograd.gradcheck(distance.pairwise, (x,))
    torch.autograd.gradcheck(distance.paired, (x, y))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_duplicates_have_finite_gradients(name, value):
    distance = get_distance(name)
    for compute in (distance.pairwise, lambda x: distance.paired(x, x.flip(0))):
        x = torch.full((3, 4), value, requires_grad=True)
        compute(x).sum().backward()
        assert x.grad.isfinite().all()
        assert x.grad.abs().max() < 10


def test_zero_row_has_cosine_distance_one_in_both_forms():
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0]], requires_grad=True)
    cosine = get_distance("cosine")
    pairwise, paired = cosine.pairwise(x)[0, 1], cosine.paired(x[:1], x[1:])[0]
    assert pairwise == paired == 1
    (pairwise + paired).backward()
    assert x.grad.abs().max() < 10


def test_far_from_the_origin_the_matrix_product_does_not_cancel():
    x = features(6, 8, torch.float32)
    near = get_distance("euclidean").pairwise(x)
    far = get_distance("euclidean").pairwise(x + 1000)
    torch.testing.assert_close(far, near, rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(name, dtype):
    distance = get_distance(name)
    x = features(6, 32, dtype)
    y = x.roll(1, 0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pairwise, paired = distance.pairwise(x), distance.paired(x, y)
    assert pairwise.dtype == paired.dtype == torch.float32
    torch.testing.assert_close(pairwise, distance.pairwise(x.float()))
    torch.testing.assert_close(paired, distance.paired(x.float(), y.float()))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n", [0, 1])
def test_tiny_batches(name, n):
    distance = get_distance(name)
    assert distance.pairwise(torch.ones(n, 3)).shape == (n, n)
    assert distance.paired(torch.ones(n, 3), torch.ones(n, 3)).shape == (n,)


@pytest.mark.parametrize("name", NAMES)
def test_nan_is_not_hidden(name):
    distance = get_distance(name)
    x = features(3, 4, torch.float32)
    x[1, 2] = torch.nan
    assert distance.pairwise(x)[0, 1].isnan()
    assert distance.paired(x, x.roll(1, 0))[1].isnan()


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(
        ValueError, match=r"squared_euclidean, cosine, normalized_euclidean, got 'hamming'"
    ):
        get_distance("hamming")
