"""Which images of a batch an anchor is compared with. Pure selection: indices, no gradients."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Triplets(NamedTuple):
    """One triplet for each row of the batch; row i is the anchor of triplet i.

    A mask and not a list of anchors, so that the shapes do not depend on the labels: nothing has
    to be copied from the device before the next step can be launched.

    Attributes:
        positive: (N,) int64 row with the anchor's identity, never the anchor itself.
        negative: (N,) int64 row of another identity.
        valid: (N,) bool; False where the batch holds no positive or no negative for the anchor.
            ``positive`` and ``negative`` are then in range but without meaning.
    """

    positive: Tensor
    negative: Tensor
    valid: Tensor


def pair_masks(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Positives and negatives of each anchor: two (N, N) bool masks, row = anchor.

    Args:
        labels: (N,) integer identities. An image is no positive of itself.
    """
    same = labels[:, None] == labels[None, :]  # (N, N)
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    return same & ~itself, ~same


@torch.no_grad()
def batch_hard(distances: Tensor, labels: Tensor) -> Triplets:
    """For each anchor the farthest positive and the nearest negative of the batch.

    Any number of images for each identity will do, different from one identity to the next.
    "Batch hard" of Hermans et al., "In Defense of the Triplet Loss for Person Re-Identification",
    2017 (https://arxiv.org/abs/1703.07737).

    Args:
        distances: (N, N) floating, row = anchor.
        labels: (N,) integer identities.

    Returns:
        The triplets; all of them invalid if the batch holds a single identity or only singletons.
    """
    if len(labels) == 0:  # argmax has no answer for an empty row
        empty = labels.new_empty(0, dtype=torch.int64)
        return Triplets(empty, empty, empty.bool())
    positives, negatives = pair_masks(labels)
    distances = _finite(distances)
    return Triplets(
        positive=distances.masked_fill(~positives, -torch.inf).argmax(dim=1),
        negative=distances.masked_fill(~negatives, torch.inf).argmin(dim=1),
        valid=positives.any(dim=1) & negatives.any(dim=1),
    )


@torch.no_grad()
def semi_hard(distances: Tensor, labels: Tensor) -> Tensor:
    """For each pair of an anchor and a positive the nearest negative that is farther than it.

    "Semi-hard" of Schroff et al., "FaceNet: A Unified Embedding for Face Recognition and
    Clustering", 2015 (https://arxiv.org/abs/1503.03832), section 3.2. Where no negative is farther
    than the positive the farthest one stands in, the least hard of them; the paper leaves this
    case open.

    Args:
        distances: (N, N) floating, row = anchor.
        labels: (N,) integer identities.

    Returns:
        (N, N) int64, the negative's row for anchor (row) and positive (column); in range but
        without meaning where the two are no pair or the anchor has no negative.
    """
    _, negatives = pair_masks(labels)
    distances = _finite(distances).contiguous()
    nearest_first, rows = distances.masked_fill(~negatives, torch.inf).sort(dim=1)
    place = torch.searchsorted(nearest_first, distances, right=True)  # the first that is farther
    last = negatives.sum(dim=1, keepdim=True) - 1  # (N, 1), -1 without negatives
    return rows.gather(1, place.minimum(last).clamp_min(0))


def _finite(distances: Tensor) -> Tensor:
    """An infinite distance must still beat the infinity that marks "not a candidate"."""
    return distances.clamp_max(torch.finfo(distances.dtype).max)
