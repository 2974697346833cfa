"""Which triplets of a batch a metric loss learns from. Pure selection: indices, no gradients."""

from __future__ import annotations

from collections.abc import Callable
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
    same = labels[:, None] == labels[None, :]  # (N, N)
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    positives, negatives = same & ~itself, ~same
    # An infinite distance must still beat the infinity that marks "not a candidate".
    distances = distances.clamp_max(torch.finfo(distances.dtype).max)
    return Triplets(
        positive=distances.masked_fill(~positives, -torch.inf).argmax(dim=1),
        negative=distances.masked_fill(~negatives, torch.inf).argmin(dim=1),
        valid=positives.any(dim=1) & negatives.any(dim=1),
    )


Miner = Callable[[Tensor, Tensor], Triplets]

MINERS: dict[str, Miner] = {"batch_hard": batch_hard}


def get_miner(name: str) -> Miner:
    """The miner of that name.

    Raises:
        ValueError: an unknown name; the message lists the known ones.
    """
    if name not in MINERS:
        raise ValueError(f"expected mining to be one of {', '.join(MINERS)}, got {name!r}")
    return MINERS[name]
