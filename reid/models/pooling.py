"""Pooling of a feature map to one vector."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..registry import MODELS


@MODELS.register_module()
class AveragePooling(nn.Module):
    """Mean over positions: (N, C, H, W) -> (N, C), in float32."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), dtype=torch.float32)


@MODELS.register_module()
class MaxPooling(nn.Module):
    """Largest value of each channel: (N, C, H, W) -> (N, C), in float32."""

    def forward(self, x: Tensor) -> Tensor:
        return x.amax((2, 3)).float()


@MODELS.register_module()
class GeMPooling(nn.Module):
    """Generalised mean, (mean x^p)^(1/p), with a learned p: (N, C, H, W) -> (N, C), in float32.

    Radenovic et al., "Fine-tuning CNN Image Retrieval with No Human Annotation", TPAMI 2018,
    eq. 3; p = 1 is the mean, p -> infinity the maximum.
    """

    def __init__(self, p: float = 3.0, eps: float = 1e-6, trainable: bool = True) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.full((1,), float(p)), requires_grad=trainable)
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            powered = x.float().clamp(min=self.eps).pow(self.p)
            return powered.mean((2, 3)).pow(1 / self.p)


POOLING = {"avg": AveragePooling, "gem": GeMPooling, "max": MaxPooling}


def build_pooling(spec: str | dict[str, Any]) -> nn.Module:
    """'avg', 'gem', 'max', or a dict such as ``dict(type='reid.GeMPooling', p=4)``."""
    if isinstance(spec, str):
        if spec not in POOLING:
            raise ValueError(f"unknown pooling {spec!r}; choose one of {sorted(POOLING)} or a dict")
        return POOLING[spec]()
    module: nn.Module = MODELS.build(spec)
    return module
