from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from backbones.weights import load_weights
from engine.checkpoints import without_training_only
from reid.models import Embedder, Stripes
from reid.models.parts import cut

from .test_embedder import BACKBONE, LOSSES, batch

MGN = dict(BACKBONE, out_indices=(2, 3))
ONE_MAP = dict(type="reid.Stripes", stripes=(2,), dim=32, pooling="avg")
BRANCHES = dict(type="reid.Stripes", stripes=(2, 3), dim=16, branches=True)
KINDS = [
    pytest.param(BACKBONE, ONE_MAP, 512 + 2 * 32, id="one map"),
    pytest.param(MGN, BRANCHES, 512 + 7 * 16, id="branches"),
]


def tall(n: int = 8) -> dict:
    """Images whose last map has four rows."""
    return {**batch(n), "inputs": torch.randint(0, 256, (n, 3, 64, 32), dtype=torch.uint8)}


@pytest.mark.parametrize(("backbone", "parts", "dim"), KINDS)
def test_a_training_step_reaches_every_parameter(backbone, parts, dim) -> None:
    model = Embedder(backbone, 5, losses=LOSSES, parts=parts)
    logs = model(**model.data_preprocessor(tall(), True), mode="loss")
    assert {"id_loss", "triplet_loss", "center_loss", "accuracy"} <= logs.keys()
    model.parse_losses(logs)[0].backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    assert model.feature_dim == dim


@pytest.mark.parametrize(("backbone", "parts", "dim"), KINDS)
def test_evaluation_needs_no_classifiers(backbone, parts, dim) -> None:
    model = Embedder(backbone, 5, losses=LOSSES, parts=parts).eval()
    bare = Embedder(backbone, parts=parts).eval()
    assert not any("classifier" in key or "losses" in key for key in bare.state_dict())
    assert load_weights(bare, without_training_only(bare, {"state_dict": model.state_dict()})).ok
    images = bare.data_preprocessor(tall())["inputs"]
    with torch.no_grad():
        out = bare(images)
        assert torch.equal(out, model(images))
    assert out.shape == (8, dim)
    torch.testing.assert_close(out.norm(dim=1), torch.ones(8))


def test_the_embedding_is_all_parts_behind_each_other() -> None:
    model = Embedder(BACKBONE, parts=ONE_MAP).eval()
    images = model.data_preprocessor(tall(2))["inputs"]
    with torch.no_grad():
        map_ = model.backbone(images)[-1]
        halves = [map_[:, :, :2].mean((2, 3)), map_[:, :, 2:].mean((2, 3))]
        parts = [n.neck(n.projection(h)) for n, h in zip(model.parts.necks, halves, strict=True)]
        whole = model.neck(map_.mean((2, 3)))
        torch.testing.assert_close(model(images), F.normalize(torch.cat([whole, *parts], 1)))


def test_logs_are_means_and_stripes_have_losses_of_their_own() -> None:
    model = Embedder(MGN, 5, losses=LOSSES[:2], parts=BRANCHES)
    kinds = [[loss.name for loss in neck.losses] for neck in model.parts.necks]
    both, one = ["id_loss", "triplet_loss"], ["id_loss"]
    assert kinds == [both, one, one, both, one, one, one]
    seen = {"id_loss": [], "triplet_loss": []}
    for owner in (model, *model.parts.necks):
        for loss in owner.losses:
            loss.register_forward_hook(lambda m, _, out: seen[m.name].append(out.detach()))
    logs = model(**model.data_preprocessor(tall(), True), mode="loss")
    assert {name: len(values) for name, values in seen.items()} == {"id_loss": 8, "triplet_loss": 3}
    for name, values in seen.items():
        torch.testing.assert_close(logs[name], torch.stack(values).mean())


def test_branches_begin_as_the_pretrained_stage_and_part_from_it(tmp_path) -> None:
    whole = Embedder(MGN)
    torch.save(whole.backbone.state_dict(), tmp_path / "backbone.pth")
    model = Embedder(MGN, 5, losses=LOSSES, parts=BRANCHES, weights=str(tmp_path / "backbone.pth"))
    stages = [model.backbone.layer4, *model.parts.branches]
    for stage in stages:
        assert torch.equal(stage[0].conv1.weight, whole.backbone.layer4[0].conv1.weight)
    model.parse_losses(model(**model.data_preprocessor(tall(), True), mode="loss"))[0].backward()
    gradients = [stage[0].conv1.weight.grad for stage in stages]
    assert not torch.equal(gradients[0], gradients[1])
    assert len({stage[0].conv1.weight.data_ptr() for stage in stages}) == 3


def test_parts_can_be_distilled_into_one_short_embedding() -> None:
    model = Embedder(
        BACKBONE, 5, losses=LOSSES, parts=ONE_MAP, embedding_dim=24, reduction="distilled"
    )
    assert model.distilled.projection.in_features == 512 + 64 and model.feature_dim == 24
    logs = model(**model.data_preprocessor(tall(), True), mode="loss")
    assert logs["distillation_loss"] > 0


@pytest.mark.parametrize(("height", "count"), [(12, 3), (16, 3), (7, 2), (4, 4), (24, 6)])
def test_stripes_are_those_of_adaptive_pooling(height, count) -> None:
    x = torch.randn(2, 3, height, 5)
    means = torch.stack([stripe.mean((2, 3)) for stripe in cut(x, count)], dim=2)
    torch.testing.assert_close(means, F.adaptive_avg_pool2d(x, (count, 1)).squeeze(3))


def test_more_stripes_than_rows() -> None:
    model = Embedder(BACKBONE, parts=dict(ONE_MAP, stripes=(3,))).eval()
    with pytest.raises(ValueError, match="a map of 2 rows cannot be cut into 3 stripes"):
        model(torch.randn(1, 3, 32, 16))


@pytest.mark.parametrize(
    ("backbone", "wrong", "message"),
    [
        (BACKBONE, dict(stripes=()), "numbers of stripes of 2 or more"),
        (BACKBONE, dict(stripes=(1, 2)), "numbers of stripes of 2 or more"),
        (BACKBONE, dict(branches=True), r"out_indices=\(2, 3\), got ResNet with \(3,\)"),
        (dict(MGN, non_local=(0, 0, 0, 1)), dict(branches=True), "no non-local blocks in stage 4"),
        (BACKBONE, dict(dim=0), "1 dimension or more, got 0"),
    ],
)
def test_wrong_arguments(backbone, wrong, message) -> None:
    with pytest.raises(ValueError, match=message):
        Embedder(backbone, parts={**ONE_MAP, **wrong})


def test_builds_alone() -> None:
    backbone = Embedder(BACKBONE).backbone
    assert Stripes(backbone, stripes=(2, 4), dim=8).feature_dim == 48
