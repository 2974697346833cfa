"""Triplet loss: a distance, a mining, and the mean over what the batch has to offer.

Hermans et al., "In Defense of the Triplet Loss for Person Re-Identification", 2017
(https://arxiv.org/abs/1703.07737): the batch hard and the batch all loss, with a margin or with the
soft margin. With ``mining="semi_hard"`` the triplets of Schroff et al., "FaceNet", 2015
(https://arxiv.org/abs/1503.03832); with ``mining="weighted", margin="soft"`` the weighted
regularisation triplet of AGW: Ye et al., "Deep Learning for Person Re-identification: A Survey and
Outlook", 2020 (https://arxiv.org/abs/2001.04193), equation 4.
Deviation: an anchor without a positive or without a negative is left out of the mean; the papers'
P x K batches have none.
"""

from __future__ import annotations

import logging
import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from reid.losses.base import ReIDLoss, finite_zero
from reid.losses.distances import get_distance
from reid.losses.gaps import get_mining
from reid.registry import MODELS

logger = logging.getLogger(__name__)

# A sampler that draws no triplets shows it at once. Looking longer would read a value from the
# device in every step of the training.
_WATCHED_CALLS = 100

_REDUCTIONS = ("mean", "active")


class TripletTerms(NamedTuple):
    """Result of :func:`triplet_terms`; the anchors stand along the first axis.

    Attributes:
        losses: (N, ...) loss of each triplet, 0 where not valid.
        valid: bool, the triplets that the batch has.
        violations: bool, the valid triplets that violate the margin (soft margin: whose positive
            is not nearer than the negative).
    """

    losses: Tensor
    valid: Tensor
    violations: Tensor


def triplet_terms(
    features: Tensor,
    labels: Tensor,
    *,
    margin: float | None = 0.3,
    distance: str = "euclidean",
    mining: str = "batch_hard",
) -> TripletTerms:
    """[d(a, p) - d(a, n) + margin]_+ of each triplet, or softplus(d(a, p) - d(a, n)).

    Args:
        features: (N, D) floating.
        labels: (N,) integer identities.
        margin: in units of the distance; None for the soft margin.
        distance: a name in :data:`reid.losses.distances.DISTANCES`.
        mining: a name in :data:`reid.losses.gaps.MININGS`, which decides the shape.
    """
    gaps, valid = get_mining(mining)(get_distance(distance), features, labels)
    losses = F.softplus(gaps) if margin is None else F.relu(gaps + margin)
    violations = gaps >= 0 if margin is None else gaps + margin > 0
    return TripletTerms(losses.masked_fill(~valid, 0), valid, violations & valid)


@MODELS.register_module()
class TripletLoss(ReIDLoss):
    """Mean loss over the triplets of a batch, as many as the mining makes of it.

    Identities may come with any number of images. If no anchor is valid (one identity only, all
    singletons, an empty batch) the loss is 0 with zero gradients, and a warning is logged once
    (looked for in the first 100 calls). Triplets are mined within the batch of this process.

    ``statistics``: "triplet_active", the share of the triplets that violate the margin, and
    "triplet_valid", the share of the anchors that have a triplet; both 0..1.

    Args:
        margin: >= 0, in units of the distance, or "soft" for softplus without a margin.
        distance: "euclidean", "squared_euclidean", "cosine" or "normalized_euclidean".
        mining: "batch_hard", a triplet an anchor from the farthest positive and the nearest
            negative; "semi_hard", one for each positive with the nearest negative beyond it;
            "batch_all", every triplet of the batch; "weighted", a triplet an anchor from the
            weighted means of all positives and of all negatives.
        reduction: "mean" over the triplets, or "active": over those that violate the margin, which
            keeps the gradient alive when nearly all of "batch_all" are satisfied.
        weight: factor of the returned loss.
        input: "feature" (before the BNNeck, as in the strong baseline) or "embedding".
        name: key in the logs.

    Raises:
        ValueError: an argument outside the values above.
    """

    def __init__(
        self,
        margin: float | str = 0.3,
        distance: str = "euclidean",
        mining: str = "batch_hard",
        weight: float = 1.0,
        *,
        reduction: str = "mean",
        input: str = "feature",
        name: str = "triplet_loss",
    ) -> None:
        super().__init__(name=name, input=input, weight=weight, inputs=("feature", "embedding"))
        if isinstance(margin, str):
            valid_margin = margin == "soft"
        else:
            valid_margin = math.isfinite(margin) and margin >= 0
        if not valid_margin:
            raise ValueError(
                f"TripletLoss: expected margin to be a finite number >= 0 or 'soft', got {margin!r}"
            )
        get_distance(distance)  # an unknown name fails here, not in training
        get_mining(mining)
        if reduction not in _REDUCTIONS:
            raise ValueError(
                f"TripletLoss: expected reduction to be one of {', '.join(_REDUCTIONS)}, "
                f"got {reduction!r}"
            )
        self.margin = margin
        self.distance = distance
        self.mining = mining
        self.reduction = reduction
        self._calls_to_watch = _WATCHED_CALLS

    def compute(self, x: Tensor, labels: Tensor) -> Tensor:
        terms = triplet_terms(
            x,
            labels,
            margin=None if isinstance(self.margin, str) else self.margin,
            distance=self.distance,
            mining=self.mining,
        )
        num_valid, num_active = terms.valid.sum(), terms.violations.sum()
        anchors = terms.valid
        while anchors.ndim > 1:
            anchors = anchors.any(dim=-1)  # (N,), those with any triplet
        self.statistics = {
            self.log_key("active"): num_active / num_valid.clamp_min(1),
            self.log_key("valid"): anchors.sum() / max(len(labels), 1),
        }
        self._warn_if_none(anchors)
        counted = terms.losses
        if self.reduction == "active":
            counted, num_valid = counted.masked_fill(~terms.violations, 0), num_active
        return counted.sum() / num_valid.clamp_min(1) + finite_zero(x)

    def _warn_if_none(self, valid: Tensor) -> None:
        # The counter would make a compiler specialise on its value.
        if torch.compiler.is_compiling() or self._calls_to_watch == 0:
            return
        self._calls_to_watch -= 1
        if not valid.any():
            self._calls_to_watch = 0
            logger.warning(
                "%s: no anchor of a batch of %d images has both a positive and a negative, so the "
                "loss is 0; draw batches of at least 2 identities with at least 2 images each "
                "(an identity-balanced sampler). Said once.",
                self.name,
                len(valid),
            )

    def extra_repr(self) -> str:
        return (
            f"margin={self.margin!r}, distance={self.distance!r}, mining={self.mining!r}, "
            f"reduction={self.reduction!r}, {super().extra_repr()}"
        )
