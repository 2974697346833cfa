"""Softmax over the cosines between features and class weights, with a margin for the own class.

The common part of ArcFace, CosFace and the class-level circle loss, each in a file of its own.
With cosines c_k = cos(x, w_k) and the identity y of x

    L = -log( exp(s f(c_y)) / (exp(s f(c_y)) + sum_{k != y} exp(s g(c_k))) )

where the subclass says what f and g are. The class weights w (P, D) belong to the loss: they are
parameters, trained by the model's optimiser and needed only for training.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid.losses.base import check_label_range, finite_zero
from reid.losses.distances import unit_rows
from reid.losses.sized import SizedLoss


class MarginSoftmaxLoss(SizedLoss):
    """Mean cross-entropy of scaled cosines after a margin; base of the concrete losses.

    A label outside 0..P - 1 raises ValueError on the CPU; on an accelerator the kernel asserts. An
    empty batch gives 0 with zero gradients, also for the class weights. A feature of length 0 has
    cosine 0 to every class.

    ``statistics``: "<name>_accuracy", the share of the batch (0..1) whose nearest class, by the
    cosines without a margin, is its own.

    Args:
        num_classes: P; usually left out and given by the model.
        feature_dim: D; the same.
        scale: s > 0. Cosines span only -1..1, so a softmax over them would stay flat.
        margin: 0 .. ``max_margin``; by default the paper's.
        weight: factor of the returned loss.
        label_smoothing: in [0, 1), applied to the targets of the logits with margin.
        margin_warmup: training steps over which the margin grows linearly from 0, for networks
            that do not start with a full one; 0 starts with it. The count is in the state dict.
        input: "embedding" or "feature".
        name: key in the logs; by default the kind of loss, e.g. "arcface_loss".

    Raises:
        ValueError: an argument outside the values above, features of another dimension.
        RuntimeError: called before its sizes are known.
    """

    default_margin: float
    max_margin: float
    default_name: str
    class_weights: Tensor | None
    steps: Tensor

    def __init__(
        self,
        num_classes: int | None = None,
        feature_dim: int | None = None,
        scale: float = 64.0,
        margin: float | None = None,
        weight: float = 1.0,
        *,
        label_smoothing: float = 0.0,
        margin_warmup: int = 0,
        input: str = "embedding",
        name: str | None = None,
    ) -> None:
        name = self.default_name if name is None else name
        margin = self.default_margin if margin is None else margin
        super().__init__(num_classes, feature_dim, name=name, input=input, weight=weight)
        kind = type(self).__name__
        if not (math.isfinite(scale) and scale > 0):
            raise ValueError(f"{kind}: expected a finite scale > 0, got {scale!r}")
        if not 0 <= margin <= self.max_margin:
            raise ValueError(f"{kind}: expected margin in 0..{self.max_margin:.4g}, got {margin!r}")
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"{kind}: expected label_smoothing in [0, 1), got {label_smoothing!r}")
        if margin_warmup < 0:
            raise ValueError(f"{kind}: expected margin_warmup >= 0 steps, got {margin_warmup!r}")
        self.scale = scale
        self.margin = margin
        self.label_smoothing = label_smoothing
        self.margin_warmup = margin_warmup
        self.register_parameter("class_weights", None)
        if margin_warmup:
            self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.allocate_if_sized()

    def allocate(self, num_classes: int, feature_dim: int) -> None:
        self.class_weights = nn.Parameter(torch.empty(num_classes, feature_dim))
        nn.init.normal_(self.class_weights, std=0.01)

    def own_logit(self, cosines: Tensor, margin: Tensor) -> Tensor:
        """f: (N, 1) cosines to the own class, with the 0-d margin, before the scale."""
        raise NotImplementedError(f"{type(self).__name__} must implement own_logit(...)")

    def other_logit(self, cosines: Tensor, margin: Tensor) -> Tensor:
        """g: (N, P) cosines to all classes; the column of the own class is replaced after it."""
        return cosines

    def compute(self, x: Tensor, labels: Tensor) -> Tensor:
        self.check_sized(x.shape[1])
        assert self.class_weights is not None and self.num_classes is not None
        check_label_range(labels, self.num_classes, type(self).__name__)
        cosines = unit_rows(x) @ unit_rows(self.class_weights.to(x.dtype)).T  # (N, P)
        own_class = labels[:, None]  # (N, 1)
        margin = self._current_margin(x)
        logits = self.other_logit(cosines, margin).scatter(
            1, own_class, self.own_logit(cosines.gather(1, own_class), margin)
        )
        count = max(len(labels), 1)
        correct = (cosines.detach().argmax(dim=1) == labels).sum()
        self.statistics = {self.log_key("accuracy"): correct / count}
        total = F.cross_entropy(
            self.scale * logits, labels, label_smoothing=self.label_smoothing, reduction="sum"
        )
        return total / count + finite_zero(x)

    def _current_margin(self, x: Tensor) -> Tensor:
        """0-d margin of this step, filled on the device so that nothing is copied to it."""
        margin = torch.full((), self.margin, dtype=x.dtype, device=x.device)
        if self.margin_warmup:
            margin = margin * self.steps.div(self.margin_warmup).clamp_max(1).to(x.dtype)
            if self.training and torch.is_grad_enabled():
                self.steps += 1
        return margin

    def extra_repr(self) -> str:
        return (
            f"scale={self.scale}, margin={self.margin}, label_smoothing={self.label_smoothing}, "
            f"margin_warmup={self.margin_warmup}, {super().extra_repr()}"
        )
