"""Loading weights: every known layout, all or nothing, and a report that tells it all."""

from __future__ import annotations

import collections
import logging

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from backbones import SN, create_model
from backbones.layouts import RULES, KeyRule
from backbones.weights import CheckpointError, LoadReport, WeightsMismatchError, load_weights


class Net(nn.Module):
    """A small network with the names of a ResNet."""

    def __init__(self, num_classes=5, width=4):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = nn.Sequential(nn.Conv2d(width, width, 1))
        if num_classes:
            self.fc = nn.Linear(width, num_classes)


def random_state(model, seed=1):
    """A state dict for ``model`` in which no tensor has its initial value."""
    generator = torch.Generator().manual_seed(seed)
    return collections.OrderedDict(
        (key, (torch.rand(value.shape, generator=generator) * 90 + 1).to(value.dtype))
        for key, value in model.state_dict().items()
    )


def copied(model):
    return {key: value.clone() for key, value in model.state_dict().items()}


def assert_state(model, expected):
    found = model.state_dict()
    assert set(found) == set(expected)
    for key, value in expected.items():
        assert torch.equal(found[key], value), key


def prefixed(state, prefix):
    return {prefix + key: value for key, value in state.items()}


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Net()


@pytest.fixture
def state(model):
    return random_state(model)


# ---------------------------------------------------------------------------------- the layouts


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {"model": s, "optimizer": {"state": {0: {"m": torch.ones(2)}}}},
        lambda s: {"net": s, "max_acc": 0.7, "n_epoch": torch.tensor(3)},
        lambda s: {"ict": s, "": 90},
        lambda s: {"model": {"state_dict": s}},
        lambda s: {"some_name": s, "epoch": 3},
        lambda s: {"state_dict": s, "state_dict_ema": prefixed(s, "x.")},
        lambda s: prefixed(s, "module."),
        lambda s: {"ict": prefixed(s, "module.")},
        lambda s: {"state_dict": prefixed(s, "module."), "best_prec1": np.float64(1)},
        lambda s: prefixed(s, "module.module."),
        lambda s: prefixed(s, "_orig_mod."),
        lambda s: prefixed(s, "module._orig_mod."),
        lambda s: {k.replace("layer1.", "layer1.module."): v for k, v in s.items()},
        lambda s: prefixed(s, "model."),
        lambda s: prefixed(s, "model.module."),
        lambda s: prefixed(s, "backbone."),
        lambda s: {"meta": {}, "state_dict": prefixed(s, "module.backbone.")},
        lambda s: prefixed(s, "model.backbone."),
        lambda s: {**prefixed(s, "backbone."), "decode_head.conv.weight": torch.ones(3)},
        lambda s: {**prefixed(s, "base."), "classifier.weight": torch.ones(3)},
        lambda s: {
            **prefixed(s, "encoder_q."),
            **prefixed(s, "encoder_k."),
            "queue": torch.ones(3),
        },
        lambda s: {key: value.numpy() for key, value in s.items()},
        lambda s: {key: nn.Parameter(v) if v.is_floating_point() else v for key, v in s.items()},
    ],
)
def test_layouts(model, state, wrap):
    report = load_weights(model, wrap(state))
    assert_state(model, state)
    assert report.ok
    assert set(report.loaded) == set(state)
    assert not (report.missing or report.unexpected or report.mismatched)


def test_report_of_a_subtree(model, state):
    head = {"decode_head.conv.weight": torch.ones(3)}
    report = load_weights(model, {"state_dict": {**prefixed(state, "backbone."), **head}})
    assert report.layout[0] == "inside 'state_dict'"
    assert "backbone." in report.layout[1]
    assert report.renamed["backbone.conv1.weight"] == "conv1.weight"
    assert list(report.dropped) == ["decode_head.conv.weight"]
    assert "1 left aside, other parts of a larger model: decode_head.conv.weight" in str(report)


def test_classifier_beside_a_backbone(model, state):
    """mmpretrain keeps the network below 'backbone.' and its classifier in the head."""
    given = {key.replace("fc.", "head.fc."): value for key, value in state.items()}
    given = {k if k.startswith("head.") else f"backbone.{k}": v for k, v in given.items()}
    assert load_weights(model, {"state_dict": given}).ok
    assert_state(model, state)


def test_prefix_stays_when_the_model_has_it_too(state):
    whole = nn.ModuleDict({"backbone": Net(), "module": Net()})
    expected = {**prefixed(state, "backbone."), **prefixed(state, "module.")}
    report = load_weights(whole, expected)
    assert report.layout == ()
    assert_state(whole, expected)


def test_wrapped_models_load_plain_checkpoints(state):
    model = Net()
    report = load_weights(nn.DataParallel(model), state)
    assert "conv1.weight" in report.loaded
    assert_state(model, state)
    model = Net()
    load_weights(torch.compile(model), state)
    assert_state(model, state)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_files(tmp_path, model, state, suffix):
    path = tmp_path / f"w{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": prefixed(state, "module.")}, path)
    else:
        from safetensors.torch import save_file

        save_file(dict(state), path)
    report = load_weights(model, str(path))
    assert_state(model, state)
    assert report.source == str(path)


def test_torchvision_resnet_gives_the_same_logits():
    theirs = torchvision.models.resnet18()
    ours = create_model("resnet18")
    load_weights(ours, random_small(theirs))
    image = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    theirs.eval(), ours.eval()
    with torch.no_grad():
        torch.testing.assert_close(ours(image), theirs(image))


def random_small(model):
    """Give the running statistics of ``model`` other values than the initial ones."""
    generator = torch.Generator().manual_seed(3)
    for key, value in model.state_dict().items():
        if key.endswith(("running_mean", "running_var")):
            value.add_(torch.rand(value.shape, generator=generator))
    return model.state_dict()


@pytest.mark.parametrize("first", ["sn", "gn", "in", "ln"])
def test_norms_named_by_their_kind(model, state, first):
    given = {key.replace("bn1.", f"{first}1."): value for key, value in state.items()}
    report = load_weights(model, given)
    assert_state(model, state)
    assert report.renamed[f"{first}1.weight"] == "bn1.weight"


def test_old_densenet_names():
    new = torchvision.models.DenseNet(8, (2, 1), 16, num_classes=3)
    expected = random_state(new)
    old = {
        key.replace("norm1.", "norm.1.").replace("norm2.", "norm.2.")
        .replace("conv1.", "conv.1.").replace("conv2.", "conv.2."): value
        for key, value in expected.items()
    }  # fmt: skip
    old["features.norm5.bias"] = expected["features.norm5.bias"]
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    report = load_weights(new, {"state_dict": prefixed(old, "module.")})
    assert_state(new, expected)
    assert any("DenseNet" in name for name in report.layout)


def test_a_new_layout_is_one_more_rule(monkeypatch, model, state):
    rule = KeyRule(
        "stem of the other code",
        lambda keys, model_keys: "stem.weight" in keys,
        lambda key: {"stem.weight": "conv1.weight"}.get(key, key),
    )
    other = {{"conv1.weight": "stem.weight"}.get(key, key): v for key, v in state.items()}
    with pytest.raises(WeightsMismatchError):
        load_weights(model, other)
    monkeypatch.setattr("backbones.layouts.RULES", [*RULES, rule])
    report = load_weights(model, other)
    assert report.layout == ("stem of the other code",)
    assert report.renamed == {"stem.weight": "conv1.weight"}
    assert_state(model, state)


# ---------------------------------------------------------------------------- what is tolerated


def test_checkpoint_without_batch_counters(model, state):
    del state["bn1.num_batches_tracked"]
    report = load_weights(model, state)
    assert report.missing == ("bn1.num_batches_tracked",)
    assert list(report.tolerated) == ["bn1.num_batches_tracked"]
    assert report.ok
    assert "older than batch counters" in str(report)


def test_a_missing_norm_is_not_excused_by_its_counter(model, state):
    state = {key: value for key, value in state.items() if not key.startswith("bn1.")}
    with pytest.raises(WeightsMismatchError) as error:
        load_weights(model, state)
    assert not error.value.report.tolerated
    assert len(error.value.report.missing) == 5


@pytest.mark.parametrize("name", ["fc", "classifier", "head", "head.fc"])
def test_model_without_classifier(state, name):
    model = Net(num_classes=0)
    given = {key.replace("fc.", f"{name}."): value for key, value in state.items()}
    report = load_weights(model, given)
    assert set(report.unexpected) == {f"{name}.weight", f"{name}.bias"}
    assert report.ok
    assert "the model has no classifier" in str(report)
    assert torch.equal(model.conv1.weight, state["conv1.weight"])


def test_device_dtype_and_gradient_flags_of_the_model_stay(state):
    model = Net().half()
    model.conv1.weight.requires_grad_(False)
    load_weights(model, {k: v.double() if v.is_floating_point() else v for k, v in state.items()})
    assert model.conv1.weight.dtype == torch.float16
    assert not model.conv1.weight.requires_grad
    assert model.fc.weight.requires_grad
    torch.testing.assert_close(model.fc.weight.float(), state["fc.weight"], rtol=1e-3, atol=0)


class Twins(nn.Module):
    """One tensor under two names, as ILM's encoder."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(2, 2)
        self.b = nn.Linear(2, 2)
        self.b.weight = self.a.weight


@pytest.mark.parametrize("absent", ["a.weight", "b.weight"])
def test_one_name_of_a_shared_tensor_is_enough(absent):
    model = Twins()
    state = random_state(model)
    state["b.weight"] = state["a.weight"].clone()
    expected = dict(state)
    del state[absent]
    report = load_weights(model, state)
    assert report.ok
    assert report.missing == (absent,)
    assert report.tolerated == {absent: "another name of a tensor that is there"}
    assert model.b.weight is model.a.weight
    assert_state(model, expected)


def test_a_shared_tensor_with_two_values_is_refused():
    model = Twins()
    before = copied(model)
    with pytest.raises(CheckpointError, match=r"'a.weight' and 'b.weight' are one tensor"):
        load_weights(model, random_state(model))
    assert_state(model, before)


def test_a_shared_tensor_must_come_under_some_name():
    model = Twins()
    state = {key: v for key, v in random_state(model).items() if not key.endswith("weight")}
    with pytest.raises(WeightsMismatchError) as error:
        load_weights(model, state)
    assert error.value.report.missing == ("a.weight", "b.weight")


def test_loaded_statistics_of_sn_are_no_sums():
    model = nn.Sequential(SN(4, using_moving_average=False))
    model(torch.randn(2, 4, 3, 3))
    with pytest.raises(RuntimeError, match="calibrate"):
        model.eval()(torch.randn(2, 4, 3, 3))
    load_weights(model, prefixed(SN(4).state_dict(), "0."))
    assert model(torch.randn(2, 4, 3, 3)).isfinite().all()


@pytest.mark.parametrize("container", ["", "state_dict"])
def test_sums_of_sn_stay_known_as_such(tmp_path, container):
    model = nn.Sequential(SN(4, using_moving_average=False))
    model(torch.randn(2, 4, 3, 3))
    state = nn.DataParallel(model).state_dict()
    torch.save({container: state} if container else state, tmp_path / "sums.pth")
    other = nn.Sequential(SN(4, using_moving_average=False)).eval()
    load_weights(other, tmp_path / "sums.pth")
    with pytest.raises(RuntimeError, match="sums over training batches"):
        other(torch.randn(2, 4, 3, 3))


def test_the_model_does_not_share_memory_with_the_source(model, state):
    load_weights(model, state)
    state["conv1.weight"].zero_()
    assert model.conv1.weight.abs().min() > 0


# ------------------------------------------------------------------- strict: everything or nothing


def without(*keys):
    return lambda s: {key: value for key, value in s.items() if key not in keys}


@pytest.mark.parametrize(
    "spoil",
    [
        without("conv1.weight"),
        without("fc.weight", "fc.bias"),
        lambda s: {**s, "extra.weight": torch.ones(1)},
        lambda s: {**s, "fc.bias": torch.ones(7)},
        lambda s: {**s, "layer1.0.weight": torch.ones(1)},
        lambda s: {"nothing": torch.ones(1)},
        lambda s: {**s, "module.fc.bias": torch.ones(5)},
        lambda s: {**s, "fc.weight": (s["fc.weight"] * 10).to(torch.int8)},
        lambda s: {**s, "fc.weight": s["fc.weight"].to(torch.complex64)},
        lambda s: {**s, "fc.weight": s["fc.weight"].to_sparse()},
        lambda s: {},
        lambda s: {"epoch": 3, "state_dict": {}},
        lambda s: {"backbone": s, "head": s},
    ],
)
def test_model_is_bit_identical_after_an_error(model, state, spoil):
    before = copied(model)
    with pytest.raises(CheckpointError):
        load_weights(model, spoil(state))
    assert_state(model, before)


def test_the_error_carries_the_whole_report(model, state):
    del state["conv1.weight"]
    state["fc.bias"] = torch.ones(7)
    state["extra.weight"] = torch.ones(1)
    with pytest.raises(WeightsMismatchError, match="nothing was loaded") as error:
        load_weights(model, state)
    report = error.value.report
    assert report.missing == ("conv1.weight",)
    assert report.unexpected == ("extra.weight",)
    assert report.mismatched == {"fc.bias": ((5,), (7,))}
    assert not report.ok
    for text in ("1 missing in the checkpoint: conv1.weight", "1 not in the model: extra.weight",
                 "fc.bias (model (5,), checkpoint (7,))"):  # fmt: skip
        assert text in str(error.value)


def test_both_copies_of_a_key_are_named(model, state):
    state["module.fc.bias"] = torch.ones(5)
    with pytest.raises(CheckpointError, match=r"'fc.bias' more than once \(fc.bias, module"):
        load_weights(model, state)


def test_quantised_weights_are_refused(model, state):
    state["fc.weight"] = state["fc.weight"].to(torch.int8)
    with pytest.raises(CheckpointError, match=r"'fc.weight' is torch.int8.*quantised"):
        load_weights(model, state)


def test_several_groups_must_be_chosen_from(model, state):
    with pytest.raises(CheckpointError, match=r"several groups .*\('first', 'second'\)"):
        load_weights(model, {"first": state, "second": state})


def test_no_tensors_at_all(model):
    with pytest.raises(CheckpointError, match=r"no tensors.*'epoch', 'best'"):
        load_weights(model, {"epoch": 1, "best": 0.5})


def test_a_model_is_not_a_source(model):
    with pytest.raises(TypeError, match="state_dict"):
        load_weights(model, Net())


def test_meta_model_is_refused(state):
    with torch.device("meta"):
        model = Net()
    with pytest.raises(ValueError, match="meta device"):
        load_weights(model, state)


def test_missing_file_hints(model, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"official_weights\('resnet50_ibn_a'\)"):
        load_weights(model, "resnet50_ibn_a")
    with pytest.raises(FileNotFoundError, match="address is not downloaded"):
        load_weights(model, "https://example.org/w.pth")
    with pytest.raises(FileNotFoundError, match="check the path"):
        load_weights(model, tmp_path / "w.pth")


# ------------------------------------------------------------------------------------ not strict


def test_not_strict_loads_what_fits_and_says_everything(model, state, caplog):
    before = copied(model)
    given = {**state, "fc.bias": torch.ones(7), "extra.weight": torch.ones(1)}
    del given["conv1.weight"]
    with caplog.at_level(logging.WARNING, logger="backbones.weights"):
        report = load_weights(model, given, strict=False)
    assert_state(
        model,
        {**state, "fc.bias": before["fc.bias"], "conv1.weight": before["conv1.weight"]},
    )
    assert not report.ok
    assert set(report.loaded) == set(state) - {"fc.bias", "conv1.weight"}
    for key in ("conv1.weight", "fc.bias", "extra.weight"):
        assert key in caplog.text


def test_the_logged_report_is_complete_and_the_printed_one_short(caplog):
    model = nn.Sequential(*(nn.Linear(1, 1) for _ in range(40)))
    with caplog.at_level(logging.WARNING, logger="backbones.weights"):
        report = load_weights(model, {"0.weight": torch.ones(1, 1)}, strict=False)
    assert "39.bias" in caplog.text
    assert "and 73 more" in str(report)
    assert "39.bias" not in str(report)


def test_nothing_that_fits_is_always_an_error(model):
    before = copied(model)
    with pytest.raises(WeightsMismatchError, match=r"0 of the model's 10 tensors match"):
        load_weights(model, {"a.weight": torch.ones(1)}, strict=False)
    assert_state(model, before)


def test_success_is_logged_quietly(model, state, caplog):
    with caplog.at_level(logging.INFO, logger="backbones.weights"):
        load_weights(model, state)
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "10 of the model's 10 tensors match" in caplog.text


# ------------------------------------------------------------------------------------- diagnosis


def message(model, source):
    with pytest.raises(WeightsMismatchError) as error:
        load_weights(model, source)
    assert len(error.value.report.diagnosis) == 1
    assert error.value.report.diagnosis[0] in str(error.value)
    return error.value.report.diagnosis[0]


def test_plain_weights_into_ibn_and_reverse():
    plain, mixed = create_model("resnet18"), create_model("resnet18_ibn_a")
    text = message(mixed, plain.state_dict())
    assert "this looks like a plain ResNet-18; the model is a ResNet-18 with IBN-a" in text
    assert "official_weights('resnet18_ibn_a')" in text
    text = message(plain, prefixed(mixed.state_dict(), "module."))
    assert "this looks like a ResNet-18 with IBN-a; the model is a plain ResNet-18" in text
    assert "official_weights" not in text
    text = message(create_model("resnet18_ibn_b"), mixed.state_dict())
    assert "the model is a ResNet-18 with IBN-b" in text


def test_plain_weights_may_start_a_training():
    text = message(create_model("resnet18_bin"), create_model("resnet18").state_dict())
    assert "the model is a ResNet-18 with batch-instance norm" in text
    assert text.endswith("or start a training from these with init_from_plain(model, source).")
    text = message(create_model("resnet34_bin"), create_model("resnet18").state_dict())
    assert "init_from_plain" not in text


@pytest.mark.parametrize("name", ["resnet18_sn", "resnet18_snv2"])
def test_switchable_norm_with_and_without_bn(name):
    with_bn = create_model(name)
    without = create_model(name, norm={"type": "SN", "using_bn": False})
    text = message(with_bn, without.state_dict())
    assert "with switchable norm without BN; the model is" in text
    assert text.endswith(
        "choose among IN and LN. Create the model with norm=dict(type='SN', using_bn=False)."
    )
    assert "norm=dict(type='SN', using_bn=True)" in message(without, with_bn.state_dict())


def test_pre_activation():
    text = message(create_model("resnet18_sn"), create_model("resnet18_snv2").state_dict())
    assert "a pre-activation ResNet-18 with switchable norm; the model is a ResNet-18 with" in text


def test_ilm_of_another_base():
    text = message(create_model("resnet18_ilm_gn"), create_model("resnet18_ilm_in").state_dict())
    assert (
        "a ResNet-18 with ILM norm on IN or LN; the model is a ResNet-18 with ILM norm on GN"
        in (text)
    )


def test_ilm_cifar_networks_are_made_of_basic_blocks():
    given = create_model("resnet34_3x3_bn", num_classes=10).state_dict()
    text = message(create_model("resnet50_3x3_bn", num_classes=10), given)
    assert "ILM-Norm's CIFAR ResNet-50 is made of basic blocks" in text
    assert load_weights(create_model("resnet50_3x3_bn", num_classes=10, block="basic"), given).ok


@pytest.mark.parametrize("form", ["mmseg", "timm"])
def test_deep_stem(form):
    given = dict(create_model("resnet18").state_dict())
    stem = {
        "stem.0.weight": (32, 3, 3, 3),
        "stem.3.weight": (32, 32, 3, 3),
        "stem.6.weight": (64, 32, 3, 3),
    }
    del given["conv1.weight"]
    for key, shape in stem.items():
        given[key if form == "mmseg" else key.replace("stem", "conv1")] = torch.zeros(shape)
    text = message(create_model("resnet18"), given)
    assert "a plain ResNet-18 with a deep stem of three convolutions" in text
    assert "ResNetV1c and V1d" in text


def test_stem_of_small_images():
    text = message(create_model("resnet18"), create_model("resnet18_3x3_bn").state_dict())
    assert text == (
        "this looks like a plain ResNet-18 with a 3x3 stem; the model is a plain ResNet-18."
    )


def test_thin_networks():
    text = message(
        create_model("cifar_resnet20_bn", num_classes=10),
        create_model("cifar_resnet14_bin", num_classes=10).state_dict(),
    )
    assert (
        "a CIFAR-ResNet-14 with batch-instance norm; the model is a plain CIFAR-ResNet-20" in text
    )


@pytest.mark.parametrize(
    "name", ["resnet18_sn", "resnet18_ilm_in", "cifar_resnet20_bin", "se_resnet50_ibn_a"]
)
def test_a_part_of_a_network_is_refused_whole(name):
    model = create_model(name, num_classes=10)
    state = {k: v.clone() for k, v in model.state_dict().items() if not k.startswith("layer3.")}
    before = copied(model)
    with pytest.raises(WeightsMismatchError, match=r"missing in the checkpoint: layer3\.0\.conv1"):
        load_weights(model, state)
    assert_state(model, before)


def test_non_local_blocks(model, state):
    state["NL_2.0.g.weight"] = torch.ones(1)
    assert "non-local blocks" in message(model, state)


def test_another_depth():
    text = message(create_model("resnet34"), create_model("resnet18").state_dict())
    assert text == "this looks like a plain ResNet-18; the model is a plain ResNet-34."


def test_another_number_of_classes(state):
    text = message(Net(num_classes=11), state)
    assert "another number of classes: the checkpoint has 5, the model 11" in text
    assert "num_classes=5" in text


def test_checkpoint_without_classifier(model):
    assert "has no classifier" in message(model, random_state(Net(num_classes=0)))


def test_classifier_of_another_name(model, state):
    given = {key.replace("fc.", "head."): value for key, value in state.items()}
    assert "different names" in message(model, given)


def test_weights_of_a_part_of_the_model(state):
    assert "load into model.encoder." in message(nn.ModuleDict({"encoder": Net()}), state)


def test_model_is_a_part_of_the_checkpoint(model, state):
    assert "under 'a.b' in the checkpoint" in message(model, prefixed(state, "a.b."))


def test_report_without_anything_special_is_one_line():
    report = LoadReport(source="w.pth", loaded=("a", "b"))
    assert str(report) == "w.pth: 2 of the model's 2 tensors match"
