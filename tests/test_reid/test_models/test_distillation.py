from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from reid.models.distillation import DistilledEmbedding, similarity_loss


def test_loss_is_the_mean_over_pairs() -> None:
    pupil, teacher = torch.randn(5, 3), torch.randn(5, 7)
    differences = [
        F.cosine_similarity(pupil[i], pupil[j], dim=0)
        - F.cosine_similarity(teacher[i], teacher[j], dim=0)
        for i in range(5)
        for j in range(5)
        if i != j
    ]
    expected = torch.stack(differences).square().mean()
    torch.testing.assert_close(similarity_loss(pupil, teacher), expected)


def test_the_same_similarities_cost_nothing_whatever_the_length() -> None:
    teacher = torch.randn(6, 4)
    rotation = torch.linalg.qr(torch.randn(4, 4)).Q
    pupil = 3 * teacher @ rotation
    assert similarity_loss(pupil, teacher) == pytest.approx(0, abs=1e-6)


def test_the_teacher_hears_nothing() -> None:
    pupil, teacher = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    similarity_loss(pupil, teacher).backward()
    assert teacher.grad is None and pupil.grad.abs().sum() > 0
    feature = torch.randn(4, 8, requires_grad=True)
    DistilledEmbedding(8, 2)(feature).sum().backward()
    assert feature.grad is None


@pytest.mark.parametrize("n", [0, 1])
def test_without_a_pair_the_loss_is_zero(n) -> None:
    pupil = torch.randn(n, 3, requires_grad=True)
    loss = similarity_loss(pupil, torch.randn(n, 5))
    loss.backward()
    assert loss == 0 and pupil.grad.isfinite().all()


def test_nan_is_not_hidden() -> None:
    teacher = torch.randn(3, 4)
    teacher[1, 1] = torch.nan
    assert similarity_loss(torch.randn(3, 2), teacher).isnan()


def test_a_short_embedding_learns_the_neighbours_of_the_long_one() -> None:
    """Twelve groups in 32 dimensions, of which a random projection to 6 keeps little."""
    centers = torch.randn(12, 32)
    features = (centers[:, None] + 0.3 * torch.randn(12, 8, 32)).flatten(0, 1)
    model = DistilledEmbedding(32, 6)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    before = float(similarity_loss(model(features), features).detach())
    for _ in range(150):
        loss = similarity_loss(model(features), features)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.5 * before
    assert torch.equal(model.neck.bias, torch.zeros(6))


@pytest.mark.parametrize("dim", [0, 9])
def test_wrong_length(dim) -> None:
    with pytest.raises(ValueError, match=f"1 to 8 dimensions.*got {dim}"):
        DistilledEmbedding(8, dim)
