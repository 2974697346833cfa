"""DSU: each image's style is drawn around its own.

Paper: Li et al., "Uncertainty Modeling for Out-of-Distribution Generalization", ICLR 2022,
https://arxiv.org/abs/2202.03958. How far styles differ within the batch says how far they may
be moved: a normal distribution with that deviation, channel by channel.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..registry import MODELS
from .style import StyleModule


@MODELS.register_module()
class DSU(StyleModule):
    """Draw means and standard deviations from normal distributions around each image's own.

    Args:
        after: names of modules of the backbone.
        p: probability of a batch to be changed.
        factor: of the batch's deviation.

    A batch of one has no deviation and stays as it is. Deviation: a standard deviation never
    becomes negative, it is cut off at 0.
    """

    def __init__(self, after: str | Sequence[str], *, p: float = 0.5, factor: float = 1.0) -> None:
        super().__init__(after, p)
        if factor < 0:
            raise ValueError(f"DSU: factor is 0 or more, got {factor}")
        self.factor = factor

    def new_style(self, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        return self._moved(mean), self._moved(std).clamp(min=0)

    def _moved(self, statistic: Tensor) -> Tensor:
        # over images, per channel; in a batch of one it is 0
        deviation = statistic.std(0, correction=0, keepdim=True) * self.factor
        return statistic + torch.randn(statistic.shape).to(statistic) * deviation
