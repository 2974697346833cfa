from __future__ import annotations

import pytest
import torch
from torch import nn

from backbones import ResNet
from backbones.non_local import NonLocal


def trained(block: NonLocal) -> NonLocal:
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.normal_(std=0.5)
    return block


def naive(block: NonLocal, x: torch.Tensor) -> torch.Tensor:
    """The paper's formula, one pair of positions at a time."""
    out = torch.empty_like(block.g(x))
    theta, phi, g = (layer(x).flatten(2) for layer in (block.theta, block.phi, block.g))
    positions = theta.shape[2]
    for sample in range(len(x)):
        for i in range(positions):
            total = sum(
                (theta[sample, :, i] @ phi[sample, :, j]) * g[sample, :, j]
                for j in range(positions)
            )
            out[sample, :, i // x.shape[3], i % x.shape[3]] = total / positions
    return x + block.W(out)


@pytest.mark.parametrize("inner", [None, 1, 3])
def test_the_papers_formula(inner) -> None:
    block = trained(NonLocal(6, inner)).double().eval()
    assert block.g.out_channels == (inner or 3)
    x = torch.randn(2, 6, 3, 2, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(block(x), naive(block, x))


@pytest.mark.parametrize("training", [False, True])
def test_a_new_block_is_the_identity_and_can_learn(training) -> None:
    block = NonLocal(8).train(training)
    x = torch.randn(2, 8, 4, 3)
    out = block(x)
    assert torch.equal(out, x)
    out.square().sum().backward()
    assert block.W[1].weight.grad.abs().sum() > 0
    assert block(torch.empty(0, 8, 4, 3)).shape == (0, 8, 4, 3) if not training else True


def test_positions_have_no_order() -> None:
    block = trained(NonLocal(4)).eval()
    x = torch.randn(1, 4, 6, 5)
    order = torch.randperm(30)
    shuffled = x.flatten(2)[:, :, order].unflatten(2, (6, 5))
    expected = block(x).flatten(2)[:, :, order].unflatten(2, (6, 5))
    torch.testing.assert_close(block(shuffled), expected)


def test_networks_begin_as_those_without() -> None:
    plain = ResNet(18, ibn="a").eval()
    model = ResNet(18, ibn="a", non_local=(0, 2, 1, 0)).eval()
    from backbones import load_weights

    report = load_weights(model, plain.state_dict())
    assert report.ok and len(report.tolerated) == 3 * 13
    assert set(report.tolerated.values()) == {"non-local blocks stay as they are"}
    x = torch.randn(1, 3, 64, 32)
    with torch.no_grad():
        for ours, expected in zip(model(x), plain(x), strict=True):
            assert torch.equal(ours, expected)


def test_blocks_stand_behind_the_last_blocks_of_a_stage() -> None:
    model = ResNet(18, non_local=(0, 1, 2, 0), out_indices=(2,)).eval()
    order: list[str] = []
    for name, module in model.named_modules():
        if isinstance(module, NonLocal) or (name.startswith("layer") and name.count(".") == 1):
            module.register_forward_hook(lambda *_, name=name: order.append(name))
    model(torch.randn(1, 3, 32, 32))
    assert order[2:] == [
        *("layer2.0", "layer2.1", "NL_2.0"),
        *("layer3.0", "NL_3.0", "layer3.1", "NL_3.1"),
    ]


def test_frozen_with_their_stage() -> None:
    model = ResNet(18, non_local=(0, 1, 1, 0), frozen_stages=2).train()
    assert not any(p.requires_grad for p in model.NL_2.parameters())
    assert not any(m.training for m in model.NL_2.modules())
    assert all(p.requires_grad for p in model.NL_3.parameters()) and model.NL_3.training


def test_fast_reids_weights_are_loaded_with_its_one_channel(tmp_path) -> None:
    from backbones.weights import WeightsMismatchError, load_weights

    blocks = dict(non_local=(0, 1, 2, 0), non_local_channels=1)
    theirs = ResNet(18, **blocks, out_indices=(3,))
    for module in theirs.modules():
        if isinstance(module, NonLocal):
            trained(module)
    file = {f"backbone.{key}": value for key, value in theirs.state_dict().items()}
    file["heads.bottleneck.0.bias"] = torch.zeros(512)
    torch.save({"model": file}, tmp_path / "market_agw_R18.pth")
    ours = ResNet(18, **blocks, out_indices=(3,))
    report = load_weights(ours, tmp_path / "market_agw_R18.pth")
    assert report.ok and not report.tolerated
    assert torch.equal(ours.NL_3[1].g.weight, theirs.NL_3[1].g.weight)
    with pytest.raises(WeightsMismatchError, match=r"non_local=\(0, 1, 2, 0\).*channels=1"):
        load_weights(ResNet(18, out_indices=(3,)), tmp_path / "market_agw_R18.pth")


def test_other_code_bases_without_them_refuse() -> None:
    from backbones.checkpoint import CheckpointError
    from backbones.layouts import convert_state_dict

    with torch.device("meta"):
        state = ResNet(50, non_local=(0, 1, 0, 0), num_classes=3).state_dict()
    with pytest.raises(CheckpointError, match="it has no non-local ResNet"):
        convert_state_dict(state, to="torchvision")
    assert "backbone.NL_2.0.g.weight" in convert_state_dict(state, to="fastreid")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(non_local=(0, 3, 0, 0)), r"at most \(2, 2, 2, 2\), got \(0, 3, 0, 0\)"),
        (dict(non_local=(0, 1)), "counts blocks of the four stages"),
        (dict(non_local=(1, 0, 0, 0), preact=True), "pre-activation network has no non_local"),
        (dict(non_local=(1, 0, 0, 0), non_local_channels=0), "inner_channels is 1 or more, got 0"),
        (dict(non_local=(1, 0, 0, 0), norm=dict(type="ILM", base="in")), "ILM has none"),
    ],
)
def test_wrong_arguments(wrong, message) -> None:
    with pytest.raises(ValueError, match=message):
        ResNet(18, **wrong)


def test_a_norm_with_a_weight_is_taken() -> None:
    assert isinstance(ResNet(18, norm="gn", non_local=(0, 1, 0, 0)).NL_2[0].W[1], nn.GroupNorm)
