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
    assert bare.classifier is None and not bare.losses
    weights = without_training_only(bare, {"state_dict": model.state_dict()})
    report = load_weights(bare, weights)
    assert report.ok
    images = bare.data_preprocessor(batch())["inputs"]
    assert torch.equal(bare.eval()(images), model.eval()(images))


def test_a_trained_backbone_is_taken_from_a_whole_checkpoint(model, tmp_path) -> None:
    torch.save({"state_dict": model.state_dict()}, tmp_path / "reid.pth")
    other = Embedder(BACKBONE, 7, losses=LOSSES, weights=str(tmp_path / "reid.pth"))
    assert torch.equal(other.backbone.conv1.weight, model.backbone.conv1.weight)


def test_without_a_loss_on_logits_there_is_no_classifier() -> None:
    losses = [dict(type="reid.ArcFaceLoss"), dict(type="reid.TripletLoss")]
    model = Embedder(BACKBONE, 5, losses=losses)
    assert model.classifier is None
    logs = model(**model.data_preprocessor(batch(), True), mode="loss")
    assert "accuracy" not in logs and "arcface_accuracy" in logs
    total, _ = model.parse_losses(logs)
    total.backward()
    bare = Embedder(BACKBONE)
    assert load_weights(bare, without_training_only(bare, {"state_dict": model.state_dict()})).ok


def test_names_of_the_plain_model_stay() -> None:
    """Checkpoints of every earlier version have these."""
    keys = Embedder(BACKBONE, 5, losses=LOSSES, pooling="gem").state_dict().keys()
    beside = {key for key in keys if not key.startswith("backbone.")}
    norm = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
    assert beside == {
        *("pooling.p", "classifier.weight", "losses.2.centers"),
        *(f"neck.{name}" for name in norm),
    }


@pytest.mark.parametrize("dim", [128, 64])
def test_a_projected_embedding_is_what_all_losses_see(dim) -> None:
    model = Embedder(BACKBONE, 5, losses=LOSSES, embedding_dim=dim)
    assert model.feature_dim == model.classifier.in_features == dim
    assert model.losses[2].centers.shape == (5, dim)
    data = model.data_preprocessor(batch(), True)
    model.parse_losses(model(**data, mode="loss"))[0].backward()
    assert model.projection.weight.grad.abs().sum() > 0
    out = model.eval()(data["inputs"])
    feature = model.projection(model.pooling(model.backbone(data["inputs"])[-1]))
    torch.testing.assert_close(out, torch.nn.functional.normalize(model.neck(feature)))
    assert out.shape == (8, dim)


def test_a_distilled_embedding_leaves_the_training_alone() -> None:
    torch.manual_seed(3)
    full = Embedder(BACKBONE, 5, losses=LOSSES)
    torch.manual_seed(3)
    both = Embedder(BACKBONE, 5, losses=LOSSES, embedding_dim=16, reduction="distilled")
    both.losses[2].centers.copy_(full.losses[2].centers)  # drawn in the constructor
    gradients = []
    for model in (full, both):
        logs = model(**model.data_preprocessor(batch_of(1), True), mode="loss")
        model.parse_losses(logs)[0].backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if "distilled" not in n})
    for name, gradient in gradients[0].items():
        assert gradient is None or torch.equal(gradient, gradients[1][name]), name
    assert both.distilled.projection.weight.grad.abs().sum() > 0
    images = both.data_preprocessor(batch())["inputs"]
    out = both.eval()(images)
    assert out.shape == (8, 16) and both.feature_dim == 16
    torch.testing.assert_close(out.norm(dim=1), torch.ones(8))
    bare = Embedder(BACKBONE, embedding_dim=16, reduction="distilled")
    assert load_weights(bare, without_training_only(bare, {"state_dict": both.state_dict()})).ok
    assert torch.equal(bare.eval()(images), out)


def batch_of(seed: int) -> dict:
    torch.manual_seed(seed)
    return batch()


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


def test_other_norms_start_from_plain_weights(tmp_path) -> None:
    plain = dict(type="backbones.ResNet", depth=18, out_indices=(3,))
    whole = Embedder(plain)
    torch.save(whole.backbone.state_dict(), tmp_path / "imagenet.pth")
    start = dict(weights=str(tmp_path / "imagenet.pth"), plain_weights=True)
    model = Embedder(dict(plain, norm="bin"), **start)
    assert torch.equal(model.backbone.layer3[0].conv1.weight, whole.backbone.layer3[0].conv1.weight)
    images = whole.data_preprocessor(batch())["inputs"]
    with torch.no_grad():  # gates at 1: the same network
        expected, found = whole.eval()(images), model.eval()(images)
    torch.testing.assert_close(found, expected)


def test_max_pooling() -> None:
    from reid.models import MaxPooling

    x = torch.randn(2, 3, 4, 5).bfloat16()
    assert torch.equal(MaxPooling()(x), x.float().flatten(2).max(2).values)


def test_builds_by_name() -> None:
    gem = dict(type="reid.GeMPooling", p=4)
    assert MODELS.build(dict(type="reid.Embedder", backbone=BACKBONE, pooling=gem)).pooling.p == 4


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(pooling="median"), r"unknown pooling 'median'; choose one of .*'gem', 'max'"),
        (dict(reduction="pruned"), "reduction must be 'projected' or 'distilled', got 'pruned'"),
        (dict(embedding_dim=0), "an embedding has 1 dimension or more, got 0"),
        (
            dict(embedding_dim=600, reduction="distilled"),
            "has 1 to 512 dimensions .* got 600",
        ),
        (
            dict(embedding_dim=64, reduction="distilled", test_feature="feature"),
            "use test_feature='embedding'",
        ),
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
