"""Triplet loss: a distance, a miner, and the mean over the anchors that have a triplet.

Hermans et al., "In Defense of the Triplet Loss for Person Re-Identification", 2017
(https://arxiv.org/abs/1703.07737): the batch hard loss, with a margin or with the soft margin.
Deviation: an anchor without a positive or without a negative is left out of the mean; the paper's
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
from reid.losses.mining import get_miner
from reid.registry import MODELS

logger = logging.getLogger(__name__)

# A sampler that draws no triplets shows it at once. Looking longer would read a value from the
# device in every step of the training.
_WATCHED_CALLS = 100


class TripletTerms(NamedTuple):
    """Result of :func:`triplet_terms`.

    Attributes:
        losses: (N,) loss of each anchor, 0 where not valid.
        valid: (N,) bool, the anchors that have a positive and a negative.
        violations: (N,) bool, the valid anchors that violate the margin (soft margin: whose
            positive is not nearer than the negative).
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
    """[d(a, p) - d(a, n) + margin]_+ of each anchor, or softplus(d(a, p) - d(a, n)).

    Args:
        features: (N, D) floating.
        labels: (N,) integer identities.
        margin: in units of the distance; None for the soft margin.
        distance: a name in :data:`reid.losses.distances.DISTANCES`.
        mining: a name in :data:`reid.losses.mining.MINERS`.
    """
    metric = get_distance(distance)
    with torch.no_grad():
        triplets = get_miner(mining)(metric.pairwise(features), labels)
    to_positive = metric.paired(features, features[triplets.positive])  # (N,)
    to_negative = metric.paired(features, features[triplets.negative])  # (N,)
    gaps = to_positive - to_negative
    losses = F.softplus(gaps) if margin is None else F.relu(gaps + margin)
    violations = gaps >= 0 if margin is None else gaps + margin > 0
    return TripletTerms(
        losses.masked_fill(~triplets.valid, 0), triplets.valid, violations & triplets.valid
    )


@MODELS.register_module()
class TripletLoss(ReIDLoss):
    """Mean triplet loss over the anchors of a batch that have a positive and a negative.

    Identities may come with any number of images. If no anchor is valid (one identity only, all
    singletons, an empty batch) the loss is 0 with zero gradients, and a warning is logged once
    (looked for in the first 100 calls). Triplets are mined within the batch of this process.

    ``statistics``: "triplet_active", the share of the valid anchors that violate the margin, and
    "triplet_valid", the share of the anchors that are valid; both 0..1.

    Args:
        margin: >= 0, in units of the distance, or "soft" for softplus without a margin.
        distance: "euclidean", "squared_euclidean" or "cosine".
        mining: "batch_hard".
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
        get_miner(mining)
        self.margin = margin
        self.distance = distance
        self.mining = mining
        self._calls_to_watch = _WATCHED_CALLS

    def compute(self, x: Tensor, labels: Tensor) -> Tensor:
        terms = triplet_terms(
            x,
            labels,
            margin=None if isinstance(self.margin, str) else self.margin,
            distance=self.distance,
            mining=self.mining,
        )
        num_valid = terms.valid.sum()
        self.statistics = {
            self.log_key("active"): terms.violations.sum() / num_valid.clamp_min(1),
            self.log_key("valid"): num_valid / max(len(labels), 1),
        }
        self._warn_if_none(terms.valid)
        return terms.losses.sum() / num_valid.clamp_min(1) + finite_zero(x)

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
            f"{super().extra_repr()}"
        )
