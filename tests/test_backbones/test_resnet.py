from __future__ import annotations

import pytest
import torch
from torch import nn

from backbones import IBN, ResNet, create_model


@pytest.fixture(scope="module", params=["resnet18_ibn_a", "resnet18_ibn_b", "resnet50_ibn_a"])
def network(request, fill_by_rule):
    return request.param, fill_by_rule(create_model(request.param)).eval()


def golden_input() -> torch.Tensor:
    import numpy as np

    images = np.random.default_rng(7).standard_normal((2, 3, 224, 224))
    return torch.tensor(images.astype(np.float32))


@torch.no_grad()
def test_golden_logits(network, golden_resnets) -> None:
    name, model = network
    golden = golden_resnets["logits"][name]
    logits = model(golden_input()).double()
    assert (logits[0, :5] - torch.tensor(golden["first5_row0"])).abs().max() < 1e-4 * golden["l2"]
    assert float(logits.norm()) == pytest.approx(golden["l2"], rel=1e-4)
    assert logits.argmax(1).tolist() == golden["argmax"]


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize(
    "name",
    ["resnet34_ibn_a", "resnet101_ibn_a", "resnet152_ibn_a", "resnet50_ibn_b", "resnet152_ibn_b"],
)
def test_golden_logits_of_the_deep(name, fill_by_rule, golden_resnets) -> None:
    test_golden_logits((name, fill_by_rule(create_model(name)).eval()), golden_resnets)


@torch.no_grad()
def test_contrast_changes_ibn_a_and_not_ibn_b(network) -> None:
    name, model = network
    x = golden_input()[:, :, :96, :96]
    logits, stronger = model(x), model(1.5 * x)
    change = float((stronger - logits).norm() / logits.norm())
    assert change < 1e-5 if name.endswith("b") else change > 0.1


@pytest.mark.parametrize(("depth", "count"), [(18, 6), (34, 13), (50, 13), (101, 30), (152, 47)])
def test_ibn_a_layers(depth, count) -> None:
    with torch.device("meta"):
        model = ResNet(depth, ibn="a")
    names = [name for name, module in model.named_modules() if isinstance(module, IBN)]
    assert len(names) == count
    assert all(n.endswith(".bn1") and not n.startswith("layer4") for n in names)


@pytest.mark.parametrize("size", [(224, 224), (128, 64), (97, 33), (32, 32)])
def test_any_input_size(size) -> None:
    model = create_model("resnet18_ibn_a", num_classes=5).eval()
    assert model(torch.randn(2, 3, *size)).shape == (2, 5)


def test_feature_maps_and_contract() -> None:
    model = create_model("resnet50", num_classes=0, out_indices=(0, 2, 3), last_stride=1)
    maps = model.eval()(torch.randn(1, 3, 64, 32))
    assert isinstance(maps, tuple) and model.out_channels == (256, 1024, 2048)
    assert model.reductions == (4, 16, 16)
    for feature, channels, reduction in zip(
        maps, model.out_channels, model.reductions, strict=True
    ):
        assert feature.shape == (1, channels, 64 // reduction, 32 // reduction)
    assert not hasattr(model, "fc")


def test_dilation_keeps_the_resolution_and_the_receptive_field() -> None:
    dilated = ResNet(18, strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2), out_indices=(3,))
    assert dilated.eval()(torch.randn(1, 3, 64, 64))[0].shape[-2:] == (4, 4)
    assert all(
        m.dilation == (2, 2)
        for m in dilated.layer4.modules()
        if getattr(m, "kernel_size", 0) == (3, 3)
    )


def test_stages_after_the_last_asked_for_are_not_run() -> None:
    model = ResNet(18, out_indices=(1,))
    model.layer3.forward = model.layer4.forward = None  # calling them would raise
    assert len(model(torch.randn(1, 3, 32, 32))) == 1


@pytest.mark.parametrize("frozen", range(-1, 5))
def test_frozen_stages(frozen) -> None:
    model = ResNet(18, ibn="a", frozen_stages=frozen).train()
    for index, name in enumerate(["bn1", "layer1", "layer2", "layer3", "layer4"]):
        module, is_frozen = getattr(model, name), index <= frozen
        assert all(p.requires_grad is not is_frozen for p in module.parameters())
        assert all(m.training is not is_frozen for m in module.modules())
    assert model.conv1.weight.requires_grad is (frozen < 0)


def test_norm_eval_reaches_the_batch_half_of_ibn() -> None:
    model = ResNet(18, ibn="a", norm_eval=True).train()
    batch_norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert batch_norms and not any(m.training for m in batch_norms)
    before = [m.running_mean.clone() for m in batch_norms]
    model(torch.randn(2, 3, 32, 32))
    assert all(torch.equal(m.running_mean, b) for m, b in zip(batch_norms, before, strict=True))
    assert model.layer1.training


def test_memory_format_is_kept() -> None:
    model = ResNet(18, ibn="a", out_indices=(3,)).to(memory_format=torch.channels_last)
    x = torch.randn(2, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    assert model(x)[0].is_contiguous(memory_format=torch.channels_last)


def test_every_parameter_gets_a_gradient() -> None:
    for ibn in (None, "a", "b"):
        model = ResNet(18, ibn=ibn, num_classes=3)
        model(torch.randn(2, 3, 64, 64)).square().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_exports_with_the_same_numbers() -> None:
    model = create_model("resnet18_ibn_a", num_classes=4).eval()
    x = torch.randn(2, 3, 64, 64)
    exported = torch.export.export(model, (x,)).module()
    torch.testing.assert_close(exported(x), model(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["mmengine", "mmseg"])
def test_builds_from_other_registries(name) -> None:
    registry = pytest.importorskip(f"{name}.registry", reason=f"{name} is not installed").MODELS
    model = registry.build(dict(type="backbones.ResNet", depth=18, ibn="b", out_indices=(1, 3)))
    assert isinstance(model, ResNet) and model.out_channels == (128, 512)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(depth=20), r"depth must be one of \[18, 34, 50, 101, 152\], got 20"),
        (dict(depth=18, ibn="c"), "ibn must be None, 'a' or 'b', got 'c'"),
        (dict(depth=18, strides=(1, 2)), "four stages"),
        (dict(depth=18, frozen_stages=5), "frozen_stages is -1"),
        (dict(depth=18, out_indices=(4,)), "out_indices are stages 0 to 3"),
        (dict(depth=18, out_indices=()), "at least one"),
    ],
)
def test_wrong_arguments(wrong, message) -> None:
    with pytest.raises(ValueError, match=message):
        ResNet(**wrong)


def test_pretrained_init_is_loaded_whole_and_never_unpickled(tmp_path) -> None:
    from backbones.weights import CheckpointError

    torch.save(ResNet(18, num_classes=3).state_dict(), tmp_path / "resnet18.pth")
    cfg = dict(type="Pretrained", checkpoint=str(tmp_path / "resnet18.pth"))
    model = ResNet(18, init_cfg=cfg)
    model.init_weights()
    saved = torch.load(tmp_path / "resnet18.pth", weights_only=True)
    assert torch.equal(model.conv1.weight, saved["conv1.weight"])
    with pytest.raises(CheckpointError):  # mmengine would load what happens to fit
        ResNet(18, ibn="a", init_cfg=cfg).init_weights()
