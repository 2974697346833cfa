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
        """(N, 3, H, W) uint8 -> float32, in the same memory format."""
        mean, std = self.mean, self.std
        dtype = torch.promote_types(torch.float32, mean.dtype)  # float64 in a model of float64
        rows = images.permute(0, 2, 3, 1)
        if images.is_cpu and rows.is_contiguous() and not images.is_contiguous():
            # Channels last: a CPU is slow at loops over three channels, and fast over W * 3.
            n, height, width, channels = rows.shape
            mean, std = (tensor.flatten().repeat(width) for tensor in (mean, std))
            flat = rows.reshape(n, height, width * channels)
            flat = flat.to(dtype, copy=True).sub_(mean).div_(std)
            return flat.view(rows.shape).permute(0, 3, 1, 2)
        # In place, for fresh memory costs a CPU more than the arithmetic.
        return images.to(dtype, copy=True).sub_(mean).div_(std)
