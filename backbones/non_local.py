"""Non-local block: every position of a map takes up what all positions hold.

Wang, Girshick, Gupta, He: "Non-local Neural Networks", CVPR 2018,
https://arxiv.org/abs/1711.07971, in its dot-product form (section 3.2):

    z_i = x_i + W( 1/N sum_j (theta(x_i) . phi(x_j)) g(x_j) )

with 1x1 convolutions theta, phi, g to fewer channels and W back, which ends in a norm whose weight
starts at zero, so that a new block is the identity and fits into a pretrained network.
Re-identification's AGW (Ye et al. 2021, https://arxiv.org/abs/2001.04193) and fast-reid use this
form, and their names of the parameters are kept.

Without a softmax the order of the products is free: sum_j phi(x_j) g(x_j) is one small table a
sample, and the (N, N) affinities are never held.
"""

from __future__ import annotations

from torch import Tensor, nn

from .backbone import NormSpec
from .norm import build_norm


class NonLocal(nn.Module):
    """The block.

    Args:
        channels: of the map.
        inner_channels: of theta, phi and g; None is half, as in the paper. The published code of
            AGW and fast-reid computes ``reduc_ratio // reduc_ratio``, which is 1.
        norm: the one at the end, for ``build_norm``.

    Shape: (N, channels, H, W) -> the same.

    Raises:
        ValueError: inner channels below 1, or a norm without a weight that could start at zero.
    """

    def __init__(
        self, channels: int, inner_channels: int | None = None, norm: NormSpec = "bn"
    ) -> None:
        super().__init__()
        inner = max(1, channels // 2) if inner_channels is None else inner_channels
        if inner < 1:
            raise ValueError(f"NonLocal: inner_channels is 1 or more, got {inner_channels}")
        self.theta = nn.Conv2d(channels, inner, 1)
        self.phi = nn.Conv2d(channels, inner, 1)
        self.g = nn.Conv2d(channels, inner, 1)
        last = build_norm(norm, channels)
        weight, bias = getattr(last, "weight", None), getattr(last, "bias", None)
        if weight is None or bias is None:
            raise ValueError(
                "NonLocal: the block begins as the identity by a norm whose weight and bias are 0, "
                f"and {type(last).__name__} has none; use 'bn' or another norm that has both"
            )
        nn.init.zeros_(weight)
        nn.init.zeros_(bias)
        self.W = nn.Sequential(nn.Conv2d(inner, channels, 1), last)

    def forward(self, x: Tensor) -> Tensor:
        theta, phi, g = (layer(x).flatten(2) for layer in (self.theta, self.phi, self.g))
        # (N, C', P) each; the table (N, C', C') is the sum over the P positions
        table = g @ phi.transpose(1, 2) / phi.shape[2]
        gathered = (table @ theta).unflatten(2, x.shape[2:])  # (N, C', H, W)
        out: Tensor = x + self.W(gathered)
        return out
