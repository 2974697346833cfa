"""BN, IN, LN and GN: torch's layers, with torch's numbers, whoever computes them."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from backbones.norm import BN, GN, IN, LN
from backbones.norm.moments import has_kernels

PAIRS = {
    "bn": (lambda: BN(6), lambda: nn.BatchNorm2d(6)),
    "bn_bare": (lambda: BN(6, affine=False), lambda: nn.BatchNorm2d(6, affine=False)),
    "bn_untracked": (
        lambda: BN(6, track_running_stats=False),
        lambda: nn.BatchNorm2d(6, track_running_stats=False),
    ),
    "in": (lambda: IN(6), lambda: nn.InstanceNorm2d(6, affine=True)),
    "in_bare": (lambda: IN(6, affine=False), lambda: nn.InstanceNorm2d(6)),
    "gn": (lambda: GN(6, num_groups=3, eps=1e-2), lambda: nn.GroupNorm(3, 6, eps=1e-2)),
    "gn_bare": (lambda: GN(6, 2, affine=False), lambda: nn.GroupNorm(2, 6, affine=False)),
    "ln": (lambda: LN(6), lambda: nn.GroupNorm(1, 6)),
}


def pair(name: str) -> tuple[nn.Module, nn.Module]:
    ours, plain = (make() for make in PAIRS[name])
    for p in ours.parameters():
        nn.init.normal_(p)
    plain.load_state_dict(ours.state_dict())  # the same names
    return ours, plain


def results(layer: nn.Module, x: Tensor, gy: Tensor) -> list[Tensor]:
    leaf = x.clone(memory_format=torch.preserve_format).requires_grad_()
    y = layer(leaf)
    y.backward(gy)
    return [y.detach(), leaf.grad, *(p.grad for p in layer.parameters()), *layer.buffers()]


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kernels", ["auto", "torch"])
@pytest.mark.parametrize("last", [False, True], ids=["planes", "channels_last"])
def test_equals_torch_s(monkeypatch, name, training, kernels, last) -> None:
    monkeypatch.setenv("BACKBONES_KERNELS", kernels)
    ours, plain = pair(name)
    ours.train(training), plain.train(training)
    x, gy = torch.randn(2, 3, 6, 5, 4)
    if last:
        x = x.contiguous(memory_format=torch.channels_last)
    got = results(ours, x, gy)
    assert got[0].stride() == x.stride()
    for a, b in zip(got, results(plain, x, gy), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("name", PAIRS)
def test_they_are_torch_s_layers(name) -> None:
    ours, plain = pair(name)
    assert isinstance(ours, type(plain))
    assert list(ours.state_dict()) == list(plain.state_dict())


def test_which_maps_the_core_takes(monkeypatch) -> None:
    """BN on a CPU: in training, and where maps are too large for the cache."""
    taken: list[str] = []

    class Spy(BN):
        def algebra(self, *args):
            taken.append("core")
            return super().algebra(*args)

    layer, small, large = Spy(4), torch.randn(2, 4, 8, 8), torch.randn(1, 4, 1024, 1024)
    if not has_kernels(large):
        pytest.skip("no C++ compiler here")
    layer(small), layer.eval()(large)
    assert not taken
    layer.train()(large)
    assert taken == ["core"]
    monkeypatch.setenv("BACKBONES_KERNELS", "torch")
    layer(large)
    assert taken == ["core"]


@pytest.mark.parametrize("kernels", ["auto", "torch"])
@pytest.mark.parametrize("shape", [(2, 6, 1, 1), (1, 6, 1, 1), (0, 6, 4, 4), (0, 6, 1, 1)])
def test_maps_that_torch_refuses(monkeypatch, kernels, shape) -> None:
    monkeypatch.setenv("BACKBONES_KERNELS", kernels)
    for make in (lambda: IN(6), lambda: LN(6), lambda: GN(6, num_groups=6)):
        layer = make()
        nn.init.normal_(layer.bias)
        x = torch.randn(shape, requires_grad=True)
        y = layer(x)
        y.sum().backward()
        assert y.shape == shape and x.grad.isfinite().all()
        if shape[0] and not isinstance(layer, LN):  # a single value is its own mean
            torch.testing.assert_close(y, layer.bias.view(1, 6, 1, 1).expand(shape))


def test_groups_that_do_not_divide() -> None:
    for groups in (4, 0, -1, 7):
        with pytest.raises(ValueError, match=r"GN: 6 channels do not divide .*num_groups=16"):
            GN(6, groups)
    with pytest.raises(TypeError, match="num_groups"):
        LN(6, num_groups=2)
    with pytest.raises(ValueError, match="LN: num_features"):
        LN(0)


def test_spatial_dimensions() -> None:
    assert LN(6)(torch.randn(2, 6, 5)).shape == (2, 6, 5)
    assert GN(6, 3)(torch.randn(2, 6, 2, 3, 4)).shape == (2, 6, 2, 3, 4)
    for layer in (BN(6), IN(6)):
        with pytest.raises(ValueError, match=r"expected \(N, 6, H, W\), got shape \(6, 5, 4\)"):
            layer(torch.randn(6, 5, 4))  # torch would take it for one image without a batch


def test_relu_does_not_overwrite_the_input() -> None:
    for name in PAIRS:
        layer, _ = pair(name)
        x, r = torch.randn(2, 2, 6, 4, 4)
        copies = x.clone(), r.clone()
        layer(x, r, relu=True), layer(x, relu=True), layer.eval()(x, relu=True)
        assert torch.equal(x, copies[0]) and torch.equal(r, copies[1])


def test_deepcopy() -> None:
    layer = copy.deepcopy(BN(6, sync=True))
    assert layer.sync and layer.process_group is None
