"""Starting from plain weights: every number at its place, and a report that says what is new."""

from __future__ import annotations

import collections

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from backbones import BIN, IBN, ILM, SN, build_norm, create_model, sync_norms
from backbones.from_plain import init_from_plain
from backbones.weights import CheckpointError, WeightsMismatchError


def random_batch_norm(channels=64):
    """Weights and statistics of a batch norm, none at its start."""
    return {
        "weight": torch.rand(channels) + 0.5,
        "bias": torch.randn(channels),
        "running_mean": torch.randn(channels),
        "running_var": torch.rand(channels) + 0.5,
        "num_batches_tracked": torch.tensor(17),
    }


def random_network(name, **arguments):
    """A plain network with statistics of a trained one."""
    model = create_model(name, **arguments)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.load_state_dict(random_batch_norm(module.num_features))
    return model


def start(norm, plain=None):
    """A norm of 64 channels, started from ``plain``: (its state, the report)."""
    model = nn.Sequential(norm)
    given = plain or random_batch_norm()
    report = init_from_plain(model, {f"0.{key}": value for key, value in given.items()})
    return norm.state_dict(), report


# -------------------------------------------------------------------------------- norm by norm


@pytest.mark.parametrize("sync", [False, True])
@pytest.mark.parametrize(
    ("ratio", "order", "border"),
    [(0.5, "in_bn", 32), (0.25, "in_bn", 16), (0.4, "bn_in", 38), (1.0, "in_bn", 64)],
)
def test_ibn(ratio, order, border, sync):
    plain = random_batch_norm()
    state, report = start(IBN(64, ratio=ratio, order=order, sync=sync), plain)
    first, second = ("IN", "BN") if order == "in_bn" else ("BN", "IN")
    for leaf in ("weight", "bias"):
        assert torch.equal(state[f"{first}.{leaf}"], plain[leaf][:border])
        assert torch.equal(state[f"{second}.{leaf}"], plain[leaf][border:])
    batch_half = slice(border, None) if order == "in_bn" else slice(border)
    for leaf in ("running_mean", "running_var"):
        assert torch.equal(state[f"BN.{leaf}"], plain[leaf][batch_half])
    assert state["BN.num_batches_tracked"] == 17
    assert report.mapped[f"0.{first}.weight"] == f"0.weight[:{border}]"
    assert report.mapped[f"0.{second}.bias"] == f"0.bias[{border}:]"
    assert report.notes[0].startswith(f"1 IBN: weight and bias split {first} | {second}; the BN")
    assert not (report.missing or report.unexpected or report.dropped)


@pytest.mark.parametrize("sync", [False, True])
def test_bin_is_then_the_batch_norm(sync):
    plain, norm = random_batch_norm(), BIN(64, sync=sync)
    _, report = start(norm, plain)
    batch_norm = nn.BatchNorm2d(64)
    batch_norm.load_state_dict(plain)
    x = torch.randn(3, 64, 5, 5)
    torch.testing.assert_close(norm.eval()(x), batch_norm.eval()(x))
    assert report.missing == ("0.gate", "0.num_batches_tracked")
    assert "the gate stays" in report.notes[0]
    assert report.dropped == {"0.num_batches_tracked": "BIN counts no batches"}


def test_a_trained_gate_stays():
    norm = BIN(64)
    nn.init.constant_(norm.gate, 0.3)
    state, _ = start(norm)
    assert torch.equal(state["gate"], torch.full((64,), 0.3))


@pytest.mark.parametrize("using_bn", [True, False])
@pytest.mark.parametrize("sync", [False, True])
def test_sn(using_bn, sync):
    plain = random_batch_norm()
    norm = SN(64, using_bn=using_bn, last_gamma=True, sync=sync)
    state, report = start(norm, plain)
    assert state["weight"].shape == (1, 64, 1, 1)
    for leaf in ("weight", "bias", *(("running_mean", "running_var") if using_bn else ())):
        assert torch.equal(state[leaf].flatten(), plain[leaf])
    assert torch.equal(state["mean_weight"], torch.ones(3 if using_bn else 2))
    assert report.mapped["0.weight"] == "0.weight as (1, 64, 1, 1)"
    assert set(report.missing) == {"0.mean_weight", "0.var_weight"}
    if using_bn:
        assert "an approximation" in report.notes[0]
        assert state["running_var"].shape == (1, 64, 1)
    else:
        assert report.dropped["0.running_var"] == "SN without BN has no batch statistics"


def test_sn_in_eval_mode_uses_the_statistics():
    """With all of its choice on BN it is the batch norm that it was started from."""
    plain, norm = random_batch_norm(), SN(64, using_moving_average=False)
    norm(torch.randn(2, 64, 3, 3))  # sums of a batch, which are replaced
    start(norm, plain)
    for weight in (norm.mean_weight, norm.var_weight):
        weight.data = torch.tensor([-100.0, -100.0, 100.0])
    batch_norm = nn.BatchNorm2d(64)
    batch_norm.load_state_dict(plain)
    x = torch.randn(3, 64, 5, 5)
    torch.testing.assert_close(norm.eval()(x), batch_norm.eval()(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("base", ["in", "gn", "ln"])
def test_ilm_scales_by_the_plain_weight_when_its_encoder_is_silent(base):
    plain, norm = random_batch_norm(), ILM(64, base=base)
    encoder = norm.fc_embed[0].weight.clone()
    _, report = start(norm, plain)
    assert torch.equal(norm.fc_embed[0].weight, encoder)
    assert norm.fc_weight[0] is norm.fc_embed
    for decoder in (norm.fc_weight[1], norm.fc_bias[1]):
        nn.init.zeros_(decoder.weight)
    x = torch.randn(3, 64, 9, 9)
    groups = x.view(3, norm.groups, -1)
    unit = (groups - groups.mean(2, keepdim=True)) / groups.std(2, keepdim=True)
    expected = unit.view_as(x) * plain["weight"].view(-1, 1, 1) + plain["bias"].view(-1, 1, 1)
    torch.testing.assert_close(norm(x), expected, rtol=1e-3, atol=1e-3)
    assert report.mapped["0.weight_bias"] == "0.weight - 0.5"
    assert {key.split(".")[1] for key in report.missing} == {"fc_embed", "fc_weight", "fc_bias"}
    assert "0.running_var" in report.dropped


@pytest.mark.parametrize("name", ["in", "ln", "gn"])
def test_norms_without_statistics(name):
    plain, norm = random_batch_norm(), build_norm(name, 64)
    _, report = start(norm, plain)
    x = torch.randn(2, 64, 5, 5)
    groups = {"in": 64, "ln": 1, "gn": 32}[name]
    torch.testing.assert_close(norm(x), F.group_norm(x, groups, plain["weight"], plain["bias"]))
    assert set(report.dropped) == {"0.running_mean", "0.running_var", "0.num_batches_tracked"}


def test_a_norm_alone():
    plain, norm = random_batch_norm(), IBN(64)
    init_from_plain(norm, plain)
    assert torch.equal(norm.BN.bias, plain["bias"][32:])


# ------------------------------------------------------------------------------ whole networks


@pytest.mark.parametrize(
    "name", ["resnet18_bin", "cifar_resnet14_bin", "resnet18_3x3_bn", "densenet121"]
)
def test_bin_and_bn_networks_compute_what_the_plain_one_does(name):
    plain_name = {"resnet18_bin": "resnet18", "cifar_resnet14_bin": "cifar_resnet14_bn"}
    plain = random_network(plain_name.get(name, name), num_classes=5).eval()
    model = create_model(name, num_classes=5).eval()
    assert init_from_plain(model, plain.state_dict()).ok
    image = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = plain(image)
        torch.testing.assert_close(
            model(image), expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max())
        )


@pytest.mark.parametrize(
    "name",
    [
        *("resnet18_ibn_a", "resnet18_ibn_b", "resnet18_sn", "resnet18_in", "resnet18_ln"),
        *("resnet18_gn", "resnet18_ilm_in", "resnet18_ilm_ln", "resnet18_ilm_gn", "resnet50_ibn_a"),
        *("resnext50_ibn_a", "densenet121_ibn_a", "resnet18_3x3_ilm_gn", "cifar_resnet44_in"),
    ],
)
def test_everything_but_norms_is_copied_and_nothing_is_lost(name):
    plain_name = name
    for suffix in ("_ibn_a", "_ibn_b", "_sn", "_ilm_in", "_ilm_ln", "_ilm_gn", "_in", "_ln", "_gn"):
        plain_name = plain_name.removesuffix(suffix)
    if "3x3" in name or "cifar" in name:
        plain_name += "_bn"
    plain = random_network(plain_name, num_classes=5).state_dict()
    model = create_model(name, num_classes=5)
    report = init_from_plain(model, {"state_dict": {f"module.{k}": v for k, v in plain.items()}})
    state = model.state_dict()
    assert report.ok
    assert set(report.loaded) | set(report.missing) == set(state)
    assert set(report.missing) == set(report.tolerated)
    assert not set(report.loaded) & set(report.missing)
    for key, value in plain.items():
        if value.ndim > 1 or key.startswith(("fc.", "classifier.")):
            assert torch.equal(state[key], value), key
    # each tensor of the source was used, or the report says why not
    sources = {text.partition("[")[0].partition(" ")[0] for text in report.mapped.values()}
    sources |= set(report.loaded)
    dropped = {key.removeprefix("module.") for key in report.dropped}
    assert set(plain) <= sources | dropped
    counted = sum(int(note.split()[0]) for note in report.notes)
    norms = len([key for key in plain if key.endswith("running_mean")])
    assert counted == norms + (2 if name.endswith("ibn_b") else 0)


def test_ibn_b():
    plain = random_network("resnet18").state_dict()
    model = create_model("resnet18_ibn_b")
    report = init_from_plain(model, plain)
    extra = {f"layer{s}.1.IN.{leaf}" for s in (1, 2) for leaf in ("weight", "bias")}
    assert set(report.missing) == extra
    assert torch.equal(model.layer1[1].IN.weight, torch.ones(64))
    assert torch.equal(model.bn1.weight, plain["bn1.weight"])
    assert "2 instance norms after the addition (IBN-b) stay as they start" in str(report)


def test_the_layer_order_of_densenet():
    plain = random_network("densenet121").state_dict()
    model = create_model("densenet121_ibn_a")
    init_from_plain(model, plain)
    norm = model.features.denseblock1.denselayer1.norm1
    given = plain["features.denseblock1.denselayer1.norm1.bias"]
    assert torch.equal(norm.BN.bias, given[:38])
    assert torch.equal(norm.IN.bias, given[38:])


@pytest.mark.parametrize("name", ["resnet18_ibn_a", "resnet18_bin", "resnet18_sn"])
def test_synchronised_norms(name):
    plain = random_network("resnet18").state_dict()
    model, other = sync_norms(create_model(name)), create_model(name)
    assert init_from_plain(model, plain).ok
    init_from_plain(other, plain)
    found = other.state_dict()
    assert all(torch.equal(value, found[key]) for key, value in model.state_dict().items())


def test_feature_extractors_leave_the_classifier():
    model = create_model("resnet18_ibn_a", num_classes=0)
    report = init_from_plain(nn.DataParallel(model), random_network("resnet18").state_dict())
    assert report.ok
    assert report.tolerated["fc.weight"] == "the model has no classifier"


def test_old_checkpoints_count_no_batches():
    plain = random_network("resnet18").state_dict()
    plain = {key: value for key, value in plain.items() if "num_batches" not in key}
    report = init_from_plain(create_model("resnet18_ibn_a"), plain)
    assert report.ok
    assert "the checkpoint is older than batch counters" in report.tolerated.values()


def test_the_report_for_people():
    plain = random_network("resnet18").state_dict()
    text = str(init_from_plain(create_model("resnet18_ibn_a"), plain))
    assert "6 IBN: weight and bias split IN | BN" in text
    assert "14 BN: taken as they are" in text


# ------------------------------------------------------------------------------------- refusals


def refusal(name, plain, error=WeightsMismatchError, **arguments):
    model = create_model(name, **arguments)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(error) as caught:
        init_from_plain(model, plain)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    return str(caught.value)


@pytest.fixture(scope="module")
def plain18():
    torch.manual_seed(1)
    return random_network("resnet18", num_classes=5).state_dict()


def test_another_depth(plain18):
    text = refusal("resnet34_ibn_a", plain18, num_classes=5)
    assert "looks like a plain ResNet-18; the model is a ResNet-34 with IBN-a, which starts" in text


def test_another_structure(plain18):
    assert "starts from a plain pre-activation ResNet-18" in refusal("resnet18_snv2", plain18)
    assert "with a 3x3 stem" in refusal("resnet18_3x3_ilm_gn", plain18)


def test_another_number_of_classes(plain18):
    text = refusal("resnet18_sn", plain18, num_classes=9)
    assert "the checkpoint has 5, the model 9" in text


def test_not_strict_keeps_the_own_classifier(plain18, caplog):
    model = create_model("resnet18_sn", num_classes=9)
    before = model.fc.weight.clone()
    report = init_from_plain(model, plain18, strict=False)
    assert set(report.mismatched) == {"fc.weight", "fc.bias"}
    assert torch.equal(model.fc.weight, before)
    assert torch.equal(model.conv1.weight, plain18["conv1.weight"])
    assert "fc.weight" in caplog.text


@pytest.mark.parametrize("name", ["resnet18_ibn_a", "resnet18_gn", "resnet18_bin"])
def test_weights_that_are_not_plain(name):
    text = refusal("resnet18_sn", create_model(name).state_dict(), CheckpointError)
    assert "expected a network with batch norm" in text
    assert "load_weights" in text


@pytest.mark.parametrize("name", ["resnet18_ibn_a", "resnet18_ilm_in", "resnet18_ibn_b"])
def test_a_part_of_a_network(plain18, name):
    part = {key: value for key, value in plain18.items() if not key.startswith("layer1.0.bn1.")}
    text = refusal(name, part, num_classes=5)
    assert "missing in the checkpoint" in text


def test_a_norm_of_half_the_channels_does_not_slip_in(plain18):
    """Exactly as many channels as one half of an IBN has."""
    wrong = collections.OrderedDict(plain18)
    for leaf in ("weight", "bias", "running_mean", "running_var"):
        wrong[f"layer1.0.bn1.{leaf}"] = torch.ones(32)
    text = refusal("resnet18_ibn_a", wrong, num_classes=5)
    assert "layer1.0.bn1.IN.weight (model (64,), checkpoint (32,))" in text


def test_quantised_weights(plain18):
    wrong = {**plain18, "conv1.weight": plain18["conv1.weight"].to(torch.int8)}
    assert "quantised" in refusal("resnet18_ibn_a", wrong, CheckpointError, num_classes=5)
