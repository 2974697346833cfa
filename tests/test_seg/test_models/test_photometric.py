from __future__ import annotations

import colorsys

import pytest
import torch

pytest.importorskip("mmseg")

from seg.models.photometric import (
    adjust_brightness,
    adjust_contrast,
    adjust_saturation,
    gaussian_blur,
    photometric_copy,
    turn_hue,
)

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def one(value: float) -> torch.Tensor:
    return torch.tensor([value])


def test_nothing_asked_nothing_changed() -> None:
    images = (torch.rand(2, 3, 9, 11) * 255 - 120) / 58
    mean, std = (120.0,) * 3, (58.0,) * 3
    same = photometric_copy(
        images, mean, std, brightness=0, contrast=0, saturation=0, hue=0, blur=(0, 0)
    )
    assert torch.allclose(same, images, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 3, 16, 12), (1, 3, 1, 1), (2, 3, 2, 40)])
def test_copies_stay_in_range_and_repeat(shape: tuple[int, ...]) -> None:
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    images = (torch.rand(shape) * 255 - mean) / std
    torch.manual_seed(3)
    first = photometric_copy(images, MEAN, STD)
    torch.manual_seed(3)
    assert torch.equal(first, photometric_copy(images, MEAN, STD))
    values = first * std + mean
    assert first.shape == images.shape
    assert values.min() > -1e-2
    assert values.max() < 255.01
    assert not torch.equal(first, images)


def test_channel_order_does_not_matter() -> None:
    images = torch.rand(2, 3, 8, 8) * 255
    torch.manual_seed(0)
    rgb = photometric_copy(images)
    torch.manual_seed(0)
    assert torch.equal(photometric_copy(images.flip(1), bgr=True), rgb.flip(1))


def test_each_step_at_its_ends() -> None:
    x = torch.rand(1, 3, 8, 8)
    grey = (x * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    assert adjust_brightness(x, one(0)).eq(0).all()
    assert torch.allclose(adjust_saturation(x, one(0)), grey.expand_as(x))
    assert torch.allclose(adjust_contrast(x, one(0)), grey.mean().expand_as(x))
    for step in (adjust_brightness, adjust_saturation, adjust_contrast):
        assert torch.allclose(step(x, one(1)), x, atol=1e-6)
    assert torch.allclose(turn_hue(x, one(1)), x, atol=1e-4)


def test_hue_turns_colours_and_leaves_luminance() -> None:
    x = 0.4 + 0.2 * torch.rand(1, 3, 6, 6)
    turned = turn_hue(x, one(0.5))
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    assert torch.allclose((turned * weights).sum(1), (x * weights).sum(1), atol=1e-3)
    pixel, other = x[0, :, 0, 0].tolist(), turned[0, :, 0, 0].tolist()
    distance = abs(colorsys.rgb_to_hsv(*pixel)[0] - colorsys.rgb_to_hsv(*other)[0])
    assert 0.35 < distance < 0.65


def test_blur_is_a_gaussian_for_each_image() -> None:
    x = torch.zeros(2, 1, 21, 21)
    x[:, :, 10, 10] = 1
    blurred = gaussian_blur(x, torch.tensor([0.01, 2.0]))
    assert torch.allclose(blurred[0], x[0])
    assert blurred[1].sum() == pytest.approx(1, abs=1e-4)
    squares = (torch.arange(21.0) - 10) ** 2
    assert (blurred[1, 0].sum(0) * squares).sum().sqrt() == pytest.approx(2, abs=0.05)
    assert torch.allclose(gaussian_blur(torch.ones(1, 3, 5, 5), one(3)), torch.ones(1, 3, 5, 5))


def test_shape_is_checked() -> None:
    with pytest.raises(ValueError, match=r"\(N, 3, H, W\)"):
        photometric_copy(torch.zeros(3, 8, 8))
