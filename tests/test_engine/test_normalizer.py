from __future__ import annotations

import torch

from engine.normalizer import ImageNormalizer


def test_normalisation_is_that_of_imagenet() -> None:
    out = ImageNormalizer().normalize(torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)).flatten()
    expected = (1 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(out, expected)
