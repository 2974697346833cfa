"""Batch statistics from instance tables: what the batch half of a norm adds to the core.

The mean and variance of a batch follow from those of its planes, by the law of total variance, so
a norm that mixes instance and batch statistics reads its input once; and sharing statistics across
processes means to add up two small vectors.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .base import Norm
from .moments import Moments


class KeepsStatistics(Protocol):
    """torch's batch norms, and norms of ours that keep running statistics as those do."""

    @property
    def training(self) -> bool: ...
    @property
    def momentum(self) -> float | None: ...
    @property
    def running_mean(self) -> Tensor | None: ...
    @property
    def running_var(self) -> Tensor | None: ...
    @property
    def num_batches_tracked(self) -> Tensor | None: ...


def batch_tables(
    bn: KeepsStatistics,
    moments: Moments,
    *,
    sync: bool = False,
    group: Any = None,
    counts_batches: bool = True,
) -> tuple[Tensor, Tensor]:
    """The statistics that ``bn`` normalises with, given those of the planes.

    In training mode (or without running statistics) they are those of the batch, and the running
    statistics move on, exactly as in torch: unbiased variance, ``momentum=None`` averages all
    batches. In eval mode they are the running ones.

    Args:
        bn: holds the running statistics.
        moments: of the planes, (N, C).
        sync: take the batch over all processes of ``group``.
        counts_batches: whether ``num_batches_tracked`` moves on.

    Returns:
        Mean and biased variance, (C,) each.

    Raises:
        ValueError: training on a single value per channel.
    """
    if not (bn.training or bn.running_mean is None):
        assert bn.running_mean is not None and bn.running_var is not None
        dtype = moments.mean.dtype
        return bn.running_mean.to(dtype), bn.running_var.to(dtype)

    mean, var, values = batch_moments(moments, sync=sync, group=group)
    if bn.training and bn.running_mean is not None and mean.numel():
        assert bn.running_var is not None
        refuse_one_value(values, type(bn).__name__)
        if bn.num_batches_tracked is not None and counts_batches:
            bn.num_batches_tracked.add_(1)
        momentum = bn.momentum
        if momentum is None:
            assert bn.num_batches_tracked is not None
            momentum = 1.0 / float(bn.num_batches_tracked)
        move_statistics(bn.running_mean, mean, momentum, values)
        move_statistics(bn.running_var, var * (values / (values - 1)), momentum, values)
    return mean, var


def batch_moments(
    moments: Moments, *, sync: bool = False, group: Any = None
) -> tuple[Tensor, Tensor, Tensor | int]:
    """Mean and variance over the samples of (N, C) moments, and the number of values of a channel.

    The variance is mean(var) + var(mean): biased if ``moments.var`` is. With ``sync`` all three are
    of the samples of all processes, and so are the gradients; where the processes' maps differ in
    size, every value counts the same, as in torch.
    """
    positions = moments.positions
    values = moments.mean.shape[0] * positions
    if not (sync and dist.is_available() and dist.is_initialized()):
        mean = moments.mean.mean(0)
        return mean, (moments.var + (moments.mean - mean).square()).mean(0), values
    count = _total(moments.mean.new_full((1,), float(values)), group)
    divisor = count.clamp(min=1)  # all batches may be empty
    mean = _total(moments.mean.sum(0) * positions, group) / divisor
    spread = (moments.var + (moments.mean - mean).square()).sum(0) * positions
    return mean, _total(spread, group) / divisor, count


def refuse_one_value(count: Tensor | float, name: str) -> None:
    """Raises ValueError where batch statistics would rest on a single value per channel."""
    if isinstance(count, Tensor) and count.is_cuda:
        return  # reading it would make the processor wait; more than one process has seen data
    if float(count) == 1:
        raise ValueError(
            f"{name}: training needs more than one value per channel, got one (a single sample of "
            "a 1x1 map); use a larger batch or larger maps, or put the norm in eval mode"
        )


def sync_norms(model: nn.Module, group: Any = None) -> nn.Module:
    """Take the batch statistics of every norm over all processes.

    Norms of ours are switched in place and work on any device; those of foreign networks become
    ``nn.SyncBatchNorm`` (for a GPU). Returns the model, because a batch norm at its top is
    replaced.
    """
    return _synced(model, group, {})


def _synced(module: nn.Module, group: Any, done: dict[nn.Module, nn.Module]) -> nn.Module:
    """What stands in the place of ``module``; the same for all places of a shared one."""
    if module not in done:
        done[module] = module
        if isinstance(module, Norm) and module.has_batch_statistics:
            module.sync, module.process_group = True, group
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            done[module] = nn.SyncBatchNorm.convert_sync_batchnorm(module, group)
        else:
            for name, child in list(module._modules.items()):
                if child is not None:
                    module._modules[name] = _synced(child, group, done)
    return done[module]


@torch.no_grad()
def move_statistics(
    running: Tensor, value: Tensor, share: float, count: Tensor | float = 1
) -> None:
    """Replace a share of running statistics by those of ``count`` values; of none, nothing."""
    value = value.detach().to(running.dtype).view_as(running)
    if isinstance(count, Tensor):  # not read here: on a GPU the processor would wait for it
        running.lerp_(value, (share * (count > 0)).to(running.dtype))
    else:
        running.lerp_(value, share)


def _total(value: Tensor, group: Any) -> Tensor:
    total: Tensor = _AllReduceSum.apply(value, group)
    return total


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
