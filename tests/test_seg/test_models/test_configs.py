"""Every model of configs/_base_/models, every backbone of the zoo, by config lines only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("mmseg")

from mmengine.config import Config, ConfigDict

import backbones
from backbones import zoo
from seg.registry import MODELS

ROOT = Path(__file__).resolve().parents[3]
# Strides of the logits against the image.
STRIDES = {"deeplabv3plus": 4, "pspnet": 8, "ibnnet_2018": 8, "fcn": 8, "upernet": 4}
STRIDES |= {"segformer": 4, "frozen_vit": 14}


def bases() -> list[str]:
    """Names of the base configs that describe a whole segmentation model."""
    paths = sorted((ROOT / "configs" / "_base_" / "models").glob("*.py"))
    models = {path.stem: Config.fromfile(path).get("model", {}) for path in paths}
    return [
        name
        for name, model in models.items()
        if model.get("type") == "seg.Segmentor" and "backbone" in model
    ]


def config(name: str, **backbone: Any) -> dict[str, Any]:
    """The model of a base config with five classes, and other arguments of the backbone."""
    model = Config.fromfile(ROOT / "configs" / "_base_" / "models" / f"{name}.py").model
    for key in ("decode_head", "auxiliary_head"):
        if model.get(key):
            model[key].update(num_classes=5, channels=min(model[key].channels, 32))
    if "type" in backbone:
        model.backbone = backbone
    model.backbone.update(backbone)
    return model.to_dict()


def small(name: str) -> dict[str, Any]:
    if name == "frozen_vit":
        pytest.importorskip("timm")
        return config(name, embed_dim=24, depth=12, num_heads=2, img_size=56)
    return config(name, depth=18)


def test_the_named_models_are_there() -> None:
    assert set(STRIDES) <= set(bases())


@pytest.mark.parametrize("name", bases())
def test_base_trains_and_predicts(name: str, samples) -> None:
    model = MODELS.build(small(name))
    model.init_weights()
    x, batch = torch.randn(2, 3, 64, 64), samples(2, 64, 64)
    losses = model.loss(x, batch)
    sum(v for k, v in losses.items() if "loss" in k).backward()
    learned = [p for p in model.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in learned)
    model.eval()
    assert model.logits(x).shape[:2] == (2, 5)
    if name in STRIDES:
        assert model.logits(x).shape[2:] == (-(-64 // STRIDES[name]),) * 2
    (first, _) = model.predict(x, batch)
    assert first.pred_sem_seg.data.shape == (1, 64, 64)
    assert int(first.pred_sem_seg.data.max()) < 5


@pytest.mark.parametrize("name", ["pspnet", "upernet"])
def test_lines_work_in_a_stock_segmentor(name: str, samples) -> None:
    model = config(name, depth=18)
    channels = [64, 128, 256, 512]
    for key in ("decode_head", "auxiliary_head"):
        index = model[key]["in_index"]
        model[key]["in_channels"] = channels if isinstance(index, list) else channels[index]
    stock = MODELS.build(ConfigDict(model | {"type": "EncoderDecoder"}))
    ours = MODELS.build(model)
    ours.load_state_dict(stock.state_dict())
    x, batch = torch.randn(2, 3, 64, 64), samples(2, 64, 64)
    losses = []
    for segmentor in (stock, ours):
        for module in segmentor.modules():
            if isinstance(module, torch.nn.Dropout2d):
                module.p = 0.0
        losses.append({k: float(v) for k, v in segmentor.loss(x, batch).items()})
        segmentor.eval()
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    with torch.no_grad():
        theirs, found = (s.predict(x)[0].pred_sem_seg.data for s in (stock, ours))
    assert (theirs == found).float().mean() > 0.999


@pytest.mark.parametrize(
    "backbone",
    [
        {"type": "backbones.ResNet", "depth": 18, "ibn": "a"},
        {"type": "backbones.ResNet", "depth": 18, "norm": "sn"},
        {"type": "backbones.ResNet", "depth": 18, "norm": "bin", "strides": (1, 2, 1, 1)},
        {"type": "backbones.DenseNet", "depth": 121, "ibn": "a"},
        {"type": "backbones.CifarResNet", "depth": 8},
    ],
)
def test_leaf_changes_only_the_backbone(backbone: dict[str, Any], samples) -> None:
    base = config("deeplabv3plus")
    if backbone["type"] == "backbones.CifarResNet":  # three maps
        base["decode_head"]["in_index"] = base["auxiliary_head"]["in_index"] = -1
    model = MODELS.build(base | {"backbone": backbone})
    losses = model.loss(torch.randn(2, 3, 64, 64), samples(2, 64, 64))
    assert all(v.isfinite() for v in losses.values())


def lines_of(name: str) -> dict[str, Any]:
    """The config lines that build a network of the zoo."""
    entry = zoo._ENTRIES[name]
    assert MODELS.get(f"backbones.{entry.func.__name__}") is entry.func
    return {"type": f"backbones.{entry.func.__name__}", "depth": entry.args[0], **entry.keywords}


def test_every_name_of_the_zoo_is_a_registered_type_and_its_arguments() -> None:
    kinds = {lines_of(name)["type"] for name in backbones.list_models()}
    assert kinds == {"backbones.ResNet", "backbones.DenseNet", "backbones.CifarResNet"}


@pytest.mark.parametrize(
    "name",
    [
        *backbones.list_models("resnet18*"),
        *("resnext50_ibn_a", "se_resnet50_ibn_a", "densenet121_ibn_a", "cifar_resnet8_bin_basic"),
    ],
)
def test_a_network_of_the_zoo_by_config_lines(name: str) -> None:
    with torch.device("meta"):
        built = MODELS.build(lines_of(name))
        named = backbones.create_model(name, num_classes=0)
    shapes = {key: value.shape for key, value in named.state_dict().items()}
    assert {key: value.shape for key, value in built.state_dict().items()} == shapes
    assert built.out_channels == named.out_channels


def test_ibnnet_2018_is_pspnet_without_its_pyramid() -> None:
    ours, psp = (
        MODELS.build(config("ibnnet_2018", depth=18)),
        MODELS.build(config("pspnet", depth=18)),
    )
    assert ours.backbone.reductions == (4, 8, 8, 8)
    head = {k: v.shape for k, v in ours.decode_head.state_dict().items()}
    pyramid = {k: v.shape for k, v in psp.decode_head.state_dict().items()}
    assert head["convs.0.conv.weight"] == (32, 512, 3, 3)
    assert head["conv_seg.weight"] == pyramid["conv_seg.weight"]
    assert len(head) == 8  # one convolution with its norm, one classifier
