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

from reid.losses.base import ReIDLoss, check_label_range, finite_zero
from reid.losses.distances import squared_euclidean_paired
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
class CenterLoss(ReIDLoss):
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
        super().__init__(name=name, input=input, weight=weight, inputs=("feature", "embedding"))
        if not (math.isfinite(center_lr) and center_lr >= 0):
            raise ValueError(f"CenterLoss: expected a finite center_lr >= 0, got {center_lr!r}")
        self.center_lr = center_lr
        self.num_classes = _positive("num_classes", num_classes)
        self.feature_dim = _positive("feature_dim", feature_dim)
        self.register_buffer("centers", None)
        self._draw_centers()

    def configure(self, *, num_classes: int, feature_dim: int) -> None:
        """Fill in the sizes that were not given; those that were must agree.

        Raises:
            ValueError: a size differs from the one already known.
        """
        for key, value in (("num_classes", num_classes), ("feature_dim", feature_dim)):
            known = getattr(self, key)
            if known is not None and known != value:
                raise ValueError(
                    f"CenterLoss: {key}={known} was given, but the model has {value}; "
                    f"leave {key} out of the loss and it follows the model"
                )
            setattr(self, key, _positive(key, value))
        self._draw_centers()

    def _draw_centers(self) -> None:
        if self.centers is None and self.num_classes is not None and self.feature_dim is not None:
            self.centers = torch.randn(self.num_classes, self.feature_dim)

    def compute(self, x: Tensor, labels: Tensor) -> Tensor:
        if self.centers is None:
            raise RuntimeError(
                "CenterLoss: num_classes and feature_dim are not known yet; give both to the "
                "constructor or call configure(num_classes=..., feature_dim=...) first"
            )
        num_classes, feature_dim = self.centers.shape
        if x.shape[1] != feature_dim:
            raise ValueError(
                f"CenterLoss: expected features of dimension {feature_dim}, got {x.shape[1]}; "
                f"feature_dim must be that of the {self.input}"
            )
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
        return (
            f"num_classes={self.num_classes}, feature_dim={self.feature_dim}, "
            f"center_lr={self.center_lr}, {super().extra_repr()}"
        )


def _positive(key: str, value: int | None) -> int | None:
    if value is not None and value < 1:
        raise ValueError(f"CenterLoss: expected {key} >= 1, got {value!r}")
    return value
