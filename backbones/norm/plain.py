"""BN, IN, LN and GN: torch's layers, computed by the core where that is faster.

Parameters, names and arguments are torch's (these are subclasses). The core adds a ReLU and an
addition in the same passes, speed in channels_last and on a CPU, and instance norm of maps of 1x1
pixel, where torch refuses to train. Torch's own operation is taken where the core has no kernels
for the device, where there is nothing to reduce (BN in eval mode), and under tracing, so that
exported graphs hold the operators that every runtime knows.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from .base import Norm, check_input, check_num_features
from .batch import batch_tables
from .moments import Moments, has_kernels


class _Plain(Norm):
    """A norm that torch has, too; torch's class stands behind this one in the bases."""

    affine: bool
    weight: Any  # torch's classes, which follow in the bases, declare them each in their way
    bias: Any

    def learned(self) -> tuple[Tensor, ...]:
        return (self.weight, self.bias) if self.affine else ()

    def forward(self, x: Tensor, residual: Tensor | None = None, relu: bool = False) -> Tensor:
        check_input(x, self.num_features, self.spatial_dims, type(self).__name__)
        if not self._is_native(x):
            return self._normalize(x, residual, relu)
        y: Tensor = super(Norm, self).forward(x).to(x.dtype)  # autocast may have widened it
        if residual is not None:
            y = y + residual
        return y.relu_() if relu else y

    def _is_native(self, x: Tensor) -> bool:
        return x.shape[0] > 0 and math.prod(x.shape[2:]) > 1 and not has_kernels(x)


class BN(_Plain, nn.BatchNorm2d):
    """Batch normalisation: ``nn.BatchNorm2d``, its arguments, and ``sync``.

    With ``sync`` the batch is that of all processes, on any device (``nn.SyncBatchNorm`` wants a
    GPU).
    """

    has_batch_statistics = True
    spatial_dims = (2,)

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        sync: bool = False,
    ) -> None:
        check_num_features(num_features, "BN")
        nn.BatchNorm2d.__init__(self, num_features, eps, momentum, affine, track_running_stats)
        self.sync, self.process_group = sync, None

    def algebra(self, moments: Moments, *learned: Tensor) -> tuple[Tensor, Tensor]:
        mean, var = batch_tables(self, moments, sync=self.sync, group=self.process_group)
        scale = torch.rsqrt(var + self.eps)  # (C,)
        if not learned:
            return scale, scale * (moments.mean - mean)
        weight, bias = learned
        return weight * scale, bias + weight * scale * (moments.mean - mean)

    def _is_native(self, x: Tensor) -> bool:
        if x.numel() == 0 or (self.sync and self.training):
            return False
        uses_batch = self.training or self.running_mean is None
        # On a GPU cuDNN's kernel stays; on a CPU the tables cost more than the passes save in
        # maps that fit the cache (measured).
        large_on_cpu = x.device.type == "cpu" and x.numel() >= 2**22
        return not (uses_batch and large_on_cpu and has_kernels(x))


class IN(_Plain, nn.InstanceNorm2d):
    """Instance normalisation with weight and bias, and without running statistics."""

    spatial_dims = (2,)

    def __init__(self, num_features: int, eps: float = 1e-5, affine: bool = True) -> None:
        check_num_features(num_features, "IN")
        nn.InstanceNorm2d.__init__(self, num_features, eps=eps, affine=affine)

    def _is_native(self, x: Tensor) -> bool:
        # torch's instance norm would return channels_last as planes
        return super()._is_native(x) and x.is_contiguous()

    def algebra(self, moments: Moments, *learned: Tensor) -> tuple[Tensor, Tensor]:
        scale = torch.rsqrt(moments.var + self.eps)
        if not learned:
            return scale, torch.zeros_like(scale)
        weight, bias = learned
        return weight * scale, bias.expand_as(scale)


class GN(_Plain, nn.GroupNorm):
    """Group normalisation; argument order turned round, so that it builds like every norm."""

    def __init__(
        self, num_features: int, num_groups: int = 32, eps: float = 1e-5, affine: bool = True
    ) -> None:
        check_num_features(num_features, type(self).__name__)
        if num_groups < 1 or num_features % num_groups:
            raise ValueError(
                f"GN: {num_features} channels do not divide into {num_groups} groups; "
                "give num_groups, e.g. dict(type='GN', num_groups=16)"
            )
        nn.GroupNorm.__init__(self, num_groups, num_features, eps=eps, affine=affine)
        self.num_features = num_features

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
