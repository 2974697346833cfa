from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from backbones.norm import IBN
from backbones.registry import MODELS


def naive(layer: IBN, x: Tensor) -> Tensor:
    """The definition: torch's two norms on the two halves, concatenated."""
    first, second = (layer.IN, layer.BN) if layer.order == "in_bn" else (layer.BN, layer.IN)
    halves = x.float().split([first.num_features, second.num_features], 1)
    parts = zip((first, second), halves, strict=True)  # torch's norms refuse zero channels
    return torch.cat([norm(h.contiguous()) if norm.num_features else h for norm, h in parts], 1)


def test_golden_training_step(check_golden_layer) -> None:
    check_golden_layer(IBN(64), "ibn")


@pytest.mark.parametrize("order", ["in_bn", "bn_in"])
@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.4, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("channels", [7, 64])
@pytest.mark.parametrize("training", [True, False])
def test_equals_two_norms_and_a_concatenation(order, ratio, channels, training) -> None:
    layer = IBN(channels, ratio=ratio, order=order)
    for p in layer.parameters():
        nn.init.normal_(p)
    layer.BN.running_mean.normal_()
    layer.BN.running_var.uniform_(0.5, 2)
    layer.train(training)
    other = copy.deepcopy(layer)
    x = torch.randn(3, channels, 5, 4)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    gy = torch.randn_like(x)
    y, expected = layer(a), naive(other, b)
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)
    y.backward(gy)
    expected.backward(gy)
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-5)
    for ours, theirs in zip(layer.parameters(), other.parameters(), strict=True):
        if not ours.numel():
            continue
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-4)
    for ours, theirs in zip(layer.buffers(), other.buffers(), strict=True):
        if layer.BN.num_features:  # the naive version skips an empty half
            torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(
    ("channels", "order", "sizes"),
    [(64, "bn_in", (38, 26)), (160, "bn_in", (96, 64)), (128, "bn_in", (76, 52))],
)
def test_densenet_split_sizes(channels, order, sizes) -> None:
    layer = IBN(channels, ratio=0.4, order=order)
    assert (layer.BN.num_features, layer.IN.num_features) == sizes
    assert next(iter(layer.state_dict())) == "BN.weight"


def test_types_and_memory_formats() -> None:
    layer = IBN(6)
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(2, 6, 4, 4).to(dtype).contiguous(memory_format=torch.channels_last)
        y = layer(x)
        assert y.dtype == dtype and y.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(y.float(), naive(copy.deepcopy(layer), x), rtol=0.02, atol=0.02)


def test_one_value_per_channel() -> None:
    """Refused in training, but not where nothing is learned from it."""
    layer = IBN(6)
    one = torch.randn(1, 6, 1, 1)
    with pytest.raises(ValueError, match="BatchNorm2d: training needs more than one value"):
        layer(one)
    assert layer.BN.num_batches_tracked == 0
    layer.BN.eval()
    assert not layer(one)[:, :3].any()  # a single value is its own mean
    only_in = IBN(6, ratio=1.0)
    assert not only_in(one).any()


@pytest.mark.parametrize("order", ["in_bn", "bn_in"])
def test_conversion_by_torch_keeps_it_and_makes_its_batch_half_synchronous(order) -> None:
    layer = IBN(7, ratio=0.4, order=order, momentum=0.3)
    layer(torch.randn(2, 7, 3, 3))
    state = copy.deepcopy(layer.state_dict())
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(layer)
    assert converted is layer and isinstance(layer.BN, nn.SyncBatchNorm) and layer.sync
    assert layer.BN.momentum == 0.3
    assert list(layer.state_dict()) == list(state)
    assert all(torch.equal(layer.state_dict()[key], value) for key, value in state.items())
    x = torch.randn(2, 7, 3, 3)
    plain = IBN(7, ratio=0.4, order=order, momentum=0.3)
    plain.load_state_dict(state)
    torch.testing.assert_close(layer(x), plain(x))
    assert IBN(7, sync=True).sync and not plain.sync


def test_state_keys_are_those_of_the_published_files() -> None:
    batch = ["BN.weight", "BN.bias", "BN.running_mean", "BN.running_var", "BN.num_batches_tracked"]
    instance = ["IN.weight", "IN.bias"]
    assert list(IBN(8).state_dict()) == instance + batch
    assert list(IBN(8, order="bn_in").state_dict()) == batch + instance


def test_frozen_batch_half_keeps_its_statistics() -> None:
    layer = IBN(6)
    layer.BN.eval()
    before = layer.BN.running_mean.clone()
    layer(torch.randn(4, 6, 3, 3) + 5)
    assert torch.equal(layer.BN.running_mean, before)


def test_cumulative_average() -> None:
    layer, plain = IBN(2, ratio=0.0, momentum=None), nn.BatchNorm2d(2, momentum=None)
    for _ in range(3):
        x = torch.randn(4, 2, 3, 3)
        layer(x), plain(x)
    torch.testing.assert_close(layer.BN.running_mean, plain.running_mean)
    torch.testing.assert_close(layer.BN.running_var, plain.running_var)


def test_builds_from_registries_by_prefixed_name() -> None:
    from mmengine.registry import MODELS as root

    for registry in (MODELS, root):
        layer = registry.build(dict(type="backbones.IBN", num_features=8, ratio=0.25))
        assert isinstance(layer, IBN) and layer.IN.num_features == 2


@pytest.mark.parametrize(
    "wrong", [dict(ratio=1.5), dict(ratio=-0.1), dict(ratio=float("nan")), dict(order="bn|in")]
)
def test_wrong_arguments(wrong) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        IBN(8, **wrong)


def test_wrong_channels() -> None:
    with pytest.raises(ValueError, match=r"\(N, 8, H, W\) or .*, got shape \(2, 6, 4, 4\)"):
        IBN(8)(torch.randn(2, 6, 4, 4))
