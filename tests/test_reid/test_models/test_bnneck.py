from __future__ import annotations

import pytest
import torch

from reid.models.bnneck import mean_logs
from reid.models.parts import PartNeck

LOSSES = [dict(type="reid.CrossEntropyLoss"), dict(type="reid.TripletLoss")]


def test_each_loss_reads_its_tensor() -> None:
    neck = PartNeck(32, 8, 4, LOSSES)
    seen = {}
    for loss in neck.losses:
        loss.register_forward_pre_hook(lambda m, inputs: seen.update({m.name: inputs[0]}))
    feature, embedding = neck.vectors(torch.randn(6, 32))
    logs = neck.loss_logs(feature, embedding, torch.tensor([0, 0, 1, 1, 2, 2]))
    assert seen["triplet_loss"] is feature and feature.shape == (6, 8)
    torch.testing.assert_close(seen["id_loss"], neck.classifier(embedding))
    assert {"id_loss", "triplet_loss", "accuracy", "triplet_active"} <= logs.keys()
    torch.testing.assert_close(embedding.mean(0), torch.zeros(8), atol=1e-5, rtol=0)


def test_accuracy_is_that_of_the_classifier() -> None:
    neck = PartNeck(4, 3, 3, LOSSES[:1]).eval()
    with torch.no_grad():
        neck.classifier.weight.copy_(torch.eye(3))
    embedding = torch.eye(3)[[0, 1, 2, 2]]
    logs = neck.loss_logs(embedding, embedding, torch.tensor([0, 1, 2, 0]))
    assert logs["accuracy"] == 0.75


def test_a_new_projection_keeps_the_scale() -> None:
    pooled = torch.rand(64, 2048)
    feature, _ = PartNeck(2048, 256, None, ()).vectors(pooled)
    ratio = feature.square().mean().sqrt() / pooled.square().mean().sqrt()
    assert float(ratio.detach()) == pytest.approx(1, rel=0.1)


def test_means_are_over_those_that_have_an_entry() -> None:
    logs = mean_logs([{"a": torch.tensor(1.0)}, {"a": torch.tensor(3.0), "b": torch.tensor(5)}])
    assert logs == {"a": 2.0, "b": 5.0}
