"""IBN: instance normalisation for some channels, batch normalisation for the others.

Paper: Pan et al., "Two at Once: Enhancing Learning and Generalization Capacities via IBN-Net",
ECCV 2018, https://arxiv.org/abs/1807.09441. The layer of IBN-a.

Deviation from the authors' code: channels are split as [half, C - half], so odd channel counts and
any ratio work (theirs splits in chunks of ``half`` and fails there); both halves are normalised in
one pass through the shared core, without copies.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..registry import MODELS
from .base import Norm, check_num_features
from .batch import batch_tables
from .moments import Moments


@MODELS.register_module()
class IBN(Norm):
    """IN | BN over the channels of x, (N, C, *spatial) -> the same shape.

    Args:
        num_features: C.
        ratio: share of the channels that get IN. ``order="in_bn"`` gives IN the first
            ``int(C * ratio)`` channels (ResNet); ``order="bn_in"`` gives BN the first
            ``int(C * (1 - ratio))`` (DenseNet), truncating as the authors' two classes do.
        order: which of the two comes first.
        eps, momentum: as in torch's norms.
        sync: take the batch statistics over all processes.

    The parameters live in two children, ``IN`` and ``BN``, in that order of channels: their names
    are those of the published checkpoints, and code that looks for batch norms (freezing,
    ``norm_eval``, SyncBatchNorm conversion) finds a real one.
    """

    has_batch_statistics = True

    def __init__(
        self,
        num_features: int,
        ratio: float = 0.5,
        order: Literal["in_bn", "bn_in"] = "in_bn",
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        sync: bool = False,
    ) -> None:
        super().__init__()
        check_num_features(num_features, "IBN")
        if not 0 <= ratio <= 1:
            raise ValueError(f"IBN: ratio is the share of IN channels, in 0..1, got {ratio}")
        if order not in ("in_bn", "bn_in"):
            raise ValueError(f"IBN: order must be 'in_bn' or 'bn_in', got {order!r}")
        self.num_features, self.ratio, self.order = num_features, ratio, order
        self.sync, self.process_group = sync, None
        if order == "in_bn":
            in_features = int(num_features * ratio)
            self.IN = nn.InstanceNorm2d(in_features, eps=eps, affine=True)
            self.BN = nn.BatchNorm2d(num_features - in_features, eps=eps, momentum=momentum)
        else:  # registered in the order of the channels, as in the checkpoints
            bn_features = int(num_features * (1 - ratio))
            self.BN = nn.BatchNorm2d(bn_features, eps=eps, momentum=momentum)
            self.IN = nn.InstanceNorm2d(num_features - bn_features, eps=eps, affine=True)

    @property
    def sync(self) -> bool:
        """Whether the batch half is synchronous: told here, or made so by torch's conversion."""
        return self._sync or isinstance(self.BN, nn.SyncBatchNorm)

    @sync.setter
    def sync(self, value: bool) -> None:
        self._sync = value

    @property
    def group(self) -> Any:
        """The processes that share the batch; None is all of them."""
        return self.process_group if self._sync else getattr(self.BN, "process_group", None)

    def learned(self) -> tuple[Tensor, ...]:
        return self.IN.weight, self.IN.bias, self.BN.weight, self.BN.bias

    def algebra(self, moments: Moments, *learned: Tensor) -> tuple[Tensor, Tensor]:
        in_weight, in_bias, bn_weight, bn_bias = learned
        i, b = (0, 1) if self.order == "in_bn" else (1, 0)
        sizes = [self.IN.num_features, self.BN.num_features][:: 1 if i == 0 else -1]
        means, variances = moments.mean.split(sizes, 1), moments.var.split(sizes, 1)

        in_scale = in_weight * torch.rsqrt(variances[i] + self.IN.eps)  # (N, C_in)
        batch_mean, batch_var = batch_tables(
            self.BN,
            Moments(means[b], variances[b], moments.positions),
            sync=self.sync,
            group=self.group,
        )
        bn_scale = bn_weight * torch.rsqrt(batch_var + self.BN.eps)  # (C_bn,)
        bn_offset = bn_bias + bn_scale * (means[b] - batch_mean)  # (N, C_bn)
        scales = (in_scale, bn_scale.expand_as(bn_offset))
        offsets = (in_bias.expand_as(in_scale), bn_offset)
        return torch.cat((scales[i], scales[b]), 1), torch.cat((offsets[i], offsets[b]), 1)

    def extra_repr(self) -> str:
        return f"{self.num_features}, ratio={self.ratio}, order={self.order!r}"
