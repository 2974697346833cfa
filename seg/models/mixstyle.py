"""MixStyle: each image gets a mixture of its own style and that of another of the batch.

Paper: Zhou et al., "Domain Generalization with MixStyle", ICLR 2021,
https://arxiv.org/abs/2104.02008 (the variant without domain labels: partners are shuffled).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..registry import MODELS
from .style import StyleModule


@MODELS.register_module()
class MixStyle(StyleModule):
    """Mix styles with shares drawn from Beta(alpha, alpha), one for each image.

    Args:
        after: names of modules of the backbone.
        p: probability of a batch to be changed.
        alpha: small values give shares near 0 or 1. The paper's default is 0.1.

    An image that is its own partner (always so in a batch of one) keeps its style.
    """

    def __init__(self, after: str | Sequence[str], *, p: float = 0.5, alpha: float = 0.1) -> None:
        super().__init__(after, p)
        if alpha <= 0:
            raise ValueError(f"MixStyle: alpha is above 0, got {alpha}")
        self.alpha = alpha

    def new_style(self, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        n = len(mean)
        share = torch.distributions.Beta(self.alpha, self.alpha).sample((n, 1, 1, 1)).to(mean)
        partner = torch.randperm(n).to(mean.device)
        # written so that equal styles stay exactly as they are
        return mean[partner].lerp(mean, share), std[partner].lerp(std, share)
