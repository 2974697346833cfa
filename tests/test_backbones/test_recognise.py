"""The names that error messages give to networks."""

from __future__ import annotations

import pytest
import torch
import torchvision

from backbones import create_model
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


@pytest.mark.parametrize("name", ["resnet18_ibn_a", "resnet50_ibn_a", "resnet50_ibn_b", "resnet34"])
def test_zoo_names_are_found_again_under_any_prefix(name):
    found = shapes(create_model(name))
    assert recognise(found).zoo_name == name
    assert recognise({f"x.y.{key}": shape for key, shape in found.items()}).zoo_name == name


def test_unusual_depth_and_norm():
    model = torchvision.models.ResNet(
        torchvision.models.resnet.Bottleneck,
        [1, 2, 1, 1],
        norm_layer=lambda channels: torch.nn.GroupNorm(32, channels),
    )
    text = str(recognise(shapes(model)))
    assert text == "a ResNet-(1, 2, 1, 1) with neither batch norm nor a mix with it"


def test_squeeze_and_excitation():
    keys = shapes(create_model("resnet50_ibn_a")) | {"layer1.0.se.fc.0.weight": (16, 256)}
    assert str(recognise(keys)) == "an SE-ResNet-50 with IBN-a"
    assert recognise(keys).zoo_name == "se_resnet50_ibn_a"


def test_something_else_is_not_named():
    assert recognise(shapes(torchvision.models.alexnet())) is None
    assert recognise({}) is None
