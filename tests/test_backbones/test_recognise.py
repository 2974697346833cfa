"""The names that error messages give to networks."""

from __future__ import annotations

import re

import pytest
import torch
import torchvision

from backbones import create_model, list_models
from backbones.recognise import recognise


def shapes(model):
    return {key: tuple(value.shape) for key, value in model.state_dict().items()}


@pytest.fixture(autouse=True)
def _no_memory():
    with torch.device("meta"):
        yield


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("resnet18", "a plain ResNet-18"),
        ("resnet34", "a plain ResNet-34"),
        ("resnet50", "a plain ResNet-50"),
        ("resnet101", "a plain ResNet-101"),
        ("resnet152", "a plain ResNet-152"),
        ("resnext50_32x4d", "a plain ResNeXt-50"),
        ("densenet121", "a plain DenseNet-121"),
        ("densenet161", "a plain DenseNet-161"),
        ("densenet169", "a plain DenseNet-169"),
        ("densenet201", "a plain DenseNet-201"),
    ],
)
def test_torchvision_networks(name, text):
    found = recognise(shapes(torchvision.models.get_model(name)))
    assert str(found) == text


# Not told apart by keys and shapes: the bases IN and LN of ILM; IN, LN and GN; thin nets of basic
# blocks below depth 44, which have two names.
AMBIGUOUS = re.compile(
    r"^resnet\d+_(3x3_)?(ilm_in|ilm_ln|in|ln|gn)$|cifar_resnet(8|14|20|32)_\w+_basic$"
)
LARGE = re.compile(r"101|152|169|201|110")  # slow to build, and more of the same
NAMES = [name for name in list_models() if not (AMBIGUOUS.search(name) or LARGE.search(name))]


@pytest.mark.parametrize("name", [*NAMES, "resnet101_sn", "se_resnet152_ibn_a"])
def test_zoo_names_are_found_again_under_any_prefix(name):
    found = shapes(create_model(name))
    assert recognise(found).zoo_name == name
    assert recognise({f"x.y.{key}": shape for key, shape in found.items()}).zoo_name == name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("resnet50_sn", "a ResNet-50 with switchable norm"),
        ("resnet50_snv2", "a pre-activation ResNet-50 with switchable norm"),
        ("resnet50_bin", "a ResNet-50 with batch-instance norm"),
        ("resnet50_in", "a ResNet-50 with IN, LN or GN"),
        ("resnet50_ilm_gn", "a ResNet-50 with ILM norm on GN"),
        ("resnet18_3x3_ilm_ln", "a ResNet-18 with ILM norm on IN or LN and a 3x3 stem"),
        ("resnet18_3x3_bn", "a plain ResNet-18 with a 3x3 stem"),
        ("cifar_resnet20_bn", "a plain CIFAR-ResNet-20"),
        ("cifar_resnet56_bin_basic", "a CIFAR-ResNet-56 of basic blocks with batch-instance norm"),
        ("se_resnet50_ibn_a", "an SE-ResNet-50 with IBN-a"),
        ("resnext152_ibn_a", "a ResNeXt-152 with IBN-a"),
        ("densenet161_ibn_a", "a DenseNet-161 with IBN-a"),
    ],
)
def test_names_for_people(name, text):
    assert str(recognise(shapes(create_model(name)))) == text


def test_switchable_norm_without_bn_is_in_no_zoo():
    found = recognise(shapes(create_model("resnet18_sn", norm={"type": "SN", "using_bn": False})))
    assert found.norm == "switchable norm without BN"
    assert found.zoo_name == ""


def test_a_network_without_its_last_stage_is_no_thin_one():
    keys = {k: s for k, s in shapes(create_model("resnet18")).items() if "layer4" not in k}
    assert str(recognise(keys)) == "a plain ResNet-(2, 2, 2)"
    assert recognise(keys).zoo_name == ""


def test_unusual_depth_and_norm():
    model = torchvision.models.ResNet(
        torchvision.models.resnet.Bottleneck,
        [1, 2, 1, 1],
        norm_layer=lambda channels: torch.nn.GroupNorm(32, channels),
    )
    text = str(recognise(shapes(model)))
    assert text == "a ResNet-(1, 2, 1, 1) with IN, LN or GN"


def test_squeeze_and_excitation():
    keys = shapes(create_model("resnet50_ibn_a")) | {"layer1.0.se.fc.0.weight": (16, 256)}
    assert str(recognise(keys)) == "an SE-ResNet-50 with IBN-a"
    assert recognise(keys).zoo_name == "se_resnet50_ibn_a"


def test_something_else_is_not_named():
    assert recognise(shapes(torchvision.models.alexnet())) is None
    assert recognise({}) is None
