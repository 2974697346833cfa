"""IN, LN and GN: torch's layers, computed by the core.

Parameters, names and arguments are torch's (these are subclasses); what the core adds is speed in
channels_last and on a CPU, a ReLU and an addition in the same passes, and maps of 1x1 pixel, where
torch refuses to train.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .base import Norm, check_num_features
from .moments import Moments


class IN(Norm, nn.InstanceNorm2d):
    """Instance normalisation with weight and bias, and without running statistics."""

    def __init__(self, num_features: int, eps: float = 1e-5, affine: bool = True) -> None:
        check_num_features(num_features, "IN")
        nn.InstanceNorm2d.__init__(self, num_features, eps=eps, affine=affine)

    def learned(self) -> tuple[Tensor, ...]:
        return (self.weight, self.bias) if self.affine else ()

    def algebra(self, moments: Moments, *learned: Tensor) -> tuple[Tensor, Tensor]:
        scale = torch.rsqrt(moments.var + self.eps)
        if not learned:
            return scale, torch.zeros_like(scale)
        weight, bias = learned
        return weight * scale, bias.expand_as(scale)


class GN(Norm, nn.GroupNorm):
    """Group normalisation; argument order turned round, so that it builds like every norm."""

    def __init__(
        self, num_features: int, num_groups: int = 32, eps: float = 1e-5, affine: bool = True
    ) -> None:
        check_num_features(num_features, "GN")
        if num_groups < 1 or num_features % num_groups:
            raise ValueError(
                f"GN: {num_features} channels do not divide into {num_groups} groups; "
                "give num_groups, e.g. dict(type='GN', num_groups=16)"
            )
        nn.GroupNorm.__init__(self, num_groups, num_features, eps=eps, affine=affine)
        self.num_features = num_features

    def learned(self) -> tuple[Tensor, ...]:
        return (self.weight, self.bias) if self.affine else ()

    def algebra(self, moments: Moments, *learned: Tensor) -> tuple[Tensor, Tensor]:
        groups = moments.grouped(self.num_groups)
        size = self.num_features // self.num_groups
        scale = torch.rsqrt(groups.var + self.eps).repeat_interleave(size, 1)  # (N, C)
        centre = moments.mean - groups.mean.repeat_interleave(size, 1)
        if not learned:
            return scale, scale * centre
        weight, bias = learned
        return weight * scale, bias + weight * scale * centre


class LN(GN):
    """Layer normalisation over channels and positions together: GN of one group."""

    def __init__(self, num_features: int, **kwargs: Any) -> None:
        super().__init__(num_features, num_groups=1, **kwargs)
