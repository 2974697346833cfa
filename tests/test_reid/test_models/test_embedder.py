from __future__ import annotations

import pytest
import torch

from backbones.weights import load_weights
from engine.checkpoints import without_training_only
from reid.models import Embedder
from reid.registry import MODELS

BACKBONE = dict(type="backbones.ResNet", depth=18, ibn="a", last_stride=1, out_indices=(3,))
LOSSES = [
    dict(type="reid.CrossEntropyLoss"),
    dict(type="reid.TripletLoss"),
    dict(type="reid.CenterLoss"),
]


@pytest.fixture
def model() -> Embedder:
    return Embedder(BACKBONE, 5, losses=LOSSES)


def batch(n: int = 8) -> dict:
    return dict(
        inputs=torch.randint(0, 256, (n, 3, 32, 16), dtype=torch.uint8),
        label=torch.arange(n) // 2,
        path=["x.jpg"] * n,
    )


def test_training_step_reaches_every_trained_parameter(model) -> None:
    logs = model(**model.data_preprocessor(batch(), True), mode="loss")
    assert {"id_loss", "triplet_loss", "center_loss", "accuracy"} <= logs.keys()
    total, _ = model.parse_losses(logs)
    total.backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    assert not model.neck.bias.requires_grad


def test_metric_losses_see_the_feature_before_the_neck(model, monkeypatch) -> None:
    seen = {}
    for loss in model.losses:
        monkeypatch.setattr(
            loss, "forward", lambda x, y, name=loss.name: seen.update({name: x}) or x.sum()
        )
    captured = []
    model.neck.register_forward_hook(lambda m, inputs, out: captured.append((inputs[0], out)))
    model(**model.data_preprocessor(batch(), True), mode="loss")
    feature, embedding = captured[0]
    assert seen["triplet_loss"] is feature and seen["center_loss"] is feature
    torch.testing.assert_close(seen["id_loss"], model.classifier(embedding))


@pytest.mark.parametrize("test_feature", ["embedding", "feature"])
def test_unit_length_embeddings_of_the_stated_feature(test_feature) -> None:
    model = Embedder(BACKBONE, test_feature=test_feature).eval()
    model.neck.running_mean.normal_()
    images = model.data_preprocessor(batch())["inputs"]
    with torch.no_grad():
        out = model(images)
        feature = model.pooling(model.backbone(images)[-1])
    expected = model.neck(feature) if test_feature == "embedding" else feature
    torch.testing.assert_close(out, torch.nn.functional.normalize(expected))
    assert out.shape == (8, 512) and out.dtype == torch.float32


def test_evaluation_needs_neither_classifier_nor_losses(model) -> None:
    bare = Embedder(BACKBONE)
    assert not hasattr(bare, "classifier") and not bare.losses
    weights = without_training_only(bare, {"state_dict": model.state_dict()})
    report = load_weights(bare, weights)
    assert report.ok
    images = bare.data_preprocessor(batch())["inputs"]
    assert torch.equal(bare.eval()(images), model.eval()(images))


def test_a_trained_backbone_is_taken_from_a_whole_checkpoint(model, tmp_path) -> None:
    torch.save({"state_dict": model.state_dict()}, tmp_path / "reid.pth")
    other = Embedder(BACKBONE, 7, losses=LOSSES, weights=str(tmp_path / "reid.pth"))
    assert torch.equal(other.backbone.conv1.weight, model.backbone.conv1.weight)


def test_gem_pooling_generalises_the_mean() -> None:
    from reid.models import AveragePooling, GeMPooling

    x = torch.rand(2, 3, 4, 5) + 0.1
    torch.testing.assert_close(GeMPooling(p=1.0)(x), AveragePooling()(x))
    large = GeMPooling(p=200.0)(x)
    torch.testing.assert_close(large, x.amax((2, 3)), rtol=0.05, atol=0)
    x64 = x.double().requires_grad_()
    pooling = GeMPooling()
    pooling(x64).sum().backward()
    assert pooling.p.grad.isfinite().all()
    assert pooling(torch.zeros(1, 2, 3, 3)).isfinite().all()


def test_builds_by_name() -> None:
    gem = dict(type="reid.GeMPooling", p=4)
    assert MODELS.build(dict(type="reid.Embedder", backbone=BACKBONE, pooling=gem)).pooling.p == 4


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(pooling="max"), r"unknown pooling 'max'; choose one of \['avg', 'gem'\]"),
        (dict(test_feature="neck"), "must be 'embedding' or 'feature', got 'neck'"),
        (dict(num_identities=3, losses=[LOSSES[0], LOSSES[0]]), "losses of one name"),
    ],
)
def test_wrong_arguments(wrong, message) -> None:
    with pytest.raises(ValueError, match=message):
        Embedder(BACKBONE, **wrong)


def test_training_without_classifier_is_explained() -> None:
    model = Embedder(BACKBONE)
    with pytest.raises(ValueError, match="training needs labels, num_identities"):
        model(**model.data_preprocessor(batch()), mode="loss")
