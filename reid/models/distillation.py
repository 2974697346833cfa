"""A short embedding that learns the similarities of the long one.

The long embedding is the teacher and never hears of its pupil: a linear layer with a BNNeck of its
own reads the detached feature, and is trained to give every pair of images of a batch the cosine
similarity that the long embeddings have,

    L = mean over pairs i != j of (cos(s_i, s_j) - cos(t_i, t_j))^2

Park et al., "Relational Knowledge Distillation", CVPR 2019, https://arxiv.org/abs/1904.05068,
distil relations of a batch in this way (theirs are distances and angles).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class DistilledEmbedding(nn.Module):
    """(N, C) features -> (N, D) short embeddings.

    Args:
        channels: C of the features. dim: D, fewer than C.

    Raises:
        ValueError: D is not in 1..C.
    """

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        if not 1 <= dim <= channels:
            raise ValueError(
                f"a distilled embedding has 1 to {channels} dimensions (those of the feature), "
                f"got {dim}"
            )
        self.projection = nn.Linear(channels, dim, bias=False)
        self.neck = nn.BatchNorm1d(dim)
        self.neck.bias.requires_grad_(False)

    def forward(self, feature: Tensor) -> Tensor:
        embedding: Tensor = self.neck(self.projection(feature.detach()))
        return embedding


def similarity_loss(pupil: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the cosine similarities of all pairs of a batch, 0-d float32.

    Args:
        pupil: (N, D). teacher: (N, C), taken as it is: no gradient goes there. With fewer than two
            rows there is no pair, and the loss is 0.
    """
    with torch.autocast(pupil.device.type, enabled=False):
        short, long = F.normalize(pupil.float()), F.normalize(teacher.detach().float())
        squared = (short @ short.T - long @ long.T).square()  # (N, N), 0 on the diagonal
        return squared.sum() / max(len(pupil) * (len(pupil) - 1), 1)
