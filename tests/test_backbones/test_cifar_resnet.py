from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from backbones import BIN, CifarResNet, create_model
from backbones.blocks import BasicBlock, Bottleneck


@pytest.mark.parametrize(
    ("depth", "block", "expected", "blocks"),
    [
        (8, None, BasicBlock, 1),
        (32, None, BasicBlock, 5),
        (44, None, Bottleneck, 7),
        (50, None, Bottleneck, 8),
        (110, None, Bottleneck, 18),
        (110, "basic", BasicBlock, 18),
        (20, "bottleneck", Bottleneck, 3),
    ],
)
def test_blocks_follow_the_depth(depth, block, expected, blocks) -> None:
    with torch.device("meta"):
        model = CifarResNet(depth, block=block)
    for layer in (model.layer1, model.layer2, model.layer3):
        assert len(layer) == blocks and all(type(b) is expected for b in layer)


def test_every_norm_is_the_one_asked_for() -> None:
    model = CifarResNet(20, norm="bin")
    assert sum(isinstance(m, BIN) for m in model.modules()) == 1 + 18 + 2
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())


def test_feature_maps_and_contract() -> None:
    model = CifarResNet(44, norm="in", out_indices=(0, 2)).eval()
    maps = model(torch.randn(2, 3, 32, 24))
    assert model.out_channels == (64, 256) and model.reductions == (1, 4)
    assert [tuple(m.shape) for m in maps] == [(2, 64, 32, 24), (2, 256, 8, 6)]
    assert not hasattr(model, "fc")


@pytest.mark.parametrize("size", [(32, 32), (28, 28), (64, 48), (3, 1)])
def test_any_input_size(size) -> None:
    model = create_model("cifar_resnet8_bin", num_classes=5).eval()
    assert model(torch.randn(2, 3, *size)).shape == (2, 5)


def test_pooling_is_the_authors_at_their_size() -> None:
    model = create_model("cifar_resnet8_bn", num_classes=4).eval()
    x = torch.randn(2, 3, 32, 32)
    features = create_model("cifar_resnet8_bn", num_classes=0).eval()
    features.load_state_dict({k: v for k, v in model.state_dict().items() if "fc." not in k})
    expected = model.fc(F.avg_pool2d(features(x)[-1], 8).flatten(1))
    torch.testing.assert_close(model(x), expected)


@pytest.mark.parametrize("depth", [8, 44])
@pytest.mark.parametrize("norm", ["bn", "in", "bin", "ln", "sn", {"type": "ILM", "base": "ln"}])
def test_a_training_step_is_finite(depth, norm) -> None:
    model = CifarResNet(depth, norm=norm, num_classes=3)
    F.cross_entropy(model(torch.randn(2, 3, 16, 16)), torch.tensor([0, 2])).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("frozen", range(-1, 4))
def test_frozen_stages(frozen) -> None:
    model = CifarResNet(8, norm="bin", frozen_stages=frozen).train()
    for index, name in enumerate(["bn1", "layer1", "layer2", "layer3"]):
        module, is_frozen = getattr(model, name), index <= frozen
        assert all(p.requires_grad is not is_frozen for p in module.parameters())
        assert all(m.training is not is_frozen for m in module.modules())


def test_norm_eval_reaches_bin() -> None:
    model = CifarResNet(8, norm="bin", norm_eval=True).train()
    assert not any(m.training for m in model.modules() if isinstance(m, BIN))
    assert model.layer1.training


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(depth=18), r"depth must be 6n \+ 2 .*got 18"),
        (dict(depth=2), r"depth must be 6n \+ 2"),
        (dict(depth=8, block="wide"), "block must be None, 'basic' or 'bottleneck', got 'wide'"),
        (dict(depth=8, out_indices=(3,)), "CifarResNet: out_indices are stages 0 to 2"),
        (dict(depth=8, frozen_stages=4), r"frozen_stages is -1 \(none\) to 3"),
        (dict(depth=8, norm="gn"), "16 channels do not divide into 32 groups; give num_groups"),
        (dict(depth=8, norm="ilm"), "must be a multiple of 32, got 16"),
    ],
)
def test_wrong_arguments(wrong, message) -> None:
    with pytest.raises(ValueError, match=message):
        CifarResNet(**wrong)


def test_builds_from_mmengines_registry() -> None:
    from mmengine.registry import MODELS

    model = MODELS.build(dict(type="backbones.CifarResNet", depth=8, norm=dict(type="BIN")))
    assert isinstance(model, CifarResNet)
