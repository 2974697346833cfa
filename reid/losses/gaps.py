"""How much nearer an anchor's negatives should come than its positives: the gaps of triplet losses.

A gap is d(a, p) - d(a, n), negative when the anchor is ranked well. The minings differ in which
images of the batch take part: the hardest of each kind, one negative for each positive, all of
them, or all of them in one weighted mean.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from reid.losses.distances import Distance
from reid.losses.mining import batch_hard, pair_masks, semi_hard


class Gaps(NamedTuple):
    """Differentiable gaps, the anchors along the first axis; shapes do not depend on the labels.

    Attributes:
        values: (N, ...) floating.
        valid: bool of the same shape; False where the batch has no such triplet.
    """

    values: Tensor
    valid: Tensor


def batch_hard_gaps(metric: Distance, features: Tensor, labels: Tensor) -> Gaps:
    """The farthest positive against the nearest negative of each anchor: (N,)."""
    with torch.no_grad():
        triplets = batch_hard(metric.pairwise(features), labels)
    to_positive = metric.paired(features, features[triplets.positive])
    to_negative = metric.paired(features, features[triplets.negative])
    return Gaps(to_positive - to_negative, triplets.valid)


def semi_hard_gaps(metric: Distance, features: Tensor, labels: Tensor) -> Gaps:
    """Each positive against the nearest negative that is farther than it: (N, N), anchor first."""
    distances = metric.pairwise(features)
    positives, negatives = pair_masks(labels)
    to_negative = distances.gather(1, semi_hard(distances, labels))
    return Gaps(distances - to_negative, positives & negatives.any(dim=1, keepdim=True))


def batch_all_gaps(metric: Distance, features: Tensor, labels: Tensor) -> Gaps:
    """Each positive against each negative: (N, N, N) for anchor, positive, negative.

    "Batch all" of Hermans et al. 2017 (https://arxiv.org/abs/1703.07737). Memory grows with N^3:
    1 MB for a float32 batch of 64, 67 MB for 256.
    """
    distances = metric.pairwise(features)
    positives, negatives = pair_masks(labels)
    return Gaps(
        distances[:, :, None] - distances[:, None, :],
        positives[:, :, None] & negatives[:, None, :],
    )


def weighted_gaps(metric: Distance, features: Tensor, labels: Tensor) -> Gaps:
    """The weighted mean of the positives' distances minus that of the negatives': (N,).

    Weights are the softmax of d over the positives and of -d over the negatives, so that hard
    images count more without one deciding alone: equation 5 of Ye et al., "Deep Learning for Person
    Re-identification: A Survey and Outlook", 2020 (https://arxiv.org/abs/2001.04193). Gradients
    flow through the weights too. Deviation from the public code: it counts the anchor among its
    own positives, at distance 0.
    """
    distances = metric.pairwise(features)
    positives, negatives = pair_masks(labels)
    to_positive = _softmax_mean(distances, distances, positives)
    to_negative = _softmax_mean(distances, -distances, negatives)
    return Gaps(to_positive - to_negative, positives.any(dim=1) & negatives.any(dim=1))


def _softmax_mean(values: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
    """Row means (N,) of ``values`` weighted by the softmax of ``scores`` over ``mask``."""
    # The lowest finite number and not -inf: a row without candidates must not divide 0 by 0.
    weights = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim=1)
    return (weights * values.masked_fill(~mask, 0)).sum(dim=1)


Mining = Callable[[Distance, Tensor, Tensor], Gaps]

MININGS: dict[str, Mining] = {
    "batch_hard": batch_hard_gaps,
    "semi_hard": semi_hard_gaps,
    "weighted": weighted_gaps,
    "batch_all": batch_all_gaps,
}


def get_mining(name: str) -> Mining:
    """The mining of that name.

    Raises:
        ValueError: an unknown name; the message lists the known ones.
    """
    if name not in MININGS:
        raise ValueError(f"expected mining to be one of {', '.join(MININGS)}, got {name!r}")
    return MININGS[name]
