"""What holds for every norm: each against its definition, written out in plain torch."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint

from backbones.norm import Norm, build_norm, norm_relu
from backbones.norm.build import NORMS
from backbones.norm.moments import has_kernels

Statistics = tuple[Tensor, Tensor]


# ------------------------------------------------------------------ the definitions, in float64


def per_instance(x: Tensor, *, unbiased: bool = False) -> Statistics:
    dims = tuple(range(2, x.ndim))
    return x.mean(dims, keepdim=True), x.var(dims, keepdim=True, unbiased=unbiased)


def per_group(x: Tensor, groups: int, *, unbiased: bool = False) -> Statistics:
    """Of groups of channels, one value a channel."""
    flat = x.reshape(len(x), groups, -1)
    size = x.shape[1] // groups
    shape = (len(x), x.shape[1], *(1,) * (x.ndim - 2))
    tables = flat.mean(2), flat.var(2, unbiased=unbiased)
    return tuple(t.repeat_interleave(size, 1).reshape(shape) for t in tables)


def per_channel(layer: nn.Module, x: Tensor) -> Statistics:
    """Of the batch in training, the running ones in evaluation."""
    if layer.training:
        dims = (0, *range(2, x.ndim))
        return x.mean(dims, keepdim=True), x.var(dims, keepdim=True, unbiased=False)
    return channelwise(layer.running_mean, x), channelwise(layer.running_var, x)


def channelwise(vector: Tensor, x: Tensor) -> Tensor:
    return vector.reshape(1, -1, *(1,) * (x.ndim - 2))


def standardise(x: Tensor, statistics: Statistics, eps: float) -> Tensor:
    return (x - statistics[0]) / (statistics[1] + eps).sqrt()


def scaled(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    return x if weight is None else x * channelwise(weight, x) + channelwise(bias, x)


def naive_bn(layer: Any, x: Tensor) -> Tensor:
    return scaled(standardise(x, per_channel(layer, x), layer.eps), layer.weight, layer.bias)


def naive_in(layer: Any, x: Tensor) -> Tensor:
    return scaled(standardise(x, per_instance(x), layer.eps), layer.weight, layer.bias)


def naive_gn(layer: Any, x: Tensor) -> Tensor:
    groups = per_group(x, layer.num_groups)
    return scaled(standardise(x, groups, layer.eps), layer.weight, layer.bias)


def naive_ibn(layer: Any, x: Tensor) -> Tensor:
    n = layer.IN.num_features
    if layer.order == "in_bn":
        return torch.cat([naive_in(layer.IN, x[:, :n]), naive_bn(layer.BN, x[:, n:])], 1)
    m = layer.BN.num_features
    return torch.cat([naive_bn(layer.BN, x[:, :m]), naive_in(layer.IN, x[:, m:])], 1)


def naive_bin(layer: Any, x: Tensor) -> Tensor:
    gate = channelwise(layer.gate, x)
    batch = standardise(x, per_channel(layer, x), layer.eps)
    instance = standardise(x, per_instance(x), layer.eps)
    return scaled(gate * batch + (1 - gate) * instance, layer.weight, layer.bias)


def naive_sn(layer: Any, x: Tensor) -> Tensor:
    mean_in, var_in = per_instance(x, unbiased=True)
    power = var_in + mean_in.square()

    def merged(dim: int) -> Statistics:
        mean = mean_in.mean(dim, keepdim=True)
        return mean, power.mean(dim, keepdim=True) - mean.square()

    chosen = [(mean_in, var_in), merged(1)]
    if layer.using_bn:
        chosen.append(merged(0) if layer.training else per_channel(layer, x))
    w, v = layer.mean_weight.softmax(0), layer.var_weight.softmax(0)
    mean = sum(w[k] * chosen[k][0] for k in range(len(chosen)))
    var = sum(v[k] * chosen[k][1] for k in range(len(chosen)))
    return scaled(standardise(x, (mean, var), layer.eps), layer.weight, layer.bias)


def naive_ilm(layer: Any, x: Tensor) -> Tensor:
    keys = x.reshape(len(x), x.shape[1] // 16, -1)
    encoder = layer.fc_embed[0].weight
    code_of_var = (keys.var(2) @ encoder.T).relu()
    code_of_mean = (keys.mean(2) @ encoder.T).relu()
    omega = (code_of_var @ layer.fc_weight[1].weight.T).sigmoid()
    beta = (code_of_mean @ layer.fc_bias[1].weight.T).tanh()
    shape = (len(x), x.shape[1], *(1,) * (x.ndim - 2))
    omega = omega.repeat_interleave(16, 1).reshape(shape) + channelwise(layer.weight_bias, x)
    beta = beta.repeat_interleave(16, 1).reshape(shape) + channelwise(layer.bias_bias, x)
    groups = {"gn": 32, "in": x.shape[1], "ln": 1}[layer.base]
    return standardise(x, per_group(x, groups, unbiased=True), layer.eps) * omega + beta


# name -> (how to build it, channels, its definition)
CASES: dict[str, tuple[dict[str, Any], int, Callable[[Any, Tensor], Tensor]]] = {
    "bn": (dict(type="BN"), 7, naive_bn),
    "bn_bare": (dict(type="BN", affine=False), 7, naive_bn),
    "in": (dict(type="IN"), 7, naive_in),
    "in_bare": (dict(type="IN", affine=False), 7, naive_in),
    "gn": (dict(type="GN", num_groups=3), 9, naive_gn),
    "gn_bare": (dict(type="GN", num_groups=3, affine=False), 9, naive_gn),
    "ln": (dict(type="LN"), 7, naive_gn),
    "ibn": (dict(type="IBN"), 7, naive_ibn),
    "ibn_reversed": (dict(type="IBN", ratio=0.3, order="bn_in", eps=1e-3), 7, naive_ibn),
    "bin": (dict(type="BIN"), 7, naive_bin),
    "bin_bare": (dict(type="BIN", affine=False), 7, naive_bin),
    "sn": (dict(type="SN"), 7, naive_sn),
    "sn_without_bn": (dict(type="SN", using_bn=False), 7, naive_sn),
    "sn_average": (dict(type="SN", using_moving_average=False), 7, naive_sn),
    "ilm_gn": (dict(type="ILM"), 64, naive_ilm),
    "ilm_in": (dict(type="ILM", base="in"), 32, naive_ilm),
    "ilm_ln": (dict(type="ILM", base="ln"), 48, naive_ilm),
}
EVERY_NORM = pytest.mark.parametrize("name", CASES)
TRAIN_AND_EVAL = pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
# one of each kind, for what does not depend on the arguments
ONE_OF_EACH = pytest.mark.parametrize(
    "name", ["bn", "in", "gn", "ln", "ibn", "bin", "sn", "ilm_gn", "ilm_ln"]
)
# those whose training step looks at other samples
USES_BATCH = ("bn", "bn_bare", "ibn", "ibn_reversed", "bin", "bin_bare", "sn", "sn_average")


def make(name: str, training: bool = True, dims: int = 2) -> Norm:
    """A norm in the middle of training: every parameter and statistic has its own value."""
    spec, channels, _ = CASES[name]
    if spec["type"] == "SN":
        spec = dict(spec, spatial_dims=dims)
    layer = build_norm(spec, channels)
    assert isinstance(layer, Norm)
    generator = torch.Generator().manual_seed(5)
    for key, p in layer.named_parameters():
        r = torch.randn(p.shape, generator=generator)
        p.data = (0.5 + 0.2 * r).clamp(0.05, 0.95) if key == "gate" else 0.3 + 0.6 * r
    for key, b in layer.named_buffers():
        r = torch.randn(b.shape, generator=generator)
        if key.endswith("running_mean"):
            b.copy_(r)
        elif key.endswith("running_var"):
            b.copy_(0.5 + r.abs())
    return layer.train(training)


def skip_torch_s_own(name: str, x: Tensor) -> None:
    """Without kernels (no compiler) the norms that torch has are its own, for better or worse."""
    if name in ("in", "gn", "ln") and not has_kernels(x):
        pytest.skip("torch computes this norm here")


def spatially(name: str, size: tuple[int, ...], samples: int = 3) -> tuple[int, ...]:
    return (samples, CASES[name][1], *size)


def step(
    function: Callable[..., Tensor], layer: nn.Module, *inputs: Tensor, gy: Tensor
) -> dict[str, Tensor | None]:
    """Output, gradients and buffers of one forward and backward pass."""
    leaves = [t.detach().clone(memory_format=torch.preserve_format) for t in inputs]
    leaves = [t.requires_grad_() for t in leaves]
    y = function(*leaves)
    y.backward(gy.to(y.dtype))
    result: dict[str, Tensor | None] = {"y": y.detach()}
    result |= {f"gradient of input {i}": leaf.grad for i, leaf in enumerate(leaves)}
    result |= {f"gradient of {key}": p.grad for key, p in layer.named_parameters()}
    return result | {key: b.clone() for key, b in layer.named_buffers()}


def close(got: Any, expected: Any, rtol: float, atol: float) -> None:
    assert got.keys() == expected.keys()
    for key, value in expected.items():
        ours = got[key]
        assert (ours is None) == (value is None), key
        if value is not None:
            torch.testing.assert_close(
                ours.to(value.dtype), value, rtol=rtol, atol=atol, msg=lambda m, k=key: f"{k}: {m}"
            )


def definition(name: str, layer: nn.Module) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    """The naive version with a float64 copy of the layer's parameters."""
    exact = copy.deepcopy(layer).double()
    return exact, lambda x: CASES[name][2](exact, x)


def without_buffers(result: dict[str, Tensor | None]) -> dict[str, Tensor | None]:
    """The definitions do not move buffers; each norm's own tests look at them."""
    return {k: v for k, v in result.items() if k == "y" or k.startswith("gradient")}


# ------------------------------------------------------------------------------- the numbers


@EVERY_NORM
@TRAIN_AND_EVAL
@pytest.mark.parametrize("size", [(6,), (5, 4), (3, 2, 4)], ids=["1d", "2d", "3d"])
def test_equals_its_definition(name, training, size) -> None:
    if len(size) not in make(name, dims=len(size)).spatial_dims:
        pytest.skip("torch's 2d layers, and ours on top of them, take 2d maps")
    layer = make(name, training, len(size))
    exact, naive = definition(name, layer)
    x, gy = torch.randn(2, *spatially(name, size)) * 1.5 + 0.5
    got = step(layer, layer, x, gy=gy)
    expected = step(naive, exact, x.double(), gy=gy.double())
    close(without_buffers(got), without_buffers(expected), rtol=2e-4, atol=5e-5)


@EVERY_NORM
@TRAIN_AND_EVAL
@pytest.mark.parametrize("extras", ["", "relu", "relu_residual"])
def test_gradients_equal_finite_differences(name, training, extras) -> None:
    """In float64, the whole Jacobian of input, residual and parameters."""
    layer = make(name, training).double()
    keys = [key for key, _ in layer.named_parameters()]
    wide = layer.num_features > 16
    x = torch.randn(2, layer.num_features, *((1, 2) if wide else (2, 3)), dtype=torch.float64)
    other = torch.randn_like(x)

    def function(x: Tensor, other: Tensor, *values: Tensor) -> Tensor:
        residual = other if "residual" in extras else None
        y = torch.func.functional_call(
            layer,
            dict(zip(keys, values, strict=True)),
            (x,),
            dict(residual=residual, relu="relu" in extras),
        )
        return y if residual is not None else y + 0 * other

    assert torch.autograd.gradcheck(
        function,
        (x.requires_grad_(), other.requires_grad_(), *layer.parameters()),
        fast_mode=wide,
    )


@ONE_OF_EACH
@TRAIN_AND_EVAL
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("last", [False, True], ids=["planes", "channels_last"])
def test_half_precision_input(name, training, dtype, last) -> None:
    """Statistics and gradients are those of the float64 definition on the rounded input."""
    layer = make(name, training)
    exact, naive = definition(name, layer)
    form = torch.channels_last if last else torch.contiguous_format
    x, gy = (t.to(dtype, memory_format=form) for t in torch.randn(2, *spatially(name, (8, 6))))
    got = step(layer, layer, x, gy=gy)
    assert got["y"].dtype == got["gradient of input 0"].dtype == dtype
    assert all(p.grad.dtype == torch.float32 for p in layer.parameters())
    expected = step(naive, exact, x.double(), gy=gy.double())
    for key, value in without_buffers(expected).items():
        rounded = key in ("y", "gradient of input 0")
        tolerance = (1e-2 if dtype == torch.bfloat16 else 2e-3) if rounded else 1e-3
        torch.testing.assert_close(
            got[key].double(),
            value,
            rtol=tolerance,
            atol=tolerance,
            msg=lambda m, k=key: f"{k}:{m}",
        )


@ONE_OF_EACH
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_network_of_another_type(name, dtype) -> None:
    layer = make(name).to(dtype)
    exact, naive = definition(name, layer)
    x, gy = torch.randn(2, *spatially(name, (5, 4))).to(dtype)
    got = step(layer, layer, x, gy=gy)
    assert got["y"].dtype == dtype
    assert all(p.grad.dtype == p.dtype == dtype for p in layer.parameters())
    tolerance = 1e-9 if dtype == torch.float64 else 5e-2
    expected = step(naive, exact, x.double(), gy=gy.double())
    close(without_buffers(got), without_buffers(expected), rtol=tolerance, atol=tolerance)


@ONE_OF_EACH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])  # with kernels, and without
@pytest.mark.parametrize("form", ["channels_last", "channels_last_3d", "slice", "expanded"])
def test_memory_formats(name, form, dtype) -> None:
    layer = make(name, dims=3 if form == "channels_last_3d" else 2)
    if form == "channels_last_3d" and 3 not in layer.spatial_dims:
        pytest.skip("torch's 2d layers, and ours on top of them, take 2d maps")
    if form == "channels_last":
        x = torch.randn(spatially(name, (5, 4))).contiguous(memory_format=torch.channels_last)
    elif form == "channels_last_3d":
        x = torch.randn(spatially(name, (3, 2, 4)))
        x = x.contiguous(memory_format=torch.channels_last_3d)
    elif form == "slice":  # neither dense nor in order
        n, c, h, w = spatially(name, (5, 4))
        x = torch.randn(w, 2 * n, h + 1, 2 * c).permute(1, 3, 2, 0)[::2, 1::2, 1:]
    else:
        x = torch.randn(1, *spatially(name, (5, 4))[1:]).expand(spatially(name, (5, 4)))
    x = x.to(dtype)
    other = copy.deepcopy(layer)
    y, expected = layer(x), other(x.contiguous())
    tolerance = 1e-5 if dtype == torch.float32 else 2e-3
    torch.testing.assert_close(y, expected, rtol=tolerance, atol=tolerance)
    if form.startswith("channels_last"):
        last = getattr(torch, form)
        assert y.is_contiguous(memory_format=last)
        leaf = x.clone(memory_format=torch.preserve_format).requires_grad_()
        layer(leaf).square().sum().backward()
        plain = x.contiguous().requires_grad_()
        other(plain).square().sum().backward()
        assert leaf.grad.is_contiguous(memory_format=last)
        torch.testing.assert_close(
            leaf.grad.contiguous(), plain.grad, rtol=10 * tolerance, atol=10 * tolerance
        )


@ONE_OF_EACH
@pytest.mark.parametrize("last", [False, True], ids=["planes", "channels_last"])
def test_large_mean_and_small_deviation(name, last) -> None:
    """E[x^2] - E[x]^2 in float32 would be negative here, and its root NaN."""
    layer = make(name)
    x = 100 + 0.01 * torch.randn(spatially(name, (16, 16)))
    skip_torch_s_own(name, x)
    if last:
        x = x.contiguous(memory_format=torch.channels_last)
    _, naive = definition(name, layer)
    y = layer(x)
    assert y.isfinite().all()
    torch.testing.assert_close(y.double(), naive(x.double()), rtol=1e-2, atol=2e-2)


# ---------------------------------------------------------------------------- fused extras


@EVERY_NORM
@TRAIN_AND_EVAL
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("last", [False, True], ids=["planes", "channels_last"])
def test_relu_and_residual_in_the_norm_equal_those_after_it(
    name, training, residual, relu, last
) -> None:
    layer = make(name, training)
    other = copy.deepcopy(layer)
    form = torch.channels_last if last else torch.contiguous_format
    x, r, gy = (t.contiguous(memory_format=form) for t in torch.randn(3, *spatially(name, (6, 5))))
    inputs = (x, r) if residual else (x,)

    def unfused(x: Tensor, r: Tensor | None = None) -> Tensor:
        y = other(x) if r is None else other(x) + r
        return y.relu() if relu else y

    got = step(lambda *inputs: layer(*inputs, relu=relu), layer, *inputs, gy=gy)
    close(got, step(unfused, other, *inputs, gy=gy), rtol=1e-4, atol=1e-5)


@ONE_OF_EACH
@TRAIN_AND_EVAL
@pytest.mark.parametrize("residual", [False, True])
def test_the_same_under_autocast(name, training, residual) -> None:
    """bfloat16 maps from a convolution; only the last rounding may differ."""
    layer = make(name, training)
    other = copy.deepcopy(layer)
    x, r, gy = torch.randn(3, *spatially(name, (6, 5))).bfloat16()
    inputs = (x, r) if residual else (x,)

    def fused(*inputs: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return norm_relu(layer, *inputs)

    def unfused(x: Tensor, r: Tensor | None = None) -> Tensor:
        y = other(x.float())
        return (y if r is None else y + r.float()).relu().bfloat16()

    got, expected = (
        without_buffers(step(function, norm, *inputs, gy=gy))
        for function, norm in ((fused, layer), (unfused, other))
    )
    assert got["y"].dtype == torch.bfloat16
    assert all(p.grad.dtype == torch.float32 for p in layer.parameters())
    close(got, expected, rtol=2e-2, atol=2e-2)


@ONE_OF_EACH
@TRAIN_AND_EVAL
def test_autocast_leaves_the_statistics_in_float32(name, training) -> None:
    """Float32 maps: autocast would make ILM's linear layers round to bfloat16."""
    layer = make(name, training)
    other = copy.deepcopy(layer)
    x = torch.randn(spatially(name, (6, 5)))
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, other(x), rtol=0, atol=0)


@ONE_OF_EACH
def test_autocast_without_kernels_keeps_the_type(name, monkeypatch) -> None:
    monkeypatch.setenv("BACKBONES_KERNELS", "torch")
    layer = make(name)
    for dtype in (torch.bfloat16, torch.float16):
        x = torch.randn(spatially(name, (6, 5))).to(dtype)
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(x).dtype == dtype


@pytest.mark.parametrize("name", ["ibn", "bin", "sn", "ilm_gn", "in", "gn"])
@TRAIN_AND_EVAL
@pytest.mark.parametrize("extras", ["", "relu", "residual", "relu_residual"])
def test_only_the_input_is_kept_for_the_backward_pass(name, training, extras) -> None:
    """And, after an addition and a ReLU, the result, which the next layer keeps anyway."""
    layer = make(name, training)
    x, other = torch.randn(2, *spatially(name, (16, 16)))
    skip_torch_s_own(name, x)
    x.requires_grad_()
    residual = other if "residual" in extras else None
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        y = layer(x, residual, relu="relu" in extras)
    large = {t.data_ptr() for t in kept if t.numel() >= x.numel()}
    assert large == {x.data_ptr()} | ({y.data_ptr()} if extras == "relu_residual" else set())


def test_a_frozen_norm_keeps_nothing_and_gives_the_input_its_gradient() -> None:
    layer = make("sn", training=False).requires_grad_(False)
    x = torch.randn(spatially("sn", (4, 4)), requires_grad=True)
    layer(x).square().sum().backward()
    assert x.grad is not None and all(p.grad is None for p in layer.parameters())
    with torch.no_grad():
        assert layer(x).grad_fn is None


@ONE_OF_EACH
def test_gradient_of_the_parameters_alone(name) -> None:
    """The first norm of a network may have an input that needs no gradient."""
    layer, other = make(name), make(name)
    x, gy = torch.randn(2, *spatially(name, (4, 3)))
    layer(x, relu=True).backward(gy)
    step(lambda x: other(x, relu=True), other, x, gy=gy)
    for p, q in zip(layer.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad)


def test_a_residual_of_another_shape_is_refused() -> None:
    layer = make("ibn")
    x = torch.randn(2, 7, 4, 4)
    for shape in ((1, 7, 1, 1), (2, 7, 4, 5), (2, 7, 2, 2)):
        with pytest.raises(ValueError, match=r"shape of the norm's input, \(2, 7, 4, 4\)"):
            layer(x, torch.randn(shape))


# ------------------------------------------------------------------------ norm_relu, hooks


@ONE_OF_EACH
def test_norm_relu_with_a_hook_shows_it_the_norm_s_own_output(name) -> None:
    layer, other = make(name), make(name)
    x, r = torch.randn(2, *spatially(name, (4, 4)))
    seen: list[Tensor] = []
    layer.register_forward_hook(lambda module, args, output: seen.append(output))
    for residual in (None, r):
        got, expected = norm_relu(layer, x, residual), norm_relu(other, x, residual)
        torch.testing.assert_close(got, expected)
        assert (seen[-1] < 0).any()


@ONE_OF_EACH
def test_norm_relu_with_a_backward_hook_shows_it_the_norm_s_own_gradient(name) -> None:
    layer, other = make(name), make(name)
    x, gy = torch.randn(2, *spatially(name, (4, 4)))
    seen: list[Tensor] = []
    layer.register_full_backward_hook(lambda module, inputs, outputs: seen.extend(outputs))
    norm_relu(layer, x.requires_grad_()).backward(gy)
    torch.testing.assert_close(seen, [gy.where(other(x) > 0, 0)])


def test_norm_relu_where_the_norm_was_fused_away() -> None:
    """A pre-activation's input is also the shortcut: it must not be rectified in place."""
    x = torch.randn(2, 4, 3, 3)
    before = x.clone()
    torch.testing.assert_close(norm_relu(nn.Identity(), x), before.relu())
    torch.testing.assert_close(norm_relu(nn.Identity(), x, x), (2 * before).relu())
    assert torch.equal(x, before)


def test_norm_relu_of_a_foreign_norm() -> None:
    norm, x, r = nn.BatchNorm2d(4), torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3)
    torch.testing.assert_close(norm_relu(norm, x, r), (norm(x) + r).relu())


# ------------------------------------------------------------------------------ odd input


@EVERY_NORM
@TRAIN_AND_EVAL
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])  # with kernels, and without
def test_an_empty_batch(name, training, dtype) -> None:
    layer = make(name, training)
    before = {key: value.clone() for key, value in layer.state_dict().items()}
    x = torch.empty(spatially(name, (4, 3), samples=0), dtype=dtype, requires_grad=True)
    r = torch.empty_like(x, requires_grad=True)
    y = layer(x, r, relu=True)
    y.sum().backward()
    assert y.shape == x.shape == x.grad.shape == r.grad.shape and y.dtype == dtype
    assert all(not p.grad.any() for p in layer.parameters())
    for key, value in layer.state_dict().items():  # nothing was seen
        assert torch.equal(value, before[key]), key


@EVERY_NORM
@TRAIN_AND_EVAL
def test_a_single_sample(name, training) -> None:
    layer = make(name, training)
    exact, naive = definition(name, layer)
    x, gy = torch.randn(2, *spatially(name, (4, 3), samples=1))
    got = step(layer, layer, x, gy=gy)
    expected = step(naive, exact, x.double(), gy=gy.double())
    close(without_buffers(got), without_buffers(expected), rtol=2e-4, atol=5e-5)


@EVERY_NORM
@TRAIN_AND_EVAL
def test_maps_of_one_pixel(name, training) -> None:
    """A value that is its own mean: finite, and so are all gradients."""
    layer = make(name, training)
    x, gy = torch.randn(2, *spatially(name, (1, 1)))
    got = step(layer, layer, x, gy=gy)
    assert all(value.isfinite().all() for value in got.values() if value is not None)
    # a constant map has the same statistics, biased; the unbiased variances are 0 for both
    wide = step(
        layer if training else make(name, training),
        layer,
        x.expand(-1, -1, 2, 2).contiguous(),
        gy=gy.expand(-1, -1, 2, 2) / 4,
    )
    if CASES[name][0]["type"] != "ILM":  # its keys' unbiased variance counts the values
        torch.testing.assert_close(wide["y"][:, :, :1, :1], got["y"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", USES_BATCH)
def test_training_on_one_value_per_channel_is_refused(name) -> None:
    layer = make(name)
    before = {key: value.clone() for key, value in layer.state_dict().items()}
    x = torch.randn(spatially(name, (1, 1), samples=1))
    with pytest.raises(ValueError, match=r"more than (one|1) value per channel"):  # ours, torch's
        layer(x)
    for key, value in layer.state_dict().items():
        if key != "num_batches_tracked":  # torch counts before it refuses
            assert torch.equal(value, before[key]), key
    if name != "sn_average":
        assert layer.eval()(x).isfinite().all()


def test_instance_norm_of_one_pixel_is_its_bias() -> None:
    layer = make("in")
    y = layer(torch.randn(3, 7, 1, 1))
    torch.testing.assert_close(y, layer.bias.view(1, -1, 1, 1).expand_as(y))


# name -> where a NaN in one plane may go: that plane, its sample, its channel, or both
NAN_REACHES = {
    ("bn", True): "channel",
    ("bn", False): "pixel",
    ("in", True): "plane",
    ("in", False): "plane",
    ("ln", True): "sample",
    ("ibn", False): "plane or pixel",
    ("bin", False): "plane",
    ("bin", True): "channel",
    ("sn", False): "sample",
    ("sn_without_bn", True): "sample",
    ("sn", True): "sample and channel",
    ("ilm_in", True): "sample",
}


@pytest.mark.parametrize(("name", "training"), NAN_REACHES)
@pytest.mark.parametrize("last", [False, True], ids=["planes", "channels_last"])
@pytest.mark.parametrize("relu", [False, True])
def test_nan_goes_where_its_statistics_go_and_no_further(name, training, last, relu) -> None:
    layer = make(name, training)
    x = torch.randn(spatially(name, (4, 4)))
    x[1, 2, 0, 0] = torch.nan
    if last:
        x = x.contiguous(memory_format=torch.channels_last)
    expected = torch.zeros(x.shape, dtype=torch.bool)
    reaches = NAN_REACHES[name, training]
    if "pixel" in reaches:
        expected[1, 2, 0, 0] = True
    if "plane" in reaches:
        expected[1, 2] = True
    if "sample" in reaches:
        expected[1] = True
    if "channel" in reaches:
        expected[:, 2] = True
    y = layer(x, relu=relu)
    assert torch.equal(y.isnan(), expected)


@ONE_OF_EACH
def test_wrong_input(name) -> None:
    layer, c = make(name), CASES[name][1]
    kind = type(layer).__name__
    with pytest.raises(ValueError, match=rf"{kind}: expected .*\(N, {c}, H, W\).*got shape \(2, 5"):
        layer(torch.randn(2, 5, 4, 4))
    for shape in ((c, 4), (2, c), (2, c, 1, 4, 4, 4)):
        with pytest.raises(ValueError, match=rf"{kind}: expected .*got shape"):
            layer(torch.randn(shape))
    for dtype in (torch.int64, torch.uint8, torch.complex64):
        with pytest.raises(TypeError, match=rf"{kind}: expected floating point.*call .float\(\)"):
            layer(torch.zeros(2, c, 4, 4, dtype=dtype))


@pytest.mark.parametrize("name", sorted({n for n in NORMS if not n.startswith("sync")}))
@pytest.mark.parametrize("channels", [0, -64, 64.0, "64", None, True])
def test_wrong_number_of_channels(name, channels) -> None:
    kind = NORMS[name]
    with pytest.raises(ValueError, match=rf"{name.upper()}: num_features is the number"):
        kind(channels)


# ----------------------------------------------------------- graphs, copies, and other tools


@EVERY_NORM
@TRAIN_AND_EVAL
def test_compiles_to_one_graph(name, training) -> None:
    layer = make(name, training)
    other = copy.deepcopy(layer)
    torch._dynamo.reset()
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    for seed in range(2):
        torch.manual_seed(seed)
        x, r, gy = torch.randn(3, *spatially(name, (5, 4)))
        got = step(lambda x, r: compiled(x, r, relu=True), layer, x, r, gy=gy)
        expected = step(lambda x, r: other(x, r, relu=True), other, x, r, gy=gy)
        close(got, expected, rtol=1e-4, atol=2e-5)
    torch._dynamo.reset()


@pytest.mark.parametrize("name", ["ilm_gn", "sn", "gn"])
def test_compiled_under_autocast(name) -> None:
    layer = make(name, training=False)
    torch._dynamo.reset()
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    x = torch.randn(spatially(name, (5, 4)))
    with torch.autocast("cpu", torch.bfloat16):
        y = compiled(x)
    torch.testing.assert_close(y, layer(x), rtol=1e-5, atol=1e-5)
    torch._dynamo.reset()


@ONE_OF_EACH
@pytest.mark.parametrize("strict", [False, True])
def test_exports(name, strict) -> None:
    layer = make(name, training=False)
    x = torch.randn(spatially(name, (5, 4)))
    program = torch.export.export(layer, (x,), strict=strict)
    torch.testing.assert_close(program.module()(x), layer(x), rtol=1e-5, atol=1e-5)


@ONE_OF_EACH
def test_exports_any_batch_and_size(name) -> None:
    layer = make(name, training=False)
    dim = torch.export.Dim
    free = {0: dim("batch", min=2), 2: dim("height", min=2), 3: dim("width", min=2)}
    x = torch.randn(spatially(name, (6, 5)))
    program = torch.export.export(layer, (x,), dynamic_shapes=(free,))
    for samples, size in ((2, (7, 9)), (5, (4, 3))):
        x = torch.randn(spatially(name, size, samples))
        torch.testing.assert_close(program.module()(x), layer(x), rtol=1e-5, atol=1e-5)


@ONE_OF_EACH
def test_copies_and_states(name) -> None:
    layer = make(name)
    x = torch.randn(spatially(name, (4, 4)))
    layer(x)
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    loaded = build_norm(CASES[name][0], CASES[name][1])
    loaded.load_state_dict(torch.load(file, weights_only=True))
    copied = copy.deepcopy(layer)
    for module in (layer, loaded, copied):
        module.eval()
    torch.testing.assert_close(loaded(x), layer(x), rtol=0, atol=0)
    torch.testing.assert_close(copied(x), layer(x), rtol=0, atol=0)
    with torch.no_grad():
        for p in copied.parameters():
            p.add_(1)
    assert not torch.equal(copied(x), layer(x))  # it has parameters of its own


@ONE_OF_EACH
def test_activation_checkpointing(name) -> None:
    layer, other = make(name, training=False), make(name, training=False)
    x, gy = torch.randn(2, *spatially(name, (4, 4)))
    got = step(lambda x: checkpoint(layer, x, None, True, use_reentrant=False), layer, x, gy=gy)
    close(got, step(lambda x: other(x, relu=True), other, x, gy=gy), rtol=0, atol=0)


@ONE_OF_EACH
def test_two_steps_in_one_backward_pass(name) -> None:
    """A norm used twice, as by a head that several branches share."""
    layer, other = make(name), make(name)
    a, b, gy = torch.randn(3, *spatially(name, (4, 4)))
    close(
        step(lambda a, b: layer(layer(a)) * layer(b), layer, a, b, gy=gy),
        step(lambda a, b: other(other(a)).mul(other(b)), other, a, b, gy=gy),
        rtol=0,
        atol=0,
    )
    exact, naive = definition(name, make(name))
    got = step(lambda a, b: layer(layer(a)) * layer(b), layer.zero_grad() or layer, a, b, gy=gy)
    expected = step(
        lambda a, b: naive(naive(a)) * naive(b), exact, a.double(), b.double(), gy=gy.double()
    )
    close(without_buffers(got), without_buffers(expected), rtol=1e-3, atol=5e-4)


@pytest.mark.parametrize("name", ["ibn", "bin", "sn", "ilm_gn"])
def test_builds_as_a_norm_layer_of_mmcv(name) -> None:
    """mmcv gives eps, and takes the attribute's name from ``_abbr_``."""
    cnn = pytest.importorskip("mmcv.cnn", reason="the seg extra is not installed")
    spec, channels, _ = CASES[name]
    kind = f"backbones.{spec['type']}"
    attribute, layer = cnn.build_norm_layer(dict(type=kind, requires_grad=False), channels, 2)
    assert attribute == "bn2" and type(layer) is type(make(name))
    assert not any(p.requires_grad for p in layer.parameters())
    module = cnn.ConvModule(3, channels, 3, norm_cfg=dict(type=kind), bias="auto")
    assert module(torch.randn(2, 3, 8, 8)).shape == (2, channels, 6, 6)
    assert module.norm_name == "bn" and module.conv.bias is None


@ONE_OF_EACH
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::FutureWarning")
def test_traces_with_free_sizes(name) -> None:
    """The older torch.jit.trace, which the older ONNX exporter uses."""
    layer = make(name, training=False)
    traced = torch.jit.trace(layer, torch.randn(spatially(name, (6, 5))), check_trace=False)
    x = torch.randn(spatially(name, (3, 8), samples=2))
    torch.testing.assert_close(traced(x), layer(x), rtol=1e-5, atol=1e-5)


@ONE_OF_EACH
def test_forward_mode_derivatives(name) -> None:
    """With v of the reverse mode's and u of the forward mode's: <v, J u> = <J^T v, u>."""
    layer = make(name, training=False)
    x, u, v = torch.randn(3, *spatially(name, (4, 4)))
    (backward,) = torch.autograd.grad(layer(x.requires_grad_()), x, v)
    with torch.no_grad(), forward_ad.dual_level():
        _, tangent = forward_ad.unpack_dual(layer(forward_ad.make_dual(x.detach(), u)))
    torch.testing.assert_close((v * tangent).sum(), (backward * u).sum(), rtol=1e-3, atol=1e-3)
    _, tangent = torch.func.jvp(layer, (x.detach(),), (u,))
    torch.testing.assert_close((v * tangent).sum(), (backward * u).sum(), rtol=1e-3, atol=1e-3)


@ONE_OF_EACH
def test_gradients_per_sample(name) -> None:
    layer = make(name, training=False)
    other = copy.deepcopy(layer)  # functional_call does not put back what is shared, as in ILM
    x = torch.randn(spatially(name, (4, 4)))
    parameters = {key: p.detach() for key, p in layer.named_parameters()}

    def loss(values: dict[str, Tensor], sample: Tensor) -> Tensor:
        return torch.func.functional_call(other, values, (sample[None],)).pow(3).sum()

    got = torch.func.vmap(torch.func.grad(loss), (None, 0))(parameters, x)
    for i, sample in enumerate(x):
        layer.zero_grad()
        layer(sample[None]).pow(3).sum().backward()
        for key, p in layer.named_parameters():
            torch.testing.assert_close(got[key][i], p.grad, rtol=1e-3, atol=1e-3)


@ONE_OF_EACH
def test_what_records_operations_sees_all_of_them(name) -> None:
    """A graph that make_fx takes from one input holds for another."""
    layer = make(name, training=False)
    x, other = torch.randn(2, *spatially(name, (4, 4)))
    with torch.no_grad():
        graph = make_fx(lambda x: layer(x))(x)
        torch.testing.assert_close(graph(other), layer(other))
