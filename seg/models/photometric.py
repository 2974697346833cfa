"""A photometric copy of a batch: the same scenes in other colours, and blurred.

The whitening that selects (Choi et al., CVPR 2021, https://arxiv.org/abs/2103.15597) asks which
statistics change when only the style of an image does. The copy is made from the normalised batch
itself, so that data pipelines need not deliver two views.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

LUMINANCE = (0.299, 0.587, 0.114)  # of R, G, B: ITU-R BT.601
# RGB -> YIQ: hue is the angle in the plane of I and Q
_YIQ = ((0.299, 0.587, 0.114), (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


@torch.no_grad()
def photometric_copy(
    images: Tensor,
    mean: Sequence[float] | Tensor = (0.0, 0.0, 0.0),
    std: Sequence[float] | Tensor = (1.0, 1.0, 1.0),
    *,
    brightness: float = 0.8,
    contrast: float = 0.8,
    saturation: float = 0.8,
    hue: float = 0.3,
    blur: tuple[float, float] = (0.15, 1.15),
    bgr: bool = False,
) -> Tensor:
    """Jitter the colours of each image and blur it, with numbers of torch's CPU generator.

    Args:
        images: (N, 3, H, W), normalised as ``(value - mean) / std`` from values in 0..255.
        mean, std: of the three channels in 0..255.
        brightness, contrast, saturation: factors are drawn from 1 - x to 1 + x, at least 0.
        hue: turned by up to this share of the circle, 0 to 0.5.
        blur: standard deviation of the Gaussian in pixels, from .. to.
        bgr: the channels stand in the order blue, green, red.

    Returns:
        (N, 3, H, W), normalised again, in the dtype of ``images``; values stay within 0..255.
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"photometric_copy: expected (N, 3, H, W), got {tuple(images.shape)}")
    mean, std = (
        torch.as_tensor(v, dtype=torch.float32, device=images.device).view(1, 3, 1, 1)
        for v in (mean, std)
    )
    x = (images.float() * std + mean).div_(255).clamp_(0, 1)
    x = x.flip(1) if bgr else x

    n = len(x)
    x = adjust_brightness(x, _factors(n, brightness).to(x.device))
    x = adjust_contrast(x, _factors(n, contrast).to(x.device))
    x = adjust_saturation(x, _factors(n, saturation).to(x.device))
    x = turn_hue(x, ((torch.rand(n) * 2 - 1) * hue).to(x.device))
    x = gaussian_blur(x, (blur[0] + torch.rand(n) * (blur[1] - blur[0])).to(x.device))

    x = x.flip(1) if bgr else x
    return ((x * 255 - mean) / std).to(images.dtype)


def _factors(n: int, spread: float) -> Tensor:
    return (1 + (torch.rand(n) * 2 - 1) * spread).clamp_(min=0)


def adjust_brightness(x: Tensor, factor: Tensor) -> Tensor:
    """(N, 3, H, W) RGB in 0..1 times (N,) factors."""
    return (x * factor.view(-1, 1, 1, 1)).clamp_(0, 1)


def adjust_contrast(x: Tensor, factor: Tensor) -> Tensor:
    """Move every value away from (or towards) the image's mean luminance by (N,) factors."""
    centre = _luminance(x).mean((2, 3), keepdim=True)  # (N, 1, 1, 1)
    return (centre + (x - centre) * factor.view(-1, 1, 1, 1)).clamp_(0, 1)


def adjust_saturation(x: Tensor, factor: Tensor) -> Tensor:
    """Move every value away from (or towards) its pixel's luminance by (N,) factors."""
    grey = _luminance(x)  # (N, 1, H, W)
    return (grey + (x - grey) * factor.view(-1, 1, 1, 1)).clamp_(0, 1)


def turn_hue(x: Tensor, share: Tensor) -> Tensor:
    """Turn the chrominance by (N,) shares of the circle; the luminance stays."""
    forward = torch.tensor(_YIQ, dtype=x.dtype, device=x.device)
    angle = share * (2 * math.pi)
    turn = torch.eye(3, dtype=x.dtype, device=x.device).repeat(len(x), 1, 1)
    turn[:, 1, 1] = turn[:, 2, 2] = angle.cos()
    turn[:, 1, 2], turn[:, 2, 1] = -angle.sin(), angle.sin()
    matrix = torch.linalg.inv(forward) @ turn @ forward  # (N, 3, 3)
    return torch.einsum("nij,njhw->nihw", matrix, x).clamp_(0, 1)


def gaussian_blur(x: Tensor, sigma: Tensor) -> Tensor:
    """Blur each of (N, C, H, W) with its own (N,) standard deviation, edges repeated."""
    n, c, h, w = x.shape
    radius = max(1, math.ceil(3 * float(sigma.max())))
    offsets = torch.arange(-radius, radius + 1, dtype=x.dtype, device=x.device)
    kernel = torch.exp(-0.5 * (offsets / sigma.clamp(min=1e-3)[:, None]) ** 2)  # (N, 2r + 1)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(c, 0)  # (N * C, 2r + 1)
    planes = F.pad(x.reshape(1, n * c, h, w), (radius,) * 4, mode="replicate")
    planes = F.conv2d(planes, kernel[:, None, None, :], groups=n * c)
    return F.conv2d(planes, kernel[:, None, :, None], groups=n * c).view(n, c, h, w)


def _luminance(x: Tensor) -> Tensor:
    weights = x.new_tensor(LUMINANCE).view(1, 3, 1, 1)
    return (x * weights).sum(1, keepdim=True)
