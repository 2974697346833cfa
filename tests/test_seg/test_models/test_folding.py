from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("mmseg")

from backbones import create_model
from seg.models.folding import fold_batch_norms


def scrambled(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.3, 3)
            if module.affine:
                nn.init.normal_(module.weight, 1, 0.3)
                nn.init.normal_(module.bias)
    return model.eval()


def norms(model: nn.Module) -> int:
    return sum(isinstance(m, nn.BatchNorm2d) for m in model.modules())


@pytest.mark.parametrize(
    ("name", "left"),
    [("resnet18", 0), ("resnet50", 0), ("resnet18_ibn_a", 8), ("resnet18_bin", 20)],
)
def test_networks_compute_the_same(name: str, left: int) -> None:
    """IBN's halves, and norms of other kinds, stay."""
    model = scrambled(create_model(name, num_classes=3)).to(memory_format=torch.channels_last)
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = model(x)
        before = norms(model)
        folded = fold_batch_norms(model, model, torch.randn(1, 3, 32, 32))
        torch.testing.assert_close(model(x), expected, atol=1e-4, rtol=1e-3)
    assert norms(model) == before - folded
    assert norms(model) <= left and (folded > 0) == (name != "resnet18_bin")


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("affine", [False, True])
def test_layers(bias: bool, affine: bool) -> None:
    model = scrambled(
        nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, bias=bias),
            nn.BatchNorm2d(8, affine=affine),
            nn.Conv2d(8, 8, 1, groups=4, bias=bias),
            nn.BatchNorm2d(8, affine=affine),
        )
    )
    x = torch.randn(2, 3, 9, 9)
    with torch.no_grad():
        expected = model(x)
        assert fold_batch_norms(model, model, x) == 2
        torch.testing.assert_close(model(x), expected, atol=1e-5, rtol=1e-4)
    assert isinstance(model[1], nn.Identity)


class Branches(nn.Module):
    """A convolution whose output is used twice; ``seen`` says whether by a module."""

    def __init__(self, seen: bool) -> None:
        super().__init__()
        self.conv, self.norm, self.pool = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.MaxPool2d(1)
        self.seen = seen

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.norm(x) + (self.pool(x) if self.seen else x)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.norm(self.conv(x)))


@pytest.mark.parametrize("make", [lambda: Branches(True), lambda: Branches(False), Twice])
def test_what_cannot_be_folded_is_left_alone(make) -> None:
    model = scrambled(make())
    state = {k: v.clone() for k, v in model.state_dict().items()}
    assert fold_batch_norms(model, model, torch.randn(1, 3, 8, 8)) == 0
    assert state.keys() == model.state_dict().keys()
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in state.items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_training_mode_is_refused() -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    with pytest.raises(ValueError, match=r"model\.eval"):
        fold_batch_norms(model, model, torch.randn(1, 3, 8, 8))
