from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from backbones import BIN, IBN, ILM, SN, ResNet, create_model, list_models
from backbones.blocks import (
    BasicBlock,
    Bottleneck,
    PreactBasicBlock,
    PreactBottleneck,
    SqueezeExcite,
)


@torch.no_grad()
@pytest.mark.parametrize("name", ["resnet18_ibn_a", "resnet18_ibn_b", "resnet50_ibn_b"])
def test_contrast_changes_ibn_a_and_not_ibn_b(name, fill_by_rule) -> None:
    model = fill_by_rule(create_model(name)).eval()
    x = torch.randn(2, 3, 96, 96)
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


@pytest.mark.parametrize("size", [(224, 224), (128, 64), (97, 33), (32, 32), (5, 1)])
@pytest.mark.parametrize("name", ["resnet18_ibn_a", "resnet18_snv2"])
def test_any_input_size(name, size) -> None:
    model = create_model(name, num_classes=5).eval()
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


def test_frozen_last_stage_of_the_preactivated_net_includes_its_norm() -> None:
    model = ResNet(18, norm="bn", preact=True, frozen_stages=4).train()
    assert not any(p.requires_grad for p in model.parameters())
    assert not any(m.training for m in model.bn_out.modules())
    assert ResNet(18, preact=True, frozen_stages=3).train().bn_out.training


@pytest.mark.parametrize("name", ["resnet18", "resnet18_ibn_a", "resnet18_bin", "resnet18_snv2"])
def test_norm_eval_reaches_all_that_keep_statistics(name) -> None:
    model = create_model(name, num_classes=0, norm_eval=True).train()
    keeping = [
        m for m in model.modules() if hasattr(m, "running_var") and m.running_var is not None
    ]
    assert len(keeping) >= 17 and not any(m.training for m in keeping)
    before = copy.deepcopy(dict(model.named_buffers()))
    model(torch.randn(2, 3, 32, 32))
    assert all(torch.equal(value, before[key]) for key, value in model.named_buffers())
    assert model.layer1.training
    model.norm_eval = False
    model.train()(torch.randn(2, 3, 32, 32))
    assert not all(torch.equal(value, before[key]) for key, value in model.named_buffers())


def test_memory_format_is_kept() -> None:
    model = ResNet(18, ibn="a", out_indices=(3,)).to(memory_format=torch.channels_last)
    x = torch.randn(2, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    assert model(x)[0].is_contiguous(memory_format=torch.channels_last)


TRAINED = [
    *list_models("resnet18*"),
    *(name for name in list_models("resnet50*") if "3x3" not in name),
    *("resnext50_ibn_a", "se_resnet50_ibn_a", "resnet50_3x3_ilm_gn"),
]


@pytest.mark.parametrize("name", TRAINED)
def test_a_training_step_is_finite(name) -> None:
    size = 16 if "3x3" in name else 40  # layer4 sees 2x2
    model = create_model(name, num_classes=3).train()
    x, labels = torch.randn(2, 3, size, size), torch.tensor([0, 2])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    before = model.fc.weight.detach().clone()
    F.cross_entropy(model(x), labels).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key
    optimizer.step()
    assert not torch.equal(model.fc.weight, before)
    assert F.cross_entropy(model(x), labels).isfinite()
    assert all(value.isfinite().all() for value in model.buffers())


def naive(block: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The block of the papers, one operation at a time."""
    stages = range(1, 4 if hasattr(block, "conv3") else 3)
    pairs = [(getattr(block, f"conv{i}"), getattr(block, f"bn{i}")) for i in stages]
    if isinstance(block, (PreactBasicBlock, PreactBottleneck)):
        out = activated = pairs[0][1](x).relu()
        out = pairs[0][0](out)
        for conv, norm in pairs[1:]:
            out = conv(norm(out).relu())
        return out + (x if block.downsample is None else block.downsample(activated))
    out = x
    for conv, norm in pairs[:-1]:
        out = norm(conv(out)).relu()
    out = pairs[-1][1](pairs[-1][0](out))
    if block.se is not None:
        squeeze, excite = block.se.fc[0].weight, block.se.fc[2].weight
        gate = torch.sigmoid((out.mean((2, 3)) @ squeeze.T).relu() @ excite.T)
        out = torch.einsum("nchw,nc->nchw", out, gate)
    out = out + (x if block.downsample is None else block.downsample(x))
    return (out if block.IN is None else block.IN(out)).relu()


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("norm", ["bn", "sn", {"type": "ILM", "base": "ln"}])
@pytest.mark.parametrize(
    ("block", "options"),
    [
        (BasicBlock, {}),
        (BasicBlock, {"se": True}),
        (Bottleneck, {}),
        (Bottleneck, {"output_norm": "in"}),
        (Bottleneck, {"se": True, "output_norm": "in", "dilation": 2}),
        (Bottleneck, {"groups": 32, "base_width": 4}),
        (PreactBasicBlock, {}),
        (PreactBottleneck, {"dilation": 2}),
    ],
)
def test_blocks_are_the_papers(block, options, norm, stride) -> None:
    fused = block(32 * block.expansion, 32, stride=stride, norm=norm, **options).double()
    plain = copy.deepcopy(fused)
    results = []
    base = torch.randn(3, 32 * block.expansion, 6, 5, dtype=torch.float64)
    for module, forward in ((fused, fused.__call__), (plain, lambda x: naive(plain, x))):
        x = base.clone().requires_grad_()
        y = forward(x)
        y.square().sum().backward()
        results.append([y, x.grad, *(p.grad for p in module.parameters())])
        assert torch.equal(x, base)
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize(
    "name", ["se_resnet152_ibn_a", "resnext101_ibn_a", "resnet101_ibn_b", "resnet152_sn"]
)
def test_deep_networks_are_made_of_the_papers_blocks(name, fill_by_rule) -> None:
    """Also where logits in float32 say little, because the network amplifies rounding."""
    model = fill_by_rule(create_model(name)).double().eval()
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    expected = F.max_pool2d(model.bn1(model.conv1(x)).relu(), 3, 2, 1)
    for layer in (model.layer1, model.layer2, model.layer3, model.layer4):
        for block in layer:
            expected = naive(block, expected)
    expected = F.linear(expected.mean((2, 3)), model.fc.weight, model.fc.bias)
    assert float((model(x) - expected).norm()) < 1e-6 * float(expected.norm())


def test_preactivated_net_is_its_parts() -> None:
    model = ResNet(18, norm="in", preact=True).double().eval()
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    *maps, last = model(x)
    expected = F.max_pool2d(model.bn1(model.conv1(x)).relu(), 3, 2, 1)
    for layer, got in zip([model.layer1, model.layer2, model.layer3], maps, strict=True):
        expected = layer(expected)
        torch.testing.assert_close(got, expected)
        assert (got < 0).any()
    torch.testing.assert_close(last, model.bn_out(model.layer4(expected)).relu())


def test_small_image_stem_keeps_the_size() -> None:
    model = ResNet(18, stem="3x3").eval()
    assert model.reductions == (1, 2, 4, 8)
    assert [m.shape[-1] for m in model(torch.randn(1, 3, 32, 32))] == [32, 16, 8, 4]
    assert model.conv1.weight.shape == (64, 3, 3, 3)


def test_block_override_gives_the_networks_of_the_ilm_authors() -> None:
    with torch.device("meta"):
        theirs = create_model("resnet50_3x3_ilm_gn", num_classes=10, block="basic")
        same = create_model("resnet34_3x3_ilm_gn", num_classes=10)
        ours = create_model("resnet50_3x3_ilm_gn", num_classes=10)
    shapes = {key: value.shape for key, value in theirs.state_dict().items()}
    assert shapes == {key: value.shape for key, value in same.state_dict().items()}
    assert len(ours.state_dict()) > len(shapes)
    assert theirs.out_channels == (64, 128, 256, 512)


@pytest.mark.parametrize("name", ["resnet50", "resnext50", "resnet18_3x3_ilm_gn"])
def test_convolutions_start_at_the_authors_deviation(name) -> None:
    for module in create_model(name).modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 10_000:
            height, width = module.kernel_size
            expected = (2 / (height * width * module.out_channels)) ** 0.5
            weight = module.weight.detach()
            assert float(weight.std()) == pytest.approx(expected, rel=0.05)
            assert abs(float(weight.mean())) < 0.05 * expected


def test_last_gamma_starts_the_blocks_as_their_shortcuts() -> None:
    model = ResNet(50, norm="bn", last_gamma=True)
    x = torch.randn(2, 256, 4, 4)
    torch.testing.assert_close(model.layer1[1](x), x.relu())
    assert model.layer1[0].downsample[1].weight.all() and model.bn1.weight.all()


def test_dropout_acts_in_training_only() -> None:
    model = ResNet(18, dropout=0.5, num_classes=3, norm="gn")
    x = torch.randn(2, 3, 32, 32)
    assert not torch.equal(model.train()(x), model(x))
    assert torch.equal(model.eval()(x), model(x))
    assert [key for key in model.state_dict() if "drop" in key] == []


@pytest.mark.parametrize(
    ("options", "layer", "count"),
    [
        (dict(norm="bin"), BIN, 20),
        (dict(norm="sn"), SN, 20),
        (dict(norm="sn", preact=True), SN, 18),
        (dict(norm="in"), nn.InstanceNorm2d, 20),
        (dict(norm="gn"), nn.GroupNorm, 20),
        (dict(norm=dict(type="ILM", base="in")), ILM, 20),
    ],
)
def test_every_norm_is_the_one_asked_for(options, layer, count) -> None:
    with torch.device("meta"):
        model = ResNet(18, **options)
    norms = [m for m in model.modules() if isinstance(m, layer)]
    assert len(norms) == count
    assert layer is nn.BatchNorm2d or not any(
        isinstance(m, nn.BatchNorm2d) for m in model.modules()
    )


def test_ibn_takes_over_what_is_said_of_the_batch_norm() -> None:
    model = ResNet(18, ibn="a", norm=dict(type="syncbn", eps=1e-3, momentum=0.2))
    first = model.layer1[0].bn1
    assert isinstance(first, IBN) and first.sync
    assert (first.BN.eps, first.BN.momentum, first.IN.eps) == (1e-3, 0.2, 1e-3)


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
        (dict(depth=18, num_classes=-1), "num_classes is a number of classes, or 0"),
        (dict(depth=18, stem="5x5"), "stem must be '7x7' or '3x3', got '5x5'"),
        (dict(depth=18, block="wide"), "block must be None, 'basic' or 'bottleneck'"),
        (dict(depth=18, dropout=1.0), "dropout is a share"),
        (dict(depth=18, groups=32, base_width=4), "basic block has no groups.*block='bottleneck'"),
        (dict(depth=50, groups=0), "groups and base_width are 1 or more"),
        (dict(depth=18, ibn="a", norm="sn"), "'bn' or 'syncbn', got norm='sn'"),
        (dict(depth=18, ibn="b", norm=dict(type="BIN")), "'bn' or 'syncbn'"),
        (dict(depth=18, preact=True, ibn="a", se=True), "pre-activation network has no ibn, se"),
        (dict(depth=18, norm="ilm", last_gamma=True), "ILM has none"),
        (dict(depth=18, norm="batch"), "unknown norm 'batch'.*choose one of.*'bn'"),
        (dict(depth=50, norm=dict(type="GN", num_groups=48)), "64 channels do not divide into 48"),
    ],
)
def test_wrong_arguments(wrong, message) -> None:
    with pytest.raises(ValueError, match=message):
        ResNet(**wrong)


def test_squeeze_excite_needs_enough_channels() -> None:
    with pytest.raises(ValueError, match="8 channels cannot be reduced 16 times"):
        SqueezeExcite(8)


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
