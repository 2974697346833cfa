from __future__ import annotations

import pytest
import torch
from torch import nn

pytest.importorskip("mmseg")

from backbones import ResNet
from seg.models.named_modules import (
    channels_of,
    evaluating,
    find_module,
    measuring,
    transform_output,
)


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(inplace=True), nn.Conv2d(4, 2, 1))


def test_negative_numbers_count_from_the_end() -> None:
    resnet = ResNet(18, ibn="b")
    assert find_module(resnet, "layer1.-1.IN") is resnet.layer1[1].IN
    assert find_module(resnet, "layer1.-2") is resnet.layer1[0]


@pytest.mark.parametrize(("name", "hint"), [("layer9", "layer1"), ("layer1.-3", "layer1.1")])
def test_an_unknown_name_lists_the_near_ones(name: str, hint: str) -> None:
    with pytest.raises(ValueError, match="did you mean") as error:
        find_module(ResNet(18), name)
    assert repr(hint) in str(error.value)


@pytest.mark.parametrize("name", ["", ".", "-1x", "nothing like it"])
def test_a_name_like_no_other(name: str) -> None:
    with pytest.raises(ValueError, match="its parts are"):
        find_module(ResNet(18), name)


def test_measures_before_a_relu_in_place() -> None:
    net, x = network(), torch.randn(2, 3, 5, 5)
    with measuring(net, [("0", torch.clone), ("2", torch.mean)]) as results:
        y = net(x)
    assert torch.equal(results[0], net[0](x))
    assert results[0].min() < 0
    assert torch.equal(results[1], y.mean())


def test_hooks_are_gone_afterwards_even_after_an_error() -> None:
    net = network()
    with pytest.raises(RuntimeError), measuring(net, [("0", torch.mean)]):
        net(torch.randn(1, 7, 5, 5))
    assert not any(module._forward_hooks for module in net.modules())
    with (
        pytest.raises(ValueError, match="no module 'x'"),
        measuring(net, [("0", torch.mean), ("x", torch.mean)]),
    ):
        pass
    assert not any(module._forward_hooks for module in net.modules())


def test_outputs_that_are_no_map() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(3, 2))
    with (
        pytest.raises(ValueError, match=r"'1' returns a tensor of shape \(1, 2\)"),
        measuring(net, [("1", torch.mean)]),
    ):
        net(torch.randn(1, 3, 1, 1))


def test_reentrant_checkpointing_is_named() -> None:
    from torch.utils.checkpoint import checkpoint

    net, x = network(), torch.randn(1, 3, 5, 5, requires_grad=True)
    with pytest.raises(ValueError, match="checkpointed"), measuring(net, [("0", torch.mean)]):
        checkpoint(net, x, use_reentrant=True)
    with measuring(net, [("0", torch.mean)]) as results:
        checkpoint(net, x, use_reentrant=False)
    (gradient,) = torch.autograd.grad(results[0], net[0].bias)
    assert gradient.ne(0).all()


def test_a_compiled_network_is_refused() -> None:
    net = network()
    net.compile(backend="eager")
    with (
        pytest.raises(ValueError, match=r"precision\.compile=False"),
        measuring(net, [("0", torch.mean)]),
    ):
        pass
    with measuring(net, []):  # nothing to hook
        pass


def test_transform_output_until_removed() -> None:
    net, x = network(), torch.randn(1, 3, 5, 5)
    before, keys = net(x), list(net.state_dict())
    handle = transform_output(net, "2", lambda y: 2 * y)
    assert torch.equal(net(x), 2 * before)
    assert list(net.state_dict()) == keys
    handle.remove()
    assert torch.equal(net(x), before)


def test_channels_leave_the_network_as_it_was() -> None:
    net = ResNet(18, ibn="b")
    net.layer2.eval()
    modes = [m.training for m in net.modules()]
    state = {k: v.clone() for k, v in net.state_dict().items()}
    assert channels_of(net, ["bn1", "layer2.-1.IN"]) == {"bn1": 64, "layer2.-1.IN": 128}
    assert [m.training for m in net.modules()] == modes
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())


def test_a_module_that_does_not_run() -> None:
    with pytest.raises(ValueError, match="did not run"):
        channels_of(ResNet(18, out_indices=(0,)), ["layer3"])


def test_evaluating_restores_modes_after_an_error() -> None:
    net = network()
    net[0].eval()
    with pytest.raises(KeyError), evaluating(net):
        assert not any(m.training for m in net.modules())
        raise KeyError
    assert [m.training for m in net.modules()] == [True, False, True, True]
