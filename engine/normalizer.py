"""uint8 images -> normalised float images, on the model's device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from .registry import MODELS


@MODELS.register_module()
class ImageNormalizer(BaseDataPreprocessor):
    """Move a batch to the device and normalise its images: (x - mean) / std, in RGB, 0..255.

    Images travel as uint8, a quarter of the bytes, and normalisation is part of the model, so an
    exported network cannot be fed differently from the trained one.
    """

    def __init__(
        self,
        mean: Sequence[float] = (123.675, 116.28, 103.53),
        std: Sequence[float] = (58.395, 57.12, 57.375),
    ) -> None:
        super().__init__(non_blocking=True)
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        data = self.cast_data(data)
        return {**data, "inputs": self.normalize(data["inputs"])}

    def normalize(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) uint8 -> float32."""
        normalized: Tensor = (images.float() - self.mean) / self.std
        return normalized
