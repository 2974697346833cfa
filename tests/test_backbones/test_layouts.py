"""The authors' own names and others', read and written; nothing is lost on the way there and back.

The keys and shapes of the authors' networks are golden. Tensors are one number each, spread over
their shape without memory: which tensor went where is seen from the number.
"""

from __future__ import annotations

import functools
import json
import lzma
from pathlib import Path

import pytest
import torch
import torchvision

from backbones import create_model
from backbones.checkpoint import CheckpointError, checkpoint_bytes, read_checkpoint
from backbones.layouts import LAYOUTS, convert_state_dict, plan_renaming, translate
from backbones.recognise import recognise
from backbones.weights import load_weights

GOLDEN = Path(__file__).parent.parent / "golden"
PUBLISHED = json.loads(lzma.decompress((GOLDEN / "network_layouts.json.xz").read_bytes()))
ENCODERS = ("fc_weight.0.0.weight", "fc_bias.0.0.weight")


def numbered(shapes):
    """{key: shape} -> a state dict in which each tensor is full of its own number."""
    state = {
        key: torch.tensor(float(number)).expand(shape)
        for number, (key, shape) in enumerate(shapes.items(), 1)
    }
    for key in state:  # three names of one tensor
        for end in ENCODERS:
            if key.endswith(end):
                state[key] = state[key.removesuffix(end) + "fc_embed.0.weight"]
    return state


@functools.cache
def shapes_of(name, num_classes=1000, norm=None):
    """Keys and shapes of a zoo network."""
    with torch.device("meta"):
        model = create_model(name, num_classes=num_classes, **(json.loads(norm) if norm else {}))
    return {key: tuple(value.shape) for key, value in model.state_dict().items()}


def state_of(name, **arguments):
    """Numbered tensors of a zoo network's shapes."""
    return numbered(shapes_of(name, **arguments))


def numbers(state):
    return {key: (value.flatten()[0].item(), tuple(value.shape)) for key, value in state.items()}


def small(names):
    return [name for name in names if not any(depth in name for depth in ("101", "152", "201"))]


# ------------------------------------------------------------------------- the authors' networks


@pytest.mark.parametrize("published", small(PUBLISHED))
def test_published_names_become_those_of_the_zoo(published):
    entry = PUBLISHED[published]
    overrides = json.dumps(entry["overrides"]) if entry["overrides"] else None
    shapes = shapes_of(entry["name"], entry["num_classes"], overrides)
    given = numbered({f"module.{key}": tuple(shape) for key, shape in entry["state_dict"]})
    ours = translate(given, shapes.keys())
    assert {key: tuple(value.shape) for key, value in ours.state.items()} == shapes
    assert not ours.dropped
    for key, origin in ours.origin.items():  # each tensor went where its key says
        assert torch.equal(ours.state[key], given[origin])
    # and back again, under the names and in the order of the authors' own files
    theirs = convert_state_dict(ours.state, to=entry["authors"].partition("_")[0])
    bare = {key.removeprefix("module."): value for key, value in theirs.items()}
    assert list(bare) == [key for key, _ in entry["state_dict"]]
    assert numbers(bare) == numbers({k.removeprefix("module."): v for k, v in given.items()})


def fill(model, seed=5):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in model.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.rand(value.shape, generator=generator))
    return model


def renamed(state, *pairs):
    for old, new in pairs:
        state = {key.replace(old, new): value for key, value in state.items()}
    return state


DETECTOR = (
    *(("layer4.", "res5."), ("layer3.", "res4."), ("layer2.", "res3."), ("layer1.", "res2.")),
    *(("bn1.", "sn1."), ("bn2.", "sn2."), ("bn3.", "sn3.")),
)


def as_detector(state, body):
    """The names of SN's detectors, written down anew."""
    state = renamed(state, *DETECTOR)
    return {
        f"{body}{'' if key.startswith('res') else 'res1.'}{key}".replace(
            "res1.fc.", "classifier."
        ): value
        for key, value in state.items()
    }


@pytest.mark.parametrize(
    ("name", "publish"),
    [
        (
            "resnet18_sn",
            lambda s: {
                "epoch": 100,
                "model": "resnetv1sn18",
                "best_prec1": 70.0,
                "state_dict": renamed(
                    {f"module.{k}": v for k, v in s.items()}, (".bn1.", ".sn1."), (".bn2.", ".sn2.")
                ),
            },
        ),
        (
            "resnet18_snv2",
            lambda s: {
                "state_dict": renamed(
                    {f"module.{k}": v for k, v in s.items()},
                    *((".bn1.", ".sn1."), (".bn2.", ".sn2."), (".bn_out.", ".sn_out.")),
                )
            },
        ),
        ("resnet50_sn", lambda s: {"model": as_detector(s, "Conv_Body.")}),
        (
            "resnet50_sn",
            lambda s: {
                "model": {
                    **as_detector(s, "Conv_Body.conv_body."),
                    "Conv_Body.conv_top.weight": torch.ones(2),
                    "Conv_Body.conv_body.res1.sn1.batch_mean": torch.ones(1, 64, 1),
                    "RPN.FPN_RPN_conv.weight": torch.ones(2),
                    "Box_Head.fc1.weight": torch.ones(2),
                }
            },
        ),
        (
            "resnet50_sn",
            lambda s: {
                "model": {
                    key.replace("Conv_Body.res5.", "Box_Head.res5."): value
                    for key, value in as_detector(s, "Conv_Body.").items()
                }
            },
        ),
        (
            "resnet18_3x3_ilm_gn",
            lambda s: {
                "net": renamed(
                    {f"module.{k}": v for k, v in s.items()},
                    *(("downsample.", "shortcut."), ("module.fc.", "module.linear.")),
                ),
                "max_acc": 0.9,
                "max_accf": torch.tensor(0.9),
                "n_epoch": 350,
            },
        ),
        ("cifar_resnet20_bin", lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}}),
        ("resnet18_ibn_b", lambda s: {"ict": s}),
        (
            "resnet50_ibn_a",
            lambda s: {  # fast-reid
                "model": {
                    **{f"backbone.{k}": v for k, v in s.items() if not k.startswith("fc.")},
                    "heads.bottleneck.0.weight": torch.ones(2048),
                    "heads.weight": torch.ones(2, 2048),
                    "pixel_mean": torch.ones(1, 3, 1, 1),
                }
            },
        ),
    ],
)  # fmt: skip
def test_published_checkpoints_load_whole(name, publish):
    given = fill(create_model(name)).state_dict()
    classes = 0 if "heads.weight" in publish(given).get("model", {}) else 1000
    model = create_model(name, num_classes=classes)
    report = load_weights(model, publish(given))
    assert report.ok
    assert not (report.missing or report.unexpected)
    for key, value in model.state_dict().items():
        assert torch.equal(value, given[key]), key


def test_torchvision_densenet_gives_the_same_logits():
    theirs = fill(torchvision.models.DenseNet(32, (6, 12, 24, 16), 64)).eval()
    ours = create_model("densenet121").eval()
    assert load_weights(ours, theirs.state_dict()).ok
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(image), theirs(image))


def test_mmseg_resnet_gives_the_same_maps():
    pytest.importorskip("mmseg")
    from mmseg.models.backbones import ResNet

    theirs = ResNet(18)
    theirs.eval()
    ours = create_model("resnet18", num_classes=0).eval()
    head = {"decode_head.conv_seg.weight": torch.ones(1)}
    below = {f"backbone.{key}": value for key, value in theirs.state_dict().items()}
    report = load_weights(ours, {"meta": {}, "state_dict": below | head})
    assert list(report.dropped) == list(head)
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for mine, other in zip(ours(image), theirs(image), strict=True):
            torch.testing.assert_close(mine, other)


# --------------------------------------------------------------------------- squeeze and excite


def timm_names(state):
    """SE layers as timm has them: 1x1 convolutions with a bias."""
    result = {}
    for key, value in state.items():
        if ".se.fc." in key:
            stem = key.replace(".fc.0.", ".fc1.").replace(".fc.2.", ".fc2.").removesuffix("weight")
            result[f"{stem}weight"] = value[:, :, None, None]
            result[f"{stem}bias"] = torch.zeros(len(value))
        else:
            result[key] = value
    return result


def test_se_layers_of_timm():
    given = fill(create_model("se_resnet50_ibn_a", num_classes=0)).state_dict()
    model = create_model("se_resnet50_ibn_a", num_classes=0)
    report = load_weights(model, timm_names(given))
    assert report.ok
    assert set(report.dropped.values()) == {"zero biases of SE layers"}
    assert len(report.dropped) == 2 * 16
    for key, value in model.state_dict().items():
        assert torch.equal(value, given[key]), key


def test_biases_of_se_layers_are_not_lost_in_silence():
    given = timm_names(state_of("se_resnet50_ibn_a"))
    given["layer1.0.se.fc1.bias"] = torch.full((16,), 0.1)
    model = create_model("se_resnet50_ibn_a")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"'layer1.0.se.fc1.bias' is not zero"):
        load_weights(model, given)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


# ----------------------------------------------------------------------------- there and back

NETWORKS = {
    "resnet18": {},
    "resnet50": {},
    "resnet18_bin": {},
    "resnet18_gn": {},
    "resnet50_ibn_a": {},
    "resnet18_ibn_b": {},
    "resnext50": {},
    "resnext50_ibn_a": {},
    "se_resnet50": {},
    "se_resnet50_ibn_a": {},
    "resnet18_sn": {},
    "resnet50_sn": {},
    "resnet50_snv2": {},
    "resnet18_ilm_gn": {},
    "resnet18_3x3_bn": {},
    "resnet18_3x3_ilm_in": {},
    "cifar_resnet20_in": {},
    "cifar_resnet44_bin": {},
    "cifar_resnet44_bn_basic": {},
    "densenet121": {},
    "densenet121_ibn_a": {},
}
WITHOUT_CLASSIFIER = ("mmseg", "fastreid", "strong_baseline")


@pytest.fixture(scope="module")
def states():
    return {name: state_of(name, num_classes=7) for name in NETWORKS}


@pytest.mark.parametrize("to", LAYOUTS)
def test_there_and_back_is_the_identity(states, to):
    possible = 0
    for name, state in states.items():
        if to in WITHOUT_CLASSIFIER:
            state = {k: v for k, v in state.items() if not k.startswith(("fc.", "classifier."))}
        architecture = recognise({key: tuple(value.shape) for key, value in state.items()})
        if LAYOUTS[to].refusal(architecture):
            with pytest.raises(CheckpointError, match="cannot hold"):
                convert_state_dict(state, to=to)
            continue
        possible += 1
        there = plan_renaming(state, to)
        assert not there.left_out
        container = {there.container: there.state_dict} if there.container else there.state_dict
        back = plan_renaming(container, "ours")
        assert list(back.state_dict) == list(state), name
        assert numbers(back.state_dict) == numbers(state), name
        assert back.architecture == architecture
    assert possible > 0


@pytest.mark.parametrize(
    ("name", "possible"),
    [
        ("resnet50", "ours torchvision timm mmseg mmpretrain ilm fastreid strong_baseline"),
        ("resnet50_ibn_a", "ours mmseg ibn fastreid strong_baseline"),
        ("resnet18_ibn_b", "ours mmseg ibn"),
        ("se_resnet50", "ours timm mmseg mmpretrain fastreid strong_baseline"),
        ("resnet18_sn", "ours mmseg mmpretrain sn"),
        ("resnet50_sn", "ours mmseg mmpretrain sn sndet sndet_fpn"),
        ("resnet50_snv2", "ours mmseg sn"),
        ("resnet18_bin", "ours mmseg mmpretrain"),
        ("resnet18_gn", "ours torchvision timm mmseg mmpretrain"),
        ("resnet18_3x3_bn", "ours mmseg mmpretrain ilm"),
        ("cifar_resnet44_bin", "ours mmseg bin"),
        ("densenet121", "ours torchvision timm mmseg densenet_old"),
        ("densenet121_ibn_a", "ours mmseg ibn densenet_old"),
    ],
)
def test_which_targets_are_possible(states, name, possible):
    architecture = recognise({k: tuple(v.shape) for k, v in states[name].items()})
    assert {key for key, it in LAYOUTS.items() if not it.refusal(architecture)} == set(
        possible.split()
    )


@pytest.mark.parametrize(
    ("name", "to", "reason"),
    [
        ("resnet50_ibn_a", "torchvision", "it has no IBN-a, only batch norm or IN, LN or GN"),
        ("resnet18_3x3_bn", "timm", "a 7x7 or deep stem, this one a 3x3 stem"),
        ("densenet121", "ilm", "it has no DenseNet, only ResNet"),
        ("resnet18_sn", "sndet", "bottlenecks only"),
    ],
)
def test_an_impossible_target_says_why_and_what_is_possible(states, name, to, reason):
    with pytest.raises(CheckpointError, match=reason) as error:
        convert_state_dict(states[name], to=to)
    assert "Possible: ours, " in str(error.value)


def test_unknown_target(states):
    with pytest.raises(ValueError, match=r"unknown layout 'tv'; choose one of ours, torchvision"):
        convert_state_dict(states["resnet18"], to="tv")


def test_unknown_network():
    with pytest.raises(CheckpointError, match=r"none of our networks .* begin with features\.0"):
        convert_state_dict({"features.0.weight": torch.ones(1)})


def test_names_of_some_targets(states):
    sn = convert_state_dict(states["resnet50_snv2"], to="sn")
    assert {"module.sn1.weight", "module.layer1.0.sn3.bias", "module.sn_out.var_weight"} <= set(sn)
    detector = convert_state_dict(states["resnet50_sn"], to="sndet_fpn")
    body = "Conv_Body.conv_body."
    assert {
        f"{body}res1.conv1.weight",
        f"{body}res5.2.sn3.weight",
        f"{body}classifier.bias",
    } <= set(detector)
    ilm = convert_state_dict(states["resnet18_3x3_ilm_in"], to="ilm")
    assert {"module.layer2.0.shortcut.1.weight_bias", "module.linear.bias"} <= set(ilm)
    old = convert_state_dict(states["densenet121_ibn_a"], to="densenet_old")
    assert "features.denseblock1.denselayer1.norm.1.BN.weight" in old
    assert "features.norm0.weight" in old
    head = convert_state_dict(states["resnet18"], to="mmpretrain")
    assert {"backbone.conv1.weight", "head.fc.weight"} <= set(head)


def test_a_left_out_classifier_is_told(states):
    plan = plan_renaming(states["resnet18"], "mmseg")
    assert plan.left_out == dict.fromkeys(("fc.weight", "fc.bias"), "this layout has no classifier")


def test_zero_biases_are_added_for_timm(states):
    plan = plan_renaming(states["se_resnet50"], "timm")
    assert plan.state_dict["layer1.0.se.fc1.weight"].shape == (16, 256, 1, 1)
    assert plan.added["layer1.0.se.fc2.bias"] == "zero: this layer has no bias"
    assert not plan.state_dict["layer1.0.se.fc2.bias"].any()
    assert len(plan.added) == 2 * 16


def test_deep_stems_of_mmseg_and_timm():
    pytest.importorskip("mmseg")
    from mmseg.models.backbones import ResNetV1d

    theirs = ResNetV1d(depth=50).state_dict()
    state = numbered({f"backbone.{key}": tuple(value.shape) for key, value in theirs.items()})
    timm = convert_state_dict(state, to="timm")
    assert {
        "conv1.0.weight",
        "conv1.6.weight",
        "bn1.weight",
        "layer2.0.downsample.1.weight",
    } <= set(timm)
    assert torch.equal(timm["bn1.bias"], state["backbone.stem.7.bias"])
    assert numbers(convert_state_dict(timm, to="mmseg")) == numbers(state)
    with pytest.raises(CheckpointError, match="has a 7x7 stem, this one a deep stem"):
        convert_state_dict(state, to="torchvision")


# ---------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("to", ["ours", "ilm"])
def test_shared_tensors_survive_files(tmp_path, suffix, to):
    given = fill(create_model("resnet18_3x3_ilm_gn", num_classes=3))
    plan = plan_renaming(given.state_dict(), to)
    path = tmp_path / f"w{suffix}"
    path.write_bytes(checkpoint_bytes(plan.state_dict, suffix, container=plan.container))
    model = create_model("resnet18_3x3_ilm_gn", num_classes=3)
    report = load_weights(model, path)
    assert not (report.missing or report.unexpected)
    for key, value in given.state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key
    assert model.bn1.fc_weight[0][0].weight is model.bn1.fc_embed[0].weight
    if suffix == ".pth" and to == "ilm":
        assert list(read_checkpoint(path)) == ["net"]


def test_a_file_that_dropped_names_of_shared_tensors(tmp_path):
    """safetensors' own save_model keeps one name a tensor."""
    from safetensors.torch import save_model

    given = fill(create_model("resnet18_3x3_ilm_in", num_classes=3))
    save_model(given, str(tmp_path / "w.safetensors"))
    model = create_model("resnet18_3x3_ilm_in", num_classes=3)
    report = load_weights(model, tmp_path / "w.safetensors")
    assert report.ok
    assert set(report.tolerated.values()) == {"another name of a tensor that is there"}
    for key, value in given.state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key
    # and the authors' strict loading finds all of them again
    theirs = plan_renaming(tmp_path / "w.safetensors", "ilm")
    assert len(theirs.state_dict) == len(given.state_dict())
    assert len(theirs.added) == len(report.tolerated)


def test_a_slice_is_saved_without_its_surroundings():
    row = torch.zeros(1000, 100)[3]
    assert len(checkpoint_bytes({"a": row}, ".pth")) < 10_000
    with pytest.raises(ValueError, match=r"\.pth or \.safetensors"):
        checkpoint_bytes({"a": row}, ".bin")
