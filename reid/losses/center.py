"""Center loss: the squared distance of each feature to the learned center of its identity.

Wen et al., "A Discriminative Feature Learning Approach for Deep Face Recognition", 2016
(https://ydwen.github.io/papers/WenECCV16.pdf), in the form of Luo et al., "Bag of Tricks and A
Strong Baseline for Deep Person Re-identification", 2019 (https://arxiv.org/abs/1903.07071):

    L = 1/N sum_i clamp(||x_i - c_{y_i}||^2, 1e-12, 1e12)

with centers trained by an SGD of their own, lr 0.5, on the *unweighted* loss. That step has a
closed form, c_k -= lr * 2/N sum_{i: y_i = k} (c_k - x_i), so the loss takes it itself and needs no
second optimiser. (Wen's equation 4 divides by 1 + the count of the class instead of by N.)
Deviation from the public code of Luo et al.: it clamps the zeros of all other classes too, which
adds the constant (P - 1) * 1e-12; here they do not enter.
"""

from __future__ import annotations

import math

import torch
import torch.distributed as dist
from torch import Tensor

from reid.losses.base import check_label_range, finite_zero
from reid.losses.distances import squared_euclidean_paired
from reid.losses.sized import SizedLoss
from reid.registry import MODELS

_MIN, _MAX = 1e-12, 1e12


@torch.no_grad()
def center_gradient(centers: Tensor, features: Tensor, labels: Tensor) -> Tensor:
    """Gradient of the unweighted center loss in the centers, over the batch of all processes.

    With torch.distributed initialised this is a collective call: every rank must make it, also
    one with an empty batch. Ranks then hold the same result.

    Args:
        centers: (P, D) floating.
        features: (N, D), same dtype.
        labels: (N,) int64 in 0..P - 1.

    Returns:
        (P, D). Features beyond the clamp, and features that are not finite, contribute nothing:
        the loss reports them, and one bad batch that a gradient scaler skips must not destroy
        centers learned over epochs.
    """
    residuals = centers[labels] - features  # (N, D)
    squared = residuals.square().sum(dim=1, keepdim=True)  # (N, 1)
    inside = (squared >= _MIN) & (squared <= _MAX)
    total = torch.zeros_like(centers).index_add_(0, labels, residuals.where(inside, 0))
    count = total.new_full((), float(len(labels)))
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(total)
        dist.all_reduce(count)
    return total * (2 / count.clamp_min(1))


@MODELS.register_module()
class CenterLoss(SizedLoss):
    """Mean squared distance to the centers of the identities, which it moves itself.

    In training mode with gradients enabled each call computes the loss with the centers as they
    are and then moves them by one SGD step (see the top of this file): the same as a separate
    ``torch.optim.SGD`` that steps after the backward. With several processes the step is that of
    the global batch, equal on all ranks; every rank has to call the loss equally often. (The
    centers must start equal: DistributedDataParallel takes care of that.) In eval mode, or under
    ``torch.no_grad``, centers stay. They are the buffer ``centers`` (P, D) of the state dict,
    drawn from N(0, 1).

    Sizes may be left out here and given by the owning model through :meth:`configure`. A label
    outside 0..P - 1 raises ValueError on the CPU; on an accelerator the kernel asserts. An empty
    batch gives 0 with zero gradients.

    Args:
        num_classes: P, the number of training identities.
        feature_dim: D.
        weight: factor of the returned loss; the step of the centers does not depend on it.
        center_lr: learning rate of the centers, >= 0; 0 freezes them.
        input: "feature" (before the BNNeck, as in the strong baseline) or "embedding".
        name: key in the logs.

    Raises:
        ValueError: an argument outside the values above, features of another dimension.
        RuntimeError: called before its sizes are known.
    """

    centers: Tensor | None

    def __init__(
        self,
        num_classes: int | None = None,
        feature_dim: int | None = None,
        weight: float = 0.0005,
        center_lr: float = 0.5,
        *,
        input: str = "feature",
        name: str = "center_loss",
    ) -> None:
        super().__init__(num_classes, feature_dim, name=name, input=input, weight=weight)
        if not (math.isfinite(center_lr) and center_lr >= 0):
            raise ValueError(f"CenterLoss: expected a finite center_lr >= 0, got {center_lr!r}")
        self.center_lr = center_lr
        self.register_buffer("centers", None)
        self.allocate_if_sized()

    def allocate(self, num_classes: int, feature_dim: int) -> None:
        self.centers = torch.randn(num_classes, feature_dim)

    def compute(self, x: Tensor, labels: Tensor) -> Tensor:
        self.check_sized(x.shape[1])
        assert self.centers is not None
        num_classes = len(self.centers)
        check_label_range(labels, num_classes, "CenterLoss")
        centers = self.centers.to(x.dtype)
        distances = squared_euclidean_paired(x, centers[labels])  # (N,), reads copies of the rows
        loss = distances.clamp(_MIN, _MAX).sum() / max(len(labels), 1)
        if self.training and torch.is_grad_enabled():
            # Safe before the backward: the graph above holds copies of the rows, not the buffer.
            step = self.center_lr * center_gradient(centers, x.detach(), labels)
            with torch.no_grad():
                self.centers -= step
        return loss + finite_zero(x)

    def extra_repr(self) -> str:
        return f"center_lr={self.center_lr}, {super().extra_repr()}"
