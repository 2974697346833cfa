"""Styles mixed, exchanged or drawn at random: what style modules share.

The style of a map is the mean and standard deviation of each channel of each image. A style module
stands between two stages of a backbone, which does not know it; it acts in training only.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

EPS = 1e-6


def style_of(x: Tensor, eps: float = EPS) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the channels of (N, C, H, W): (N, C, 1, 1) float32 or wider.

    Without gradient: a style is something given, not something to be learned.
    """
    x = x.detach()
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    var, mean = torch.var_mean(x, (2, 3), correction=0, keepdim=True)
    return mean, (var + eps).sqrt()


def restyled(x: Tensor, old: tuple[Tensor, Tensor], new: tuple[Tensor, Tensor]) -> Tensor:
    """``x`` with the ``new`` style in place of its ``old`` one; dtype and layout stay."""
    scale = new[1] / old[1]  # (N, C, 1, 1)
    offset = new[0] - old[0] * scale
    return (x * scale + offset).to(x.dtype)


class StyleModule(nn.Module):
    """A module that changes styles while training, with probability ``p`` for each batch.

    Args:
        after: names of modules of the backbone whose output it changes, e.g.
            ``("layer1", "layer2")``; each time it draws anew.
        p: probability of a batch to be changed.

    Raises:
        ValueError: no names, or a probability outside of 0..1.

    Random numbers come from torch's CPU generator. Shape: (N, C, H, W) -> the same.
    """

    def __init__(self, after: str | Sequence[str], p: float) -> None:
        super().__init__()
        self.after = (after,) if isinstance(after, str) else tuple(after)
        self.p = p
        name = type(self).__name__
        if not self.after:
            raise ValueError(f"{name}: after names modules of the backbone, at least one")
        if not 0 <= p <= 1:
            raise ValueError(f"{name}: p is a probability, 0 to 1, got {p}")

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or x.numel() == 0 or float(torch.rand(())) >= self.p:
            return x
        style = style_of(x)
        return restyled(x, style, self.new_style(*style))

    def new_style(self, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, 1, 1) means and standard deviations -> those to give in their place."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        return f"after={self.after}, p={self.p}"
