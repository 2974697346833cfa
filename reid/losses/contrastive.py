"""Contrastive loss: pairs of one identity close together, all others at least a margin apart.

Hadsell et al., "Dimensionality Reduction by Learning an Invariant Mapping", 2006
(http://yann.lecun.com/exdb/publis/pdf/hadsell-chopra-lecun-06.pdf), equation 4:

    L(pair) = 1/2 d^2 for a pair of one identity, 1/2 [margin - d]_+^2 for any other

Deviation: the paper sums over given pairs. Here all pairs of the batch take part and the two kinds
are averaged apart, because P identities with K images make about P times as many negative pairs as
positive ones.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from reid.losses.base import ReIDLoss, finite_zero
from reid.losses.distances import get_distance
from reid.losses.mining import pair_masks
from reid.registry import MODELS


@MODELS.register_module()
class ContrastiveLoss(ReIDLoss):
    """Mean loss of the positive pairs plus mean loss of the negative pairs of a batch.

    A kind of which the batch has no pair adds nothing; without any pair the loss is 0 with zero
    gradients.

    ``statistics``: "contrastive_active", the share of the negative pairs (0..1) that are nearer
    than the margin.

    Args:
        margin: > 0, in units of the distance. Lengths of plain features grow and shrink with the
            network; with ``distance="normalized_euclidean"`` distances lie in 0..2 and a margin of
            about 1 suits any network.
        distance: "euclidean" (the paper's), "squared_euclidean", "cosine" or
            "normalized_euclidean".
        weight: factor of the returned loss.
        input: "feature" (before the BNNeck) or "embedding".
        name: key in the logs.

    Raises:
        ValueError: an argument outside the values above.
    """

    def __init__(
        self,
        margin: float = 1.0,
        distance: str = "euclidean",
        weight: float = 1.0,
        *,
        input: str = "feature",
        name: str = "contrastive_loss",
    ) -> None:
        super().__init__(name=name, input=input, weight=weight, inputs=("feature", "embedding"))
        if not (math.isfinite(margin) and margin > 0):
            raise ValueError(f"ContrastiveLoss: expected a finite margin > 0, got {margin!r}")
        get_distance(distance)  # an unknown name fails here, not in training
        self.margin = margin
        self.distance = distance

    def compute(self, x: Tensor, labels: Tensor) -> Tensor:
        # Every pair stands twice in the matrix, which changes neither mean.
        distances = get_distance(self.distance).pairwise(x)  # (N, N)
        positives, negatives = pair_masks(labels)
        missing = F.relu(self.margin - distances)
        num_positive, num_negative = positives.sum(), negatives.sum()
        active = (negatives & (missing > 0)).sum()
        self.statistics = {self.log_key("active"): active / num_negative.clamp_min(1)}
        pull = distances.square().masked_fill(~positives, 0).sum() / num_positive.clamp_min(1)
        push = missing.square().masked_fill(~negatives, 0).sum() / num_negative.clamp_min(1)
        return (pull + push) / 2 + finite_zero(x)

    def extra_repr(self) -> str:
        return f"margin={self.margin}, distance={self.distance!r}, {super().extra_repr()}"
