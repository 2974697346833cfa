"""The numeric core: against ordinary autograd, finite differences and torch's own norms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from backbones.norm.moments import _normalize_by_autograd, normalize


def instance(mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    scale = weight * torch.rsqrt(var + 1e-5)
    return scale, bias.expand_as(scale)


def mixed(mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Every way a table can enter: over samples, over channels, nonlinear in mean and var."""
    batch_mean, layer_var = mean.mean(0), var.mean(1, keepdim=True)
    scale = weight * torch.rsqrt(layer_var + mean.square() + 1e-2)
    return scale, bias + scale * (mean - batch_mean).tanh()


def constant(mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Ignores the moments, and the scale needs no gradient."""
    return torch.full_like(mean, 2.0), bias


ALGEBRAS = [instance, mixed, constant]


def parameters(channels: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return (
        (1 + 0.3 * torch.randn(channels, dtype=dtype)).requires_grad_(),
        torch.randn(channels, dtype=dtype).requires_grad_(),
    )


@pytest.mark.parametrize("algebra", ALGEBRAS)
@pytest.mark.parametrize("shape", [(2, 3, 4), (3, 5, 4, 3), (2, 3, 2, 2, 3), (1, 3, 1, 1)])
def test_gradcheck(algebra, shape) -> None:
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    weight, bias = parameters(shape[1], torch.float64)
    assert torch.autograd.gradcheck(lambda *a: normalize(a[0], algebra, *a[1:]), (x, weight, bias))


@pytest.mark.parametrize("algebra", ALGEBRAS)
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_equals_plain_autograd(algebra, channels_last, dtype) -> None:
    x = torch.randn(4, 6, 5, 3).to(dtype)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    gy = torch.randn_like(x)
    results = []
    for function in (normalize, _normalize_by_autograd):
        leaf = x.clone(memory_format=torch.preserve_format).requires_grad_()
        torch.manual_seed(0)
        weight, bias = parameters(6, torch.float32)
        y = function(leaf, algebra, weight, bias)
        y.backward(gy)
        results.append((y, leaf.grad, weight.grad, bias.grad))
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    for ours, plain in zip(*results, strict=True):
        if plain is None:
            assert ours is None or not ours.any()
        else:
            torch.testing.assert_close(ours, plain, rtol=tolerance, atol=tolerance)
    y, gx = results[0][:2]
    assert y.dtype == gx.dtype == dtype
    assert y.stride() == x.stride() == gx.stride()


def test_only_the_input_is_kept() -> None:
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        normalize(x, instance, *parameters(3, torch.float32))
    large = [t for t in kept if t.numel() >= x.numel()]
    assert len(large) == 1 and large[0].data_ptr() == x.data_ptr()


def test_large_mean_and_small_deviation_keep_their_digits() -> None:
    x = 100 + 0.01 * torch.randn(2, 3, 16, 16)
    weight, bias = torch.ones(3), torch.zeros(3)
    y = normalize(x, instance, weight, bias)
    exact = normalize(x.double(), instance, weight.double(), bias.double())
    assert y.isfinite().all()
    torch.testing.assert_close(y.double(), exact, rtol=0, atol=2e-3)


def test_constant_planes_give_the_offset() -> None:
    y = normalize(torch.full((2, 3, 4, 4), 7.0), instance, torch.ones(3), torch.arange(3.0))
    torch.testing.assert_close(y, torch.arange(3.0).view(1, 3, 1, 1).expand_as(y))


def test_empty_batch_gives_an_empty_result_and_zero_gradients() -> None:
    x = torch.empty(0, 3, 4, 4, requires_grad=True)
    weight, bias = parameters(3, torch.float32)
    y = normalize(x, instance, weight, bias)
    y.sum().backward()
    assert y.shape == x.shape == x.grad.shape
    assert not weight.grad.any() and not bias.grad.any()


def test_nan_stays_in_its_plane() -> None:
    x = torch.randn(2, 3, 4, 4)
    x[1, 2, 0, 0] = torch.nan
    bad = normalize(x, instance, torch.ones(3), torch.zeros(3)).isnan().any((2, 3))
    assert bad.tolist() == [[False] * 3, [False, False, True]]


def test_no_gradient_for_what_needs_none() -> None:
    x = torch.randn(2, 3, 4, 4)
    weight, bias = parameters(3, torch.float32)
    normalize(x, instance, weight, bias).sum().backward()
    assert weight.grad is not None and x.grad is None


def test_backward_twice_through_a_retained_graph() -> None:
    x = torch.randn(2, 3, 4, 4, requires_grad=True)
    y = normalize(x, mixed, *parameters(3, torch.float32)).square().sum()
    first = torch.autograd.grad(y, x, retain_graph=True)[0]
    torch.testing.assert_close(torch.autograd.grad(y, x)[0], first)


def test_a_vector_per_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="add a spatial dimension"):
        normalize(torch.randn(2, 3), instance, torch.ones(3), torch.zeros(3))


def test_compiles_to_one_graph() -> None:
    norm = nn.InstanceNorm2d(3, affine=True)

    def function(x: Tensor) -> Tensor:
        return normalize(x, instance, norm.weight, norm.bias)

    x = torch.randn(2, 3, 4, 4)
    compiled = torch.compile(function, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), norm(x))
