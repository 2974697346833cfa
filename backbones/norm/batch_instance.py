"""BIN: a learned gate mixes batch and instance normalisation, channel by channel.

Paper: Nam and Kim, "Batch-Instance Normalization for Adaptively Style-Invariant Neural Networks",
NeurIPS 2018, https://arxiv.org/abs/1805.07925.

Deviations from the authors' code: any memory format and number of spatial dimensions work (theirs
takes contiguous 2d maps larger than 1x1); the layer is not a subclass of torch's batch norm, which
SyncBatchNorm conversion would silently replace; the gate is safe without the training loop's help.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..registry import MODELS
from .base import Norm, check_num_features
from .batch import batch_tables
from .moments import Moments


@MODELS.register_module()
class BIN(Norm):
    """y = (gate * x_bn + (1 - gate) * x_in) * weight + bias, equation 3 of the paper.

    ``x_bn`` and ``x_in`` are x standardised by batch and by instance statistics, with biased
    variances; the instance statistics are always the sample's own, in eval mode, too.

    Args:
        num_features: C.
        eps, momentum: as in torch's norms.
        affine: False has neither weight nor bias (the gate is still learned).
        sync: take the batch statistics over all processes.

    The gate, (C,), starts at 1 (pure BN) and lives in [0, 1]. The authors clip it after each step
    of the optimiser, as does :class:`GateClampHook`; a value outside is read as the nearest bound,
    with the gradient of that bound, so forgetting the hook changes nothing within a step.
    ``num_batches_tracked`` stays 0, as the authors'.

    Shape: (N, C, L), (N, C, H, W) or (N, C, D, H, W) -> the same.
    """

    has_batch_statistics = True

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        sync: bool = False,
    ) -> None:
        super().__init__()
        check_num_features(num_features, "BIN")
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.sync, self.process_group = sync, None
        self.weight = nn.Parameter(torch.ones(num_features)) if affine else None
        self.bias = nn.Parameter(torch.zeros(num_features)) if affine else None
        self.gate = nn.Parameter(torch.ones(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def learned(self) -> tuple[Tensor, ...]:
        if self.weight is None or self.bias is None:
            return (self.gate,)
        return self.gate, self.weight, self.bias

    def algebra(self, moments: Moments, *learned: Tensor) -> tuple[Tensor, Tensor]:
        gate = _clamp_straight_through(learned[0])
        batch_mean, batch_var = batch_tables(
            self, moments, sync=self.sync, group=self.process_group, counts_batches=False
        )
        bn_scale = gate * torch.rsqrt(batch_var + self.eps)  # (C,)
        scale = bn_scale + (1 - gate) * torch.rsqrt(moments.var + self.eps)  # (N, C)
        offset = bn_scale * (moments.mean - batch_mean)
        if len(learned) == 1:
            return scale, offset
        _, weight, bias = learned
        return weight * scale, weight * offset + bias

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"


def _clamp_straight_through(gate: Tensor) -> Tensor:
    """Clamped to [0, 1], with gradient 1 everywhere: a gate that has left can come back."""
    return gate + (gate.clamp(0, 1) - gate).detach()


@torch.no_grad()
def clamp_gates(model: nn.Module) -> None:
    """Bring every BIN gate back into [0, 1]; to be called after each step of the optimiser."""
    for module in model.modules():
        if isinstance(module, BIN):
            module.gate.clamp_(0, 1)
