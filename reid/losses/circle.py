"""Circle loss: every similarity is weighted by how far it still is from where it should be.

Sun et al., "Circle Loss: A Unified Perspective of Pair Similarity Optimization", 2020
(https://arxiv.org/abs/2002.10857), equations 4 to 6, for the positive similarities s_p and the
negative ones s_n (cosines) of an anchor:

    L = log(1 + sum_j exp(gamma a_n (s_n - m)) sum_i exp(-gamma a_p (s_p - (1 - m))))
    a_p = [1 + m - s_p]_+    a_n = [s_n + m]_+

The weights a are constants of the gradient, as in the paper's equations 9 and 10. Between images
of a batch this is :class:`CircleLoss`; between an image and the weights of the classes, where the
one positive makes it a softmax, :class:`CircleSoftmaxLoss`.
Deviation: an anchor without a positive or without a negative is left out of the mean.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from reid.losses.base import ReIDLoss, finite_zero
from reid.losses.distances import unit_rows
from reid.losses.margin_softmax import MarginSoftmaxLoss
from reid.losses.mining import pair_masks
from reid.registry import MODELS


def circle_logit(similarities: Tensor, margin: float | Tensor, *, positive: bool) -> Tensor:
    """a (s - delta) of each similarity, with a constant a: delta 1 - m for positives, else m."""
    if positive:
        return F.relu(1 + margin - similarities.detach()) * (similarities - (1 - margin))
    return F.relu(similarities.detach() + margin) * (similarities - margin)


@MODELS.register_module()
class CircleLoss(ReIDLoss):
    """Mean pairwise circle loss over the anchors that have a positive and a negative.

    Features are brought to unit length. Without a valid anchor the loss is 0 with zero gradients.

    ``statistics``: "circle_positive" and "circle_negative", the mean cosine of the pairs of one
    identity and of all others (0 if there is none).

    Args:
        margin: m in 0..1; similarities are pulled towards 1 - m above and m below.
        gamma: > 0, the scale; 128 is the paper's for re-identification.
        weight: factor of the returned loss.
        input: "feature" (before the BNNeck) or "embedding".
        name: key in the logs.

    Raises:
        ValueError: an argument outside the values above.
    """

    def __init__(
        self,
        margin: float = 0.25,
        gamma: float = 128.0,
        weight: float = 1.0,
        *,
        input: str = "feature",
        name: str = "circle_loss",
    ) -> None:
        super().__init__(name=name, input=input, weight=weight, inputs=("feature", "embedding"))
        if not 0 <= margin <= 1:
            raise ValueError(f"CircleLoss: expected margin in 0..1, got {margin!r}")
        if not (math.isfinite(gamma) and gamma > 0):
            raise ValueError(f"CircleLoss: expected a finite gamma > 0, got {gamma!r}")
        self.margin = margin
        self.gamma = gamma

    def compute(self, x: Tensor, labels: Tensor) -> Tensor:
        rows = unit_rows(x)
        similarities = rows @ rows.T  # (N, N)
        positives, negatives = pair_masks(labels)
        # log(sum sum) = the sum of two log-sums; a lowest finite number keeps empty rows from NaN.
        lowest = torch.finfo(x.dtype).min
        pull = -self.gamma * circle_logit(similarities, self.margin, positive=True)
        push = self.gamma * circle_logit(similarities, self.margin, positive=False)
        total = pull.masked_fill(~positives, lowest).logsumexp(dim=1)
        total = total + push.masked_fill(~negatives, lowest).logsumexp(dim=1)  # (N,)
        valid = positives.any(dim=1) & negatives.any(dim=1)
        losses = F.softplus(total.masked_fill(~valid, 0)).masked_fill(~valid, 0)
        self.statistics = {
            self.log_key("positive"): _mean_over(similarities.detach(), positives),
            self.log_key("negative"): _mean_over(similarities.detach(), negatives),
        }
        return losses.sum() / valid.sum().clamp_min(1) + finite_zero(x)

    def extra_repr(self) -> str:
        return f"margin={self.margin}, gamma={self.gamma}, {super().extra_repr()}"


def _mean_over(values: Tensor, mask: Tensor) -> Tensor:
    return values.masked_fill(~mask, 0).sum() / mask.sum().clamp_min(1)


@MODELS.register_module()
class CircleSoftmaxLoss(MarginSoftmaxLoss):
    """The class-level circle loss: a softmax over circle logits of cosines to class weights.

    Arguments, statistics and errors are those of :class:`MarginSoftmaxLoss`; ``scale`` is the
    paper's gamma. The defaults are those of fast-reid's SBS recipe. The paper's class-level
    experiments (faces) use ``scale=256, margin=0.25``.
    """

    default_margin = 0.35
    max_margin = 1.0
    default_name = "circle_softmax_loss"

    def own_logit(self, cosines: Tensor, margin: Tensor) -> Tensor:
        return circle_logit(cosines, margin, positive=True)

    def other_logit(self, cosines: Tensor, margin: Tensor) -> Tensor:
        return circle_logit(cosines, margin, positive=False)
