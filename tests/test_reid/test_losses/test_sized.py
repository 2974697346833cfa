"""Losses that wait for their sizes: when they allocate, and what they refuse."""

import pytest
import torch

from reid import losses
from reid.losses.sized import SizedLoss

SIZED = [
    cls
    for cls in (getattr(losses, name) for name in losses.__all__)
    if issubclass(cls, SizedLoss) and cls is not losses.MetricLearningLoss
]


@pytest.fixture(params=SIZED, ids=lambda cls: cls.__name__)
def kind(request):
    return request.param


def shapes(loss):
    return {tuple(value.shape) for value in loss.state_dict().values()}


def test_there_are_some():
    assert len(SIZED) >= 4


@pytest.mark.parametrize("given", [{}, {"num_classes": 5}, {"feature_dim": 4}])
def test_allocates_once_both_sizes_are_known(kind, given):
    loss = kind(**given)
    assert not shapes(loss)
    with pytest.raises(RuntimeError, match=rf"{kind.__name__}: .* call configure\(num_classes="):
        loss(torch.ones(2, 4), torch.tensor([0, 1]))
    loss.configure(num_classes=5, feature_dim=4)
    assert shapes(loss) == {(5, 4)}
    before = {key: value.clone() for key, value in loss.state_dict().items()}
    loss.configure(num_classes=5, feature_dim=4)
    assert all(torch.equal(loss.state_dict()[key], value) for key, value in before.items())
    assert "num_classes=5, feature_dim=4" in repr(loss)


def test_sizes_of_the_constructor_are_enough(kind):
    assert shapes(kind(5, 4)) == {(5, 4)}


def test_refuses_other_sizes(kind):
    with pytest.raises(ValueError, match="num_classes=5 was given, but the model has 6"):
        kind(5, 4).configure(num_classes=6, feature_dim=4)
    with pytest.raises(ValueError, match=f"{kind.__name__}: expected num_classes >= 1, got 0"):
        kind(0, 4)
    with pytest.raises(ValueError, match="expected features of dimension 4, got 3"):
        kind(5, 4)(torch.ones(2, 3), torch.tensor([0, 1]))
