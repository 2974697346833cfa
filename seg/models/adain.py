"""AdaIN as augmentation: each image gets the style of another one of the batch.

Paper: Huang and Belongie, "Arbitrary Style Transfer in Real-time with Adaptive Instance
Normalization", ICCV 2017, https://arxiv.org/abs/1703.06868; shuffled within the batch as in Nuriel
et al., "Permuted AdaIN", CVPR 2021, https://arxiv.org/abs/2010.05785.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..registry import MODELS
from .style import StyleModule


@MODELS.register_module()
class AdaINStyle(StyleModule):
    """Exchange styles within the batch.

    Args:
        after: names of modules of the backbone.
        p: probability of a batch to be changed; that of Permuted AdaIN is 0.01, at every layer.
    """

    def __init__(self, after: str | Sequence[str], *, p: float = 0.5) -> None:
        super().__init__(after, p)

    def new_style(self, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        partner = torch.randperm(len(mean)).to(mean.device)
        return mean[partner], std[partner]
