from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from backbones import create_model
from backbones.convert import convert_norm, plan_conversion
from backbones.norm import BIN, BN, GN, IBN, ILM, IN, LN, SN
from backbones.norm.base import Norm


def scrambled(model: nn.Module) -> nn.Module:
    """Norms with weights and statistics that are not the start's, in eval mode."""
    for module in model.modules():
        if isinstance(getattr(module, "running_var", None), Tensor):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            module.num_batches_tracked.fill_(7)
            module.weight.data.uniform_(0.5, 2)
            module.bias.data.normal_()
    return model.eval()


def small() -> nn.Sequential:
    """conv, BN, ReLU, conv, BN, named as in a ResNet."""
    first = nn.Sequential(nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32, eps=1e-3, momentum=0.2))
    second = nn.Sequential(nn.ReLU(), nn.Conv2d(32, 32, 3), nn.BatchNorm2d(32))
    model = nn.Sequential()
    model.add_module("layer1", first)
    model.add_module("layer2", second)
    return model


def outputs(model: nn.Module, x: Tensor, train: bool) -> Tensor:
    return copy.deepcopy(model).train(train)(x).detach()


# ------------------------------------------------------------------------------ what is equal


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize(
    "norm",
    [
        "bin",
        dict(type="IBN", ratio=0.0),
        dict(type="IBN", ratio=0.0, order="bn_in"),
        "syncbn",
    ],
)
def test_same_outputs_where_the_norms_agree(norm, train: bool) -> None:
    plain = scrambled(small())
    x = torch.randn(4, 3, 12, 12)
    converted = convert_norm(copy.deepcopy(plain), norm)
    assert isinstance(converted.layer1[1], Norm) and isinstance(converted.layer2[2], Norm)
    torch.testing.assert_close(outputs(converted, x, train), outputs(plain, x, train))


def test_running_statistics_move_as_before() -> None:
    plain = scrambled(small())
    converted = convert_norm(copy.deepcopy(plain), "bin")
    x = torch.randn(4, 3, 12, 12)
    plain.train()(x), converted.train()(x)
    for place in ("layer1.1", "layer2.2"):
        old, new = plain.get_submodule(place), converted.get_submodule(place)
        torch.testing.assert_close(new.running_mean, old.running_mean)
        torch.testing.assert_close(new.running_var, old.running_var)


def test_there_and_back_is_identical() -> None:
    plain = scrambled(small())
    state = copy.deepcopy(plain.state_dict())
    x = torch.randn(2, 3, 12, 12)
    expected = plain(x)
    back = convert_norm(convert_norm(plain, "bin"), "bn")
    assert back.state_dict().keys() == state.keys()
    for key, value in back.state_dict().items():
        assert torch.equal(value, state[key]), key
    torch.testing.assert_close(back(x), expected)


def test_sn_that_has_chosen_bn_is_nearly_bn() -> None:
    plain = scrambled(small())
    x = torch.randn(16, 3, 16, 16)
    converted = convert_norm(copy.deepcopy(plain), "sn")
    for module in converted.modules():
        if isinstance(module, SN):
            for weight in (module.mean_weight, module.var_weight):
                weight.data.copy_(torch.tensor([0.0, 0.0, 30.0]))
    torch.testing.assert_close(outputs(converted, x, False), outputs(plain, x, False))
    # in training the variances differ by the two corrections of their bias
    y, expected = outputs(converted, x, True), outputs(plain, x, True)
    torch.testing.assert_close(y, expected, rtol=0.02, atol=0.02)
    assert convert_norm(converted, "bn").layer1[1].momentum == pytest.approx(0.2)


def test_gn_of_torch_keeps_its_groups() -> None:
    plain = nn.Sequential(nn.Conv2d(3, 12, 3), nn.GroupNorm(4, 12, eps=1e-3))
    plain[1].weight.data.uniform_(0.5, 2)
    x = torch.randn(2, 3, 8, 8)
    expected = plain(x)
    converted = convert_norm(plain, "gn")
    assert isinstance(converted[1], GN) and converted[1].num_groups == 4
    torch.testing.assert_close(converted(x), expected)


# ------------------------------------------------------------------------------ what stays


NORMS: dict[str, tuple[Any, type[nn.Module]]] = {
    "bn": ("bn", BN),
    "in": ("in", IN),
    "ln": ("ln", LN),
    "gn": ("gn", GN),
    "ibn": ("ibn", IBN),
    "bn_in": (dict(type="IBN", order="bn_in", ratio=0.25), IBN),
    "bin": ("bin", BIN),
    "sn": ("sn", SN),
    "ilm": (dict(type="ILM", base="gn"), ILM),
}


def vectors(layer: nn.Module) -> tuple[Tensor, Tensor]:
    """Weight and bias of any norm, in the order of the channels."""
    if isinstance(layer, IBN):
        parts = (layer.IN, layer.BN) if layer.order == "in_bn" else (layer.BN, layer.IN)
        return torch.cat([p.weight for p in parts]), torch.cat([p.bias for p in parts])
    names = ("weight_bias", "bias_bias") if isinstance(layer, ILM) else ("weight", "bias")
    return tuple(getattr(layer, name).flatten() for name in names)


@pytest.mark.parametrize("source", NORMS)
@pytest.mark.parametrize("target", NORMS)
def test_every_pair_keeps_what_was_learned(source: str, target: str) -> None:
    old = convert_norm(scrambled(nn.BatchNorm2d(32, eps=1e-3)).double(), NORMS[source][0])
    expected = tuple(v.detach().clone() for v in vectors(old))
    spec, kind = NORMS[target]
    new = convert_norm(old, spec)
    # torch's own batch norm needs no replacement by ours
    assert type(new) is kind or (source == target == "bn" and type(new) is nn.BatchNorm2d)
    for value, wanted in zip(vectors(new), expected, strict=True):
        assert torch.equal(value, wanted) and value.dtype == torch.float64
    eps = new.BN.eps if isinstance(new, IBN) else new.eps
    assert eps == 1e-3 and not new.training
    assert new(torch.randn(2, 32, 5, 5, dtype=torch.float64)).isfinite().all()


def test_the_tensors_themselves_stay_where_shapes_agree() -> None:
    model = scrambled(small())
    before = dict(model.named_parameters())
    tracked = model.layer1[1].running_mean
    convert_norm(model, "bin")
    for name, parameter in model.named_parameters():
        assert name.endswith("gate") or parameter is before[name]
    assert model.layer1[1].running_mean is tracked
    assert int(model.layer1[1].num_batches_tracked) == 7


@pytest.mark.parametrize("order", ["in_bn", "bn_in"])
def test_ibn_splits_in_the_order_of_channels(order: str) -> None:
    plain = scrambled(nn.BatchNorm2d(7))
    expected = {k: v.clone() for k, v in plain.state_dict().items()}
    new = convert_norm(plain, dict(type="IBN", ratio=0.5, order=order))
    half = slice(3, 7) if order == "in_bn" else slice(0, 3)
    for name in ("weight", "bias", "running_mean", "running_var"):
        torch.testing.assert_close(new.state_dict()[f"BN.{name}"], expected[name][half])
    other = slice(0, 3) if order == "in_bn" else slice(3, 7)
    torch.testing.assert_close(new.IN.weight.data, expected["weight"][other])
    assert int(new.BN.num_batches_tracked) == 7


def test_momentum_is_what_is_replaced_for_bn_and_what_is_kept_for_sn() -> None:
    assert convert_norm(nn.BatchNorm2d(4, momentum=0.2), "bin").momentum == 0.2
    assert convert_norm(nn.BatchNorm2d(4, momentum=0.2), "sn").momentum == pytest.approx(0.8)
    assert convert_norm(SN(4, momentum=0.7), "bin").momentum == pytest.approx(0.3)
    explicit = convert_norm(nn.BatchNorm2d(4), dict(type="SN", momentum=0.6, eps=0.1))
    assert explicit.momentum == 0.6 and explicit.eps == 0.1
    assert convert_norm(nn.BatchNorm2d(4, momentum=None), "ibn").BN.momentum is None
    with pytest.raises(ValueError, match="momentum is None"):
        convert_norm(nn.BatchNorm2d(4, momentum=None), "sn")


@pytest.mark.parametrize("norm", ["bin", "sn", "ibn", "ilm"])
def test_frozen_stays_frozen(norm) -> None:
    model = small()
    model.layer1.requires_grad_(False).eval()
    if norm == "ibn":  # re-identification's fixed bias
        model.layer2[2].bias.requires_grad_(False)
    convert_norm(model, norm)
    assert not any(p.requires_grad for p in model.layer1.parameters())
    assert not model.layer1[1].training and model.layer2[2].training
    trained = {n for n, p in model.layer2[2].named_parameters() if p.requires_grad}
    everything = {n for n, _ in model.layer2[2].named_parameters()}
    assert trained == ({"IN.weight", "BN.weight"} if norm == "ibn" else everything)


def test_without_weight_and_bias() -> None:
    plain = nn.BatchNorm2d(8, affine=False)
    assert convert_norm(plain, "bin").weight is None
    ibn = convert_norm(plain, "ibn")  # always has them: they stay at 1 and 0
    assert not any(p.requires_grad for p in ibn.parameters())


def test_hooks_stay_and_can_be_removed() -> None:
    model, seen = small(), []
    handle = model.layer1[1].register_forward_hook(lambda *_: seen.append(1))
    convert_norm(model, "bin")
    model(torch.randn(2, 3, 8, 8))
    handle.remove()
    model(torch.randn(2, 3, 8, 8))
    assert seen == [1]


def test_one_layer_in_two_places_stays_one() -> None:
    shared = nn.BatchNorm2d(3)
    model = nn.ModuleDict({"a": nn.Sequential(shared), "b": nn.Sequential(nn.ReLU(), shared)})
    (step,) = plan_conversion(model, "bin")
    assert step.names == ("a.0", "b.1") and model["a"][0] is shared
    convert_norm(model, "bin", where="b")
    assert isinstance(model["a"][0], BIN) and model["a"][0] is model["b"][1]


def test_the_same_norm_again_keeps_what_it_has_learned() -> None:
    layer = BIN(8)
    layer.gate.data.uniform_(0, 1)
    assert convert_norm(layer, "bin") is layer
    again = convert_norm(layer, dict(type="BIN", eps=1e-2))
    assert again.eps == 1e-2 and torch.equal(again.gate, layer.gate)


def test_dimensions_follow_the_class() -> None:
    assert convert_norm(nn.BatchNorm3d(4), "sn").spatial_dims == (3,)
    assert convert_norm(nn.BatchNorm1d(4), "sn").spatial_dims == (0,)
    assert convert_norm(nn.BatchNorm1d(4), "sn", spatial_dims=1).spatial_dims == (1,)
    assert isinstance(convert_norm(SN(4, spatial_dims=0), "bn"), nn.BatchNorm1d)
    assert isinstance(convert_norm(SN(4, spatial_dims=3), "bn"), nn.BatchNorm3d)
    assert isinstance(convert_norm(nn.BatchNorm3d(4), "in"), nn.InstanceNorm3d)
    line = convert_norm(nn.BatchNorm1d(4), "bin", spatial_dims=1)
    assert line(torch.randn(2, 4, 9)).shape == (2, 4, 9)
    # what the class says wins: one call serves a network of both
    both = nn.Sequential(nn.BatchNorm2d(4), nn.BatchNorm1d(4))
    convert_norm(both, dict(type="SN", spatial_dims=1))
    assert [m.spatial_dims for m in both] == [(2,), (1,)]


def test_sync_stays_sync() -> None:
    group = object()
    plain = nn.SyncBatchNorm(8, process_group=group)
    for norm in ("bin", "sn", "ibn"):
        new = convert_norm(plain, norm)
        assert new.sync and new.process_group is group
    assert type(convert_norm(plain, "bn")) is BN and not convert_norm(plain, "bn").sync
    assert convert_norm(nn.BatchNorm2d(8), "syncbin").sync


def test_frozen_batch_norm_of_torchvision() -> None:
    plain = torchvision.ops.FrozenBatchNorm2d(8)
    for buffer in plain.buffers():
        buffer.uniform_(0.5, 2)
    x = torch.randn(2, 8, 5, 5)
    (step,) = plan_conversion(plain, "bin")
    assert "was frozen" in step.notes[0]
    new = convert_norm(plain.eval(), "bin")
    assert not any(p.requires_grad for p in new.parameters())
    torch.testing.assert_close(new(x), plain(x))


@pytest.mark.parametrize("norm", ["bin", "sn", "ibn"])
def test_unknown_statistics_are_0_and_1_and_said_to_be(norm) -> None:
    (step,) = plan_conversion(nn.GroupNorm(4, 8), norm)
    assert "backbones.calibrate" in " ".join(step.notes)
    holder = step.new.BN if norm == "ibn" else step.new
    assert (holder.running_mean == 0).all() and (holder.running_var == 1).all()


def test_only_names_change_that_must() -> None:
    model = create_model("resnet18", num_classes=3)
    keys = list(model.state_dict())
    convert_norm(model, "bin")
    assert [k for k in model.state_dict() if not k.endswith(".gate")] == keys
    convert_norm(model, "ibn", where="layer1")
    assert "layer1.0.bn1.IN.weight" in model.state_dict()


# ------------------------------------------------------------------------------ which layers


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (None, 2),
        ("layer1", 1),
        ("layer1.1", 1),
        (["layer1", "layer2"], 2),
        ("layer*", 2),
        ("*.2", 1),
        (lambda name, layer: layer.eps == 1e-3, 1),
    ],
)
def test_where(where, expected: int) -> None:
    model = convert_norm(small(), "bin", where=where)
    assert sum(isinstance(m, BIN) for m in model.modules()) == expected


def test_a_prefix_ends_at_a_dot() -> None:
    model = nn.ModuleDict({"layer1": nn.BatchNorm2d(4), "layer10": nn.BatchNorm2d(4)})
    convert_norm(model, "bin", where="layer1")
    assert isinstance(model["layer1"], BIN) and isinstance(model["layer10"], nn.BatchNorm2d)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("layr1", r"'layr1' fits no layer.*'layer1'"),
        (["layer1", "nothing"], "'nothing' fits no layer"),
        ([], "chooses none"),
        (lambda name, layer: False, "chooses none"),
    ],
)
def test_nothing_selected(where, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        convert_norm(small(), "bin", where=where)


def test_no_norm_at_all() -> None:
    with pytest.raises(ValueError, match="no such layer"):
        convert_norm(nn.Linear(2, 2), "bin")


# ------------------------------------------------------------------------------ what cannot be


class Positional(nn.Module):
    """A kind of norm that nobody knows."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))


class PositionalNorm(Positional):
    pass


def parametrised() -> nn.Module:
    return nn.utils.parametrizations.weight_norm(nn.BatchNorm2d(32).double())


@pytest.mark.parametrize(
    ("layer", "norm", "reason"),
    [
        (lambda: nn.LayerNorm(32), "bin", "tokens"),
        (lambda: nn.LayerNorm((32, 4, 4)), "gn", "tokens"),
        (lambda: nn.BatchNorm2d(24), "ilm", "multiple of 32"),
        (lambda: nn.BatchNorm2d(24), "gn", "do not divide"),
        (lambda: nn.BatchNorm1d(32), "in", "spatial_dims=1"),
        (lambda: nn.LazyBatchNorm2d(), "bin", "run one batch"),
        (parametrised, "bin", "remove_parametrizations"),
        (PositionalNorm, "bin", "PositionalNorm is a kind of norm"),
    ],
)
def test_refusals_list_everything_and_change_nothing(
    layer: Callable[[], nn.Module], norm: str, reason: str
) -> None:
    model = nn.ModuleDict({"good": nn.BatchNorm2d(32), "bad": layer()})
    before = dict(model.named_modules())
    message = f"(?s)1 of 2 layers.*nothing was changed.*bad: .*{reason}"
    with pytest.raises(ValueError, match=message) as error:
        convert_norm(model, norm)
    assert "good" not in str(error.value)
    assert dict(model.named_modules()) == before
    bad = model["bad"]
    convert_norm(model, norm, skip_impossible=True)
    assert isinstance(model["good"], Norm) and model["bad"] is bad


def test_skipped_layers_are_in_the_log(caplog) -> None:
    model = nn.ModuleDict({"good": nn.BatchNorm2d(32), "tokens": nn.LayerNorm(8)})
    with caplog.at_level("INFO", logger="backbones.convert"):
        convert_norm(model, "bin", skip_impossible=True)
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert len(warnings) == 1 and warnings[0].startswith("tokens: LayerNorm((8,)) stays")
    assert any("1 of 2 normalisation layers became bin" in r.getMessage() for r in caplog.records)


def test_unknown_norm_or_argument_is_no_reason_of_a_layer() -> None:
    with pytest.raises(ValueError, match="choose one of"):
        convert_norm(small(), "bni", skip_impossible=True)
    with pytest.raises(TypeError, match="ratioo"):
        convert_norm(small(), dict(type="IBN", ratioo=1), skip_impossible=True)
    with pytest.raises(ValueError, match="spatial_dims is 0 to 3"):
        convert_norm(small(), "bin", spatial_dims=4)


def test_a_plan_changes_nothing_and_can_be_read() -> None:
    model = small()
    before = dict(model.named_modules())
    lines = [str(step) for step in plan_conversion(model, "bin")]
    assert lines[0] == "layer1.1: BatchNorm2d(32) -> BIN(32)"
    assert dict(model.named_modules()) == before
    assert str(plan_conversion(model, "bn")[0]).endswith("stays as it is")


def test_a_forward_of_its_own_is_noted() -> None:
    class Doubled(nn.BatchNorm2d):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    (step,) = plan_conversion(Doubled(4), "bin")
    assert "forward of Doubled" in step.notes[0]


# ------------------------------------------------------------------------------ other people's


def one_step(model: nn.Module, size: int = 64) -> None:
    """Train on two images: every trained parameter gets a finite gradient, the norms' not zero."""
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    model.train()  # mmseg's returns nothing
    y = model(torch.randn(2, 3, size, size))
    y = y[-1] if isinstance(y, tuple) else y
    y.square().mean().backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and parameter.grad is not None:
            assert parameter.grad.isfinite().all(), name
    layers = [m for m in model.modules() if isinstance(m, Norm)]
    with_gradient = [m for m in layers if any(p.grad is not None for p in m.parameters())]
    assert len(with_gradient) > 0.9 * len(layers) > 0
    optimizer.step()


def names(model: nn.Module) -> set[str]:
    new = (".gate", ".mean_weight", ".var_weight", ".num_batches_tracked")
    return {key for key in model.state_dict() if not key.endswith(new)}


@pytest.mark.parametrize("network", ["mobilenet_v3_small", "regnet_y_400mf"])
@pytest.mark.parametrize("norm", ["bin", "sn"])
def test_torchvision(network: str, norm: str) -> None:
    model = torchvision.models.get_model(network, num_classes=4)
    before = names(model)
    convert_norm(model, norm)
    assert names(model) == before
    assert not any(type(m) is nn.BatchNorm2d for m in model.modules())
    one_step(model)


def test_torchvision_keeps_its_outputs_with_bin() -> None:
    model = scrambled(torchvision.models.mobilenet_v3_small(num_classes=4))
    x = torch.randn(2, 3, 64, 64)
    expected = model(x)
    torch.testing.assert_close(convert_norm(model, "bin")(x), expected, rtol=1e-4, atol=1e-4)


def test_timm_convnext() -> None:
    """LayerNorm2d normalises each position over the channels: only its weights can stay."""
    timm = pytest.importorskip("timm")
    model = timm.create_model("convnext_atto", pretrained=False, num_classes=4)
    before, weight = names(model), model.stem[1].weight
    steps = plan_conversion(model, "bin")
    assert all("every position" in step.notes[0] for step in steps)
    convert_norm(model, "bin", where=["stem", "stages"])
    assert names(model) - before == {
        f"{step.name}.running_{kind}"
        for step in steps
        if not step.name.startswith("head")
        for kind in ("mean", "var")
    }
    assert model.stem[1].weight is weight and model.stem[1].eps == 1e-6
    one_step(model)


def test_timm_resnest() -> None:
    timm = pytest.importorskip("timm")
    model = timm.create_model("resnest14d", pretrained=False, num_classes=4)
    before = names(model)
    convert_norm(model, "ibn", where="layer1")
    convert_norm(model, "sn", where=["layer2", "layer3"])
    kept = {n for n in before if not n.startswith("layer1")}
    assert kept <= names(model)
    assert all(".IN." in n or ".BN." in n for n in names(model) - before)
    one_step(model)


@pytest.mark.parametrize("norm", ["bin", dict(type="IBN", ratio=0.0)])
def test_timm_norms_that_end_in_an_activation(norm) -> None:
    layers = pytest.importorskip("timm.layers")
    plain = scrambled(layers.BatchNormAct2d(8, act_layer=nn.LeakyReLU))
    x = torch.randn(4, 8, 6, 6)
    converted = convert_norm(copy.deepcopy(plain), norm)
    assert isinstance(converted.act, nn.LeakyReLU)
    for train in (False, True):
        torch.testing.assert_close(outputs(converted, x, train), outputs(plain, x, train))
    copy.deepcopy(converted).train()(x).sum().backward()
    assert type(pickle.loads(pickle.dumps(converted))) is type(converted)
    assert convert_norm(converted, norm if norm == "bin" else "ibn") is converted
    back = convert_norm(converted, "bn").eval()
    torch.testing.assert_close(back(x), plain(x))
    synced = convert_norm(back, "syncbn")
    assert synced.sync and isinstance(synced.act, nn.LeakyReLU)


def test_timm_group_norm_with_activation() -> None:
    layers = pytest.importorskip("timm.layers")
    plain = layers.GroupNormAct(8, num_groups=4)
    x = torch.randn(2, 8, 6, 6)
    torch.testing.assert_close(convert_norm(plain, "gn")(x), plain(x))


def test_mmseg() -> None:
    backbones = pytest.importorskip("mmseg.models.backbones")
    model = backbones.ResNetV1c(depth=18, norm_cfg=dict(type="BN"), base_channels=16)
    before = names(model)
    convert_norm(model, "bin")
    assert names(model) == before
    one_step(model)
