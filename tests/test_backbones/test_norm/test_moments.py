"""The numeric core: against ordinary autograd, finite differences and torch's own norms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from backbones.norm import moments as core
from backbones.norm.moments import (
    Moments,
    TorchKernels,
    _normalize_by_autograd,
    normalize,
    select_kernels,
)


def instance(moments: Moments, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    scale = weight * torch.rsqrt(moments.var + 1e-5)
    return scale, bias.expand_as(scale)


def mixed(moments: Moments, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Every way a table can enter: over samples, over channels, nonlinear in mean and var."""
    mean = moments.mean
    batch_mean, layer_var = mean.mean(0), moments.grouped(1).unbiased_var
    scale = weight * torch.rsqrt(layer_var + mean.square() + 1e-2)
    return scale, bias + scale * (mean - batch_mean).tanh()


def constant(moments: Moments, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Ignores the moments, and the scale needs no gradient."""
    return torch.full_like(moments.mean, 2.0), bias


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


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
@pytest.mark.parametrize("size", [(5, 4), (1, 1)])
def test_moments_of_groups_are_those_of_their_values(groups, size) -> None:
    x = torch.randn(3, 6, *size, dtype=torch.float64)
    planes = Moments(x.mean((2, 3)), x.var((2, 3), correction=0), size[0] * size[1])
    merged = planes.grouped(groups)
    values = x.reshape(3, groups, -1)
    assert merged.positions == values.shape[2]
    torch.testing.assert_close(merged.mean, values.mean(2))
    torch.testing.assert_close(merged.var, values.var(2, correction=0))
    if merged.positions > 1:
        torch.testing.assert_close(merged.unbiased_var, values.var(2))
    else:
        assert not merged.unbiased_var.any()  # torch would say NaN


@pytest.mark.parametrize("algebra", ALGEBRAS)
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("extras", ["", "relu", "residual", "relu_residual"])
def test_equals_plain_autograd(algebra, channels_last, dtype, extras) -> None:
    x = torch.randn(4, 6, 5, 3).to(dtype)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    gy, other = torch.randn_like(x), torch.randn_like(x)
    results = []
    for function in (normalize, _normalize_by_autograd):
        leaf = x.clone(memory_format=torch.preserve_format).requires_grad_()
        added = other.clone(memory_format=torch.preserve_format).requires_grad_()
        torch.manual_seed(0)
        weight, bias = parameters(6, torch.float32)
        residual = added if "residual" in extras else None
        y = function(leaf, algebra, weight, bias, residual=residual, relu="relu" in extras)
        y.backward(gy)
        results.append((y, leaf.grad, added.grad, weight.grad, bias.grad))
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


def test_a_residual_of_another_shape_is_refused() -> None:
    """The kernels walk both tensors side by side and would read past the end."""
    x = torch.randn(2, 3, 4, 4)
    for shape in ((1, 3, 1, 1), (2, 3, 2, 2), (2, 3, 8, 8)):
        with pytest.raises(ValueError, match=r"\(2, 3, 4, 4\), got"):
            normalize(x, instance, *parameters(3, torch.float32), residual=torch.randn(shape))


def test_integers_are_refused() -> None:
    with pytest.raises(TypeError, match=r"call x\.float\(\)"):
        normalize(torch.zeros(2, 3, 4, 4, dtype=torch.int64), instance)


def test_a_gradient_of_another_layout() -> None:
    """A sum's gradient is expanded from one number; a permuted result's lies otherwise."""
    x, (weight, bias) = torch.randn(2, 3, 5, 4), parameters(3, torch.float32)
    for head in (torch.sum, lambda y: (y.permute(0, 2, 3, 1).reshape(-1, 3) @ torch.ones(3)).sum()):
        grads = []
        for function in (normalize, _normalize_by_autograd):
            leaf = x.clone().requires_grad_()
            y = function(leaf, mixed, weight, bias)
            grads.append(torch.autograd.grad(head(y), (leaf, weight, bias)))
        for ours, plain in zip(*grads, strict=True):
            torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-5)


def test_no_second_derivative() -> None:
    """It would be silently wrong, so it is refused."""
    x = torch.randn(2, 3, 4, 4, requires_grad=True)
    y = normalize(x, instance, *parameters(3, torch.float32)).square().sum()
    (gradient,) = torch.autograd.grad(y, x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_kernels_by_type_and_environment(monkeypatch) -> None:
    x = torch.randn(1, 1, 1)
    for dtype in (torch.float16, torch.float64):
        assert isinstance(select_kernels(x.to(dtype)), TorchKernels)
    monkeypatch.setenv("BACKBONES_KERNELS", "torch")
    assert isinstance(select_kernels(x), TorchKernels) and not core.has_kernels(x)
    monkeypatch.setenv("BACKBONES_KERNELS", "fast")
    with pytest.raises(ValueError, match="'auto' or 'torch', got 'fast'"):
        select_kernels(x)


def test_torch_operations_give_the_same_as_the_kernels(monkeypatch) -> None:
    """Where there is a compiler; otherwise both are torch operations."""
    x, other, gy = torch.randn(3, 4, 6, 33, 31)
    results = []
    for choice in ("auto", "torch"):
        monkeypatch.setenv("BACKBONES_KERNELS", choice)
        leaf = x.clone().requires_grad_()
        torch.manual_seed(0)
        weight, bias = parameters(6, torch.float32)
        y = normalize(leaf, mixed, weight, bias, residual=other, relu=True)
        y.backward(gy)
        results.append((y, leaf.grad, weight.grad, bias.grad))
    for first, second in zip(*results, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-4)
