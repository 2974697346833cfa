"""SN: two learned softmaxes choose among instance, layer and batch statistics.

Paper: Luo et al., "Differentiable Learning-to-Normalize via Switchable Normalization", ICLR 2019,
https://arxiv.org/abs/1806.10779.

Where paper and authors' code differ, the code is followed: the instance variance is unbiased, and
the layer and batch variances are built from it, so they are neither the biased nor the unbiased
ones of all values. Deviations: variances come as mean(var) + var(mean) instead of E[x^2] - mean^2,
which cancels to NaN where the mean is large; 1x1 maps work (theirs give NaN); statistics across
processes are exact in value and gradient (theirs overwrite the softmax while reading it).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..registry import MODELS
from .base import Norm, check_num_features
from .batch import batch_moments, move_statistics, refuse_one_value
from .moments import Moments


@MODELS.register_module()
class SN(Norm):
    """y = (x - sum w_k mean_k) / sqrt(sum w'_k var_k + eps) * weight + bias, equation 3.

    k runs over [IN, LN, BN], in this order; ``w = softmax(mean_weight)``,
    ``w' = softmax(var_weight)``.

    Args:
        num_features: C.
        eps: added to the mixed variance.
        momentum: share of the running statistics that a training step KEEPS (torch's norms name
            the share that is replaced).
        using_moving_average: True keeps running statistics. False adds up the batches' means and
            second moments in the same buffers, which :func:`backbones.calibrate` turns into batch
            averages; evaluating before that is refused.
        using_bn: False chooses among IN and LN only, and has no buffers.
        last_gamma: weight starts at 0 (the last norm of a residual branch).
        spatial_dims: 0 to 3. 0 is the authors' 1d layer for (N, C), which has no IN.
        sync: take the batch statistics over all processes.

    Parameters: weight, bias (1, C, 1, 1) and mean_weight, var_weight (3,), or (2,) where one
    statistic is left out. Buffers running_mean, running_var (1, C, 1), starting at zero.

    Shape: (N, C, H, W) -> the same, or with as many spatial dimensions as ``spatial_dims`` says.
    """

    has_batch_statistics = True

    running_mean: Tensor | None
    running_var: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.9,
        using_moving_average: bool = True,
        using_bn: bool = True,
        last_gamma: bool = False,
        spatial_dims: int = 2,
        sync: bool = False,
    ) -> None:
        super().__init__()
        check_num_features(num_features, "SN")
        if spatial_dims not in range(4):
            raise ValueError(f"SN: spatial_dims is 0 to 3, got {spatial_dims}")
        if spatial_dims == 0 and not using_bn:
            raise ValueError("SN: for (N, C) only LN would be left; use using_bn=True or LN")
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.using_moving_average, self.using_bn = using_moving_average, using_bn
        self.spatial_dims = (spatial_dims,)
        self.sync, self.process_group = sync, None
        self.statistics = ("in", "ln", "bn")[spatial_dims == 0 : 3 if using_bn else 2]
        shape = (1, num_features, *(1,) * spatial_dims)
        self.weight = nn.Parameter(torch.full(shape, 0.0 if last_gamma else 1.0))
        self.bias = nn.Parameter(torch.zeros(shape))
        self.mean_weight = nn.Parameter(torch.ones(len(self.statistics)))
        self.var_weight = nn.Parameter(torch.ones(len(self.statistics)))
        running = torch.zeros(1, num_features, 1) if using_bn else None
        self.register_buffer("running_mean", running)
        self.register_buffer("running_var", None if running is None else running.clone())
        self.batches_added = 0
        """Batches whose sums the buffers hold, 0 if they hold statistics; 1 if compiled."""

    def learned(self) -> tuple[Tensor, ...]:
        return self.mean_weight, self.var_weight, self.weight, self.bias

    def algebra(self, moments: Moments, *learned: Tensor) -> tuple[Tensor, Tensor]:
        mean_weight, var_weight, weight, bias = learned
        # one value per plane has variance 0
        planes = Moments(moments.mean, moments.unbiased_var, moments.positions)
        layer = planes.grouped(1)  # (N, 1)
        tables = {"in": (planes.mean, planes.var), "ln": (layer.mean, layer.var)}
        if self.using_bn:
            tables["bn"] = self._batch_tables(planes)  # (C,)
        means, variances = zip(*(tables[name] for name in self.statistics), strict=True)
        mean, var = _mixed(mean_weight, means), _mixed(var_weight, variances)  # (N, C)
        scale = weight.flatten() * torch.rsqrt(var + self.eps)
        return scale, bias.flatten() + scale * (moments.mean - mean)

    def _batch_tables(self, planes: Moments) -> tuple[Tensor, Tensor]:
        assert self.running_mean is not None and self.running_var is not None
        if not self.training:
            if self.batches_added:
                raise RuntimeError(
                    "SN: the buffers hold sums over training batches (using_moving_average=False), "
                    "not statistics; run backbones.calibrate(model, loader) before evaluating"
                )
            dtype = planes.mean.dtype
            return self.running_mean.flatten().to(dtype), self.running_var.flatten().to(dtype)
        mean, var, values = batch_moments(planes, sync=self.sync, group=self.process_group)
        refuse_one_value(values, "SN")
        self._keep(mean.detach(), var.detach(), values)
        return mean, var

    @torch.no_grad()
    def _keep(self, mean: Tensor, var: Tensor, count: Tensor | int) -> None:
        assert self.running_mean is not None and self.running_var is not None
        if self.using_moving_average:
            move_statistics(self.running_mean, mean, 1 - self.momentum, count)
            move_statistics(self.running_var, var, 1 - self.momentum, count)
        else:
            mean, var = mean.view_as(self.running_mean), var.view_as(self.running_var)
            self.running_mean.add_(mean)
            self.running_var.add_(var + mean.square())
            # what compiled code reads here, it is compiled for: it only notes that there are some
            self.batches_added = 1 if torch.compiler.is_compiling() else self.batches_added + 1

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        # Beside the tensors, whose names and shapes are the authors': sums stay known as such.
        if self.batches_added and (metadata := getattr(destination, "_metadata", None)) is not None:
            metadata.setdefault(prefix[:-1], {})["batches_added"] = self.batches_added

    def _load_from_state_dict(
        self,
        state_dict: Any,
        prefix: str,
        local_metadata: dict[str, Any],
        *args: Any,
        **kwargs: Any,
    ) -> None:
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args, **kwargs)
        if f"{prefix}running_mean" in state_dict:
            self.batches_added = local_metadata.get("batches_added", 0)

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, {'|'.join(self.statistics)}, eps={self.eps}, "
            f"momentum={self.momentum}, using_moving_average={self.using_moving_average}"
        )


def _mixed(logits: Tensor, tables: Sequence[Tensor]) -> Tensor:
    """Sum of tables that broadcast to each other, weighted by the softmax of ``logits``."""
    weights = logits.softmax(0)
    total = weights[0] * tables[0]
    for k in range(1, len(tables)):
        total = total + weights[k] * tables[k]
    return total
