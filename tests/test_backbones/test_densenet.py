from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from backbones import IBN, DenseNet, create_model


def test_ibn_stands_in_every_third_layer_of_three_blocks() -> None:
    with torch.device("meta"):
        model = DenseNet(121, ibn="a")
    found = {name: m for name, m in model.named_modules() if isinstance(m, IBN)}
    expected = {
        f"features.denseblock{block}.denselayer{layer}.norm1"
        for block, layers in ((1, 6), (2, 12), (3, 24))
        for layer in range(1, layers + 1, 3)
    }
    assert found.keys() == expected
    sizes = [(m.BN.num_features, m.IN.num_features) for m in found.values()]
    assert sizes[:6] == [(38, 26), (96, 64), (76, 52), (134, 90), (192, 128), (249, 167)]
    assert all(m.order == "bn_in" for m in found.values())


def naive(model: DenseNet, x: torch.Tensor) -> list[torch.Tensor]:
    """DenseNet written out, one operation at a time."""
    features, maps = model.features, []
    x = F.max_pool2d(features["norm0"](features["conv0"](x)).relu(), 3, 2, 1)
    for stage in range(1, 5):
        made = [x]
        for layer in features[f"denseblock{stage}"].children():
            new = layer.conv1(layer.norm1(torch.cat(made, 1)).relu())
            made.append(layer.conv2(layer.norm2(new).relu()))
        x = torch.cat(made, 1)
        maps.append(x if stage < 4 else features["norm5"](x).relu())
        if stage < 4:
            transition = features[f"transition{stage}"]
            x = F.avg_pool2d(transition.conv(transition.norm(x).relu()), 2)
    return maps


@torch.no_grad()
def test_maps_are_those_of_the_dense_blocks() -> None:
    model = DenseNet(121, ibn="a").double().eval()
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    maps = model(x)
    assert model.out_channels == (256, 512, 1024, 1024) and model.reductions == (4, 8, 16, 32)
    for got, expected in zip(maps, naive(model, x), strict=True):
        torch.testing.assert_close(got, expected)


def test_only_the_maps_asked_for() -> None:
    model = DenseNet(121, out_indices=(1,))
    model.features["denseblock3"].forward = None  # calling it would raise
    assert [tuple(m.shape) for m in model.eval()(torch.randn(1, 3, 64, 64))] == [(1, 512, 8, 8)]
    assert model.out_channels == (512,) and not hasattr(model, "classifier")


@torch.no_grad()
@pytest.mark.parametrize("size", [(96, 64), (50, 33), (32, 32), (16, 48), (1, 1)])
def test_any_input_size(size) -> None:
    model = create_model("densenet121_ibn_a", num_classes=5).eval()
    assert model(torch.randn(2, 3, *size)).shape == (2, 5)


@pytest.mark.parametrize("options", [{"ibn": "a"}, {"norm": "bin"}, {"norm": "sn"}])
def test_a_training_step_is_finite(options) -> None:
    model = DenseNet(121, num_classes=3, **options)
    F.cross_entropy(model(torch.randn(2, 3, 64, 64)), torch.tensor([0, 2])).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key


@pytest.mark.parametrize("frozen", range(-1, 5))
def test_frozen_stages(frozen) -> None:
    model = DenseNet(121, ibn="a", frozen_stages=frozen).train()
    stages = {"conv0": 0, "norm0": 0, "denseblock1": 1, "transition1": 2, "denseblock2": 2}
    stages |= {"transition2": 3, "denseblock3": 3, "transition3": 4, "denseblock4": 4, "norm5": 4}
    assert set(stages) == set(model.features)
    for name, stage in stages.items():
        module, is_frozen = model.features[name], stage <= frozen
        assert all(p.requires_grad is not is_frozen for p in module.parameters())
        assert all(m.training is not is_frozen for m in module.modules())


def test_norm_eval_reaches_every_batch_norm() -> None:
    model = DenseNet(121, ibn="a", norm_eval=True).train()
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 121 and not any(m.training for m in norms)
    assert model.features["denseblock1"].training


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(depth=100), r"depth must be one of \[121, 161, 169, 201\], got 100"),
        (dict(depth=121, ibn="b"), "ibn must be None or 'a', got 'b'"),
        (dict(depth=121, ibn="a", norm="gn"), "'bn' or 'syncbn', got norm='gn'"),
        (dict(depth=121, out_indices=(4,)), "DenseNet: out_indices are stages 0 to 3"),
        (dict(depth=161, norm="gn"), "channels do not divide into 32 groups"),
    ],
)
def test_wrong_arguments(wrong, message) -> None:
    with pytest.raises(ValueError, match=message):
        DenseNet(**wrong)


def test_builds_from_mmengines_registry() -> None:
    from mmengine.registry import MODELS

    model = MODELS.build(dict(type="backbones.DenseNet", depth=121, ibn="a"))
    assert isinstance(model, DenseNet)
