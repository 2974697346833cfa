"""Batch statistics from instance tables: what the batch half of a norm adds to the core.

The mean and variance of a batch follow from those of its planes, by the law of total variance, so
a norm that mixes instance and batch statistics reads its input once; and sharing statistics across
processes means to add up two small vectors.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


def batch_tables(
    bn: nn.BatchNorm2d | nn.SyncBatchNorm, mean: Tensor, var: Tensor, positions: int
) -> tuple[Tensor, Tensor]:
    """The statistics that ``bn`` normalises with, given those of the planes.

    In training mode (or without running statistics) they are those of the batch, and the running
    statistics move on, exactly as in torch: unbiased variance, ``momentum=None`` averages all
    batches. In eval mode they are the running ones. A ``SyncBatchNorm`` takes the batch over all
    processes of its group.

    Args:
        bn: the batch norm that holds the running statistics.
        mean, var: (N, C), per plane, variance biased.
        positions: spatial positions per plane.

    Returns:
        Mean and biased variance, (C,) each.
    """
    if not (bn.training or bn.running_mean is None):
        assert bn.running_mean is not None and bn.running_var is not None
        return bn.running_mean.to(mean.dtype), bn.running_var.to(var.dtype)

    shares = isinstance(bn, nn.SyncBatchNorm) and dist.is_initialized()
    group = bn.process_group if isinstance(bn, nn.SyncBatchNorm) else None

    def total(value: Tensor) -> Tensor:
        return _AllReduceSum.apply(value, group) if shares else value

    count = total(mean.new_full((1,), float(len(mean) * positions)))
    batch_mean = total(mean.sum(0) * positions) / count
    # total variance = mean of the variances + variance of the means
    batch_var = total((var + (mean - batch_mean).square()).sum(0) * positions) / count

    if bn.training and bn.running_mean is not None:
        _move_running_statistics(bn, batch_mean.detach(), batch_var.detach(), count)
    return batch_mean, batch_var


@torch.no_grad()
def _move_running_statistics(
    bn: nn.BatchNorm2d | nn.SyncBatchNorm, mean: Tensor, var: Tensor, count: Tensor
) -> None:
    assert bn.running_mean is not None and bn.running_var is not None
    if bn.num_batches_tracked is not None:
        bn.num_batches_tracked.add_(1)
    if bn.momentum is None:
        assert bn.num_batches_tracked is not None
        momentum = 1.0 / float(bn.num_batches_tracked)
    else:
        momentum = bn.momentum
    unbiased = var * (count / (count - 1).clamp(min=1))
    bn.running_mean.lerp_(mean.to(bn.running_mean.dtype), momentum)
    bn.running_var.lerp_(unbiased.to(bn.running_var.dtype), momentum)


class _AllReduceSum(torch.autograd.Function):
    """Sum over processes; the gradient of a sum over processes is the sum of the gradients."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, group: Any) -> Tensor:
        ctx.group = group
        value = value.clone()
        dist.all_reduce(value, group=group)
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        gradient = gradient.clone()
        dist.all_reduce(gradient, group=ctx.group)
        return gradient, None
