from __future__ import annotations

import logging

import pytest
import torch
from torch.nn import functional as F

from backbones import create_model
from backbones.weights import WeightsMismatchError
from cls.classifier import Classifier, load_pretrained


def small(**arguments) -> Classifier:
    backbone = dict(type="backbones.CifarResNet", depth=8, num_classes=5)
    return Classifier(backbone, **arguments)


def batch(n: int = 4) -> dict:
    return dict(
        inputs=torch.randint(256, (n, 3, 16, 16), dtype=torch.uint8),
        label=torch.arange(n) % 5,
        path=["a"] * n,
    )


def test_loss_is_cross_entropy_of_the_normalised_images() -> None:
    model = small(label_smoothing=0.1)
    data = model.data_preprocessor(batch())
    torch.manual_seed(0)
    losses = model(**data, mode="loss")
    expected = F.cross_entropy(model.backbone(data["inputs"]), data["label"], label_smoothing=0.1)
    torch.testing.assert_close(losses["loss"], expected)
    assert 0 <= losses["accuracy"] <= 1


def test_predictions_are_float32_logits() -> None:
    model = small().eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(**model.data_preprocessor(batch()), mode="predict")
    assert logits.shape == (4, 5) and logits.dtype == torch.float32


@pytest.mark.parametrize("n", [0, 1])
def test_few_images(n) -> None:
    model = small().eval()
    assert model(**model.data_preprocessor(batch(n)), mode="predict").shape == (n, 5)


@pytest.mark.parametrize("label", [[0, 5], [-1, 2]])
def test_labels_out_of_range_are_named(label) -> None:
    model = small()
    with pytest.raises(ValueError, match=r"labels run from .* network has 5 classes"):
        model(torch.zeros(2, 3, 16, 16), "loss", torch.tensor(label))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(label_smoothing=1.0), "label_smoothing"),
        (dict(mixing=[dict(type="Mixup")]), "choose of MixUp, CutMix"),
    ],
)
def test_wrong_arguments(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        small(**arguments)


def test_a_backbone_without_classifier_is_refused() -> None:
    with pytest.raises(ValueError, match=r"number of classes.*num_classes=10"):
        Classifier(dict(type="backbones.ResNet", depth=18, num_classes=0))


def test_training_without_labels_is_explained() -> None:
    with pytest.raises(ValueError, match="no 'label'"):
        small()(torch.zeros(2, 3, 16, 16), "loss")


@pytest.mark.parametrize("classes", [5, 7])
def test_pretrained_weights_of_the_same_and_of_other_classes(tmp_path, caplog, classes) -> None:
    other = create_model("cifar_resnet8_bn", num_classes=classes)
    torch.save({"state_dict": other.state_dict()}, tmp_path / "a.pth")
    model = create_model("cifar_resnet8_bn", num_classes=5)
    head = model.fc.weight.clone()
    with caplog.at_level(logging.WARNING):
        load_pretrained(model, str(tmp_path / "a.pth"))
    assert torch.equal(model.conv1.weight, other.conv1.weight)
    assert torch.equal(model.fc.weight, other.fc.weight if classes == 5 else head)
    assert ("starts anew" in caplog.text) is (classes != 5)


def test_pretrained_weights_without_a_classifier(tmp_path, caplog) -> None:
    other = create_model("cifar_resnet8_bn", num_classes=0)
    torch.save(other.state_dict(), tmp_path / "a.pth")
    model = create_model("cifar_resnet8_bn", num_classes=5)
    head = model.fc.weight.clone()
    with caplog.at_level(logging.WARNING):
        load_pretrained(model, str(tmp_path / "a.pth"))
    assert torch.equal(model.conv1.weight, other.conv1.weight)
    assert torch.equal(model.fc.weight, head)
    assert "it has no classifier; this one, of 5, starts anew" in caplog.text


def test_pretrained_weights_of_another_network_are_refused(tmp_path) -> None:
    torch.save(create_model("cifar_resnet14_bn", num_classes=7).state_dict(), tmp_path / "a.pth")
    model = create_model("cifar_resnet8_bn", num_classes=5)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(WeightsMismatchError):
        load_pretrained(model, str(tmp_path / "a.pth"))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_trained_backbone_serves_other_rooms(tmp_path) -> None:
    """The checkpoint of a classifier, as a re-ID or segmentation config names it."""
    from backbones import load_weights
    from reid.models import Embedder

    trained = Classifier(dict(type="backbones.ResNet", depth=18, ibn="b", num_classes=5))
    torch.save({"state_dict": trained.state_dict(), "meta": {}}, tmp_path / "epoch_1.pth")
    path = str(tmp_path / "epoch_1.pth")
    backbone = dict(type="backbones.ResNet", depth=18, ibn="b", last_stride=1, out_indices=(3,))
    embedder = Embedder(backbone, weights=path)
    assert torch.equal(embedder.backbone.conv1.weight, trained.backbone.conv1.weight)
    segmentation = create_model("resnet18_ibn_b", num_classes=0, dilations=(1, 1, 1, 2))
    assert load_weights(segmentation, path).ok
