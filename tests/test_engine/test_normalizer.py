from __future__ import annotations

import pytest
import torch

from engine.normalizer import ImageNormalizer


def test_normalisation_is_that_of_imagenet() -> None:
    out = ImageNormalizer().normalize(torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)).flatten()
    expected = (1 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(2, 3, 5, 7), (0, 3, 4, 4), (2, 3, 1, 1)])
def test_the_memory_format_stays_and_changes_no_bit(size, memory_format) -> None:
    normalizer = ImageNormalizer()
    images = torch.randint(256, size, dtype=torch.uint8).contiguous(memory_format=memory_format)
    before = images.clone()
    out = normalizer.normalize(images)
    assert torch.equal(out, (images.float() - normalizer.mean) / normalizer.std)
    assert out.is_contiguous(memory_format=memory_format)
    assert torch.equal(images, before)


def test_float_images_are_not_changed() -> None:
    images = torch.full((1, 3, 2, 2), 255.0)
    for given in (images, images.contiguous(memory_format=torch.channels_last)):
        ImageNormalizer().normalize(given)
        assert (given == 255).all()


def test_a_model_of_float64_gets_float64() -> None:
    images = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    for given in (images, images.contiguous(memory_format=torch.channels_last)):
        assert ImageNormalizer().double().normalize(given).dtype == torch.float64
