from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from backbones import create_model
from cls.evaluation.appearance import (
    PAPER_ERRORS,
    SHIFTS,
    choose_shifts,
    full_float32,
    shifted,
)
from engine.normalizer import ImageNormalizer


class Model(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.data_preprocessor: nn.Module = ImageNormalizer()
        self.network = network

    @torch.no_grad()
    def run(self, images: torch.Tensor, **more: object) -> torch.Tensor:
        return self.network(self.data_preprocessor({"inputs": images, **more})["inputs"])


@pytest.fixture
def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(8, 3, 6, 6, generator=generator)
    smooth = nn.functional.interpolate(coarse, size=(64, 64), mode="bilinear")
    return (255 * smooth).to(torch.uint8)


def test_what_the_network_is_given(images) -> None:
    model = Model(nn.Identity())
    plain = model.run(images)
    mean, std = model.data_preprocessor.mean, model.data_preprocessor.std
    expected = {
        "RGB+50": (images.float() + 50 - mean) / std,
        "R+50": (images.float() + torch.tensor([50.0, 0, 0]).view(1, 3, 1, 1) - mean) / std,
        "std x1.5": 1.5 * plain,
    }
    for name, values in expected.items():
        with shifted(model, SHIFTS[name]):
            found = model.run(images, index=torch.arange(8), path=["x"] * 8)
        assert torch.allclose(found, values, atol=1e-5)
    assert torch.equal(model.run(images), plain)  # and is itself again
    assert not torch.equal(images.float() + 50, (images.float() + 50).clamp(max=255))


def test_clipped_pixels_stay_pixels(images) -> None:
    model = Model(nn.Identity())
    mean, std = model.data_preprocessor.mean, model.data_preprocessor.std
    for shift in choose_shifts(clip=True):
        with shifted(model, shift):
            pixels = model.run(images) * std + mean
        assert pixels.min() >= -1e-3 and pixels.max() <= 255 + 1e-3
        assert "clipped" in shift.words
    with shifted(model, choose_shifts(["std x1.5"], clip=True)[0]):
        found = model.run(images) * std + mean
    expected = (mean + 1.5 * (images - mean)).clamp(0, 255)
    assert torch.allclose(found, expected, atol=1e-2)


def test_ibn_b_loses_nothing_under_contrast(images) -> None:
    """Its instance norm behind the first convolution takes the factor out; IBN-a has none there."""
    torch.manual_seed(0)
    changes = {}
    for name in ("resnet18_ibn_b", "resnet18_ibn_a", "resnet18"):
        model = Model(create_model(name, num_classes=10)).eval()
        plain = model.run(images[:4])
        with shifted(model, SHIFTS["std x1.5"]), full_float32():
            under = model.run(images[:4])
        changes[name] = float((under - plain).abs().max() / plain.abs().max())
        if name == "resnet18_ibn_b":
            assert torch.equal(plain.argmax(1), under.argmax(1))
    assert changes["resnet18_ibn_b"] < 1e-3
    assert min(changes["resnet18_ibn_a"], changes["resnet18"]) > 0.02


def test_names(tmp_path, write_picture) -> None:
    assert [s.name for s in choose_shifts()] == list(SHIFTS)
    assert [s.name for s in choose_shifts(["ALL"])] == list(SHIFTS)
    found = choose_shifts(["STD×1.5", "std*1.5", "r+50", "r+50"])
    assert [s.name for s in found] == ["std x1.5", "R+50"]
    write_picture(tmp_path / "monet" / "a.png", np.zeros((4, 4, 3)))
    found = choose_shifts(["colours", "Fourier"], tmp_path / "monet")
    assert [s.name for s in found] == ["colours", "fourier"] and "in monet" in found[0].words
    with pytest.raises(ValueError, match=r"'colours' \(needs --style"):
        choose_shifts(["colours"])
    with pytest.raises(ValueError, match="unknown appearance 'fog'; expected 'all' or"):
        choose_shifts(["fog"])


def test_all_shifts_of_every_kind_run(tmp_path, write_picture, images) -> None:
    write_picture(tmp_path / "a.png", np.full((5, 7, 3), 90))
    model = Model(nn.Identity())
    for shift in choose_shifts(style=tmp_path):
        with shifted(model, shift):
            found = model.run(images, index=torch.arange(8))
        assert found.shape == images.shape and found.isfinite().all() and shift.words


def test_another_preprocessor(images) -> None:
    model = Model(nn.Identity())
    model.data_preprocessor = nn.Identity()
    with pytest.raises(TypeError, match=r"engine\.ImageNormalizer"), shifted(model, SHIFTS["R+50"]):
        pass


def test_an_error_leaves_the_model_as_it_was() -> None:
    model = Model(nn.Identity())
    normalizer = model.data_preprocessor
    with pytest.raises(KeyboardInterrupt), shifted(model, SHIFTS["R+50"]):
        raise KeyboardInterrupt
    assert model.data_preprocessor is normalizer


def test_the_paper_s_table() -> None:
    assert PAPER_ERRORS["ResNet-50 IBN-b"]["std x1.5"] == PAPER_ERRORS["ResNet-50 IBN-b"]["none"]
    assert PAPER_ERRORS["ResNet-50"]["Monet"] == (54.51, 29.32)
    for errors in PAPER_ERRORS.values():
        assert list(errors) == ["none", "RGB+50", "R+50", "std x1.5", "Monet"]
