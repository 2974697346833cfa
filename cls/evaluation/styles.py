"""Other looks for the same images, as functions of a batch: a painter's, or those of a folder.

The IBN-Net paper repaints ImageNet as Monet with a CycleGAN. None of these is that network; they
are deterministic, need no weights, and change colours and texture while shapes stay.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from imaging.files import existing_folder, list_images, read_image

# (N, 3, H, W) float RGB 0..255, (N,) index of the images in their data set -> the same kind
Restyle = Callable[[Tensor, Tensor], Tensor]

STYLE_SIZE = 256  # pixels of the shorter side at which style images are kept
MOST_STYLES = 64
FOURIER_SHARE = 0.01

# mean and standard deviation of a hazy, blue-green canvas, RGB 0..255
_CANVAS = ((126.0, 142.0, 146.0), (38.0, 34.0, 40.0))

# Reinhard et al. 2001: RGB -> LMS, and log LMS -> l, alpha, beta
_LMS = ((0.3811, 0.5783, 0.0402), (0.1967, 0.7244, 0.0782), (0.0241, 0.1288, 0.8444))
_LAB = (
    (3**-0.5, 3**-0.5, 3**-0.5),
    (6**-0.5, 6**-0.5, -2 * 6**-0.5),
    (2**-0.5, -(2**-0.5), 0.0),
)


def painting(images: Tensor, index: Tensor) -> Tensor:
    """Brush strokes and a painter's palette.

    Strokes: a Kuwahara filter (each pixel becomes the mean of the calmest of the four squares at
    whose corner it lies), with squares of about a fiftieth of the image. Palette: mean and
    standard deviation of every channel become those of a hazy, blue-green canvas.
    """
    strokes = kuwahara(images, max(1, round(min(images.shape[-2:]) / 50)))
    mean, std = (images.new_tensor(values).view(1, 3, 1, 1) for values in _CANVAS)
    return _with_moments(strokes, mean, std).clamp(0, 255)


def kuwahara(images: Tensor, radius: int) -> Tensor:
    """Smooth areas, keep edges. (N, 3, H, W) float -> the same."""
    height, width = images.shape[-2:]
    side = radius + 1
    padded = F.pad(images, (radius,) * 4, mode="replicate")
    mean = F.avg_pool2d(padded, side, stride=1)  # (N, 3, H + r, W + r)
    grey = padded.mean(1, keepdim=True)
    grey = grey - grey.mean((2, 3), keepdim=True)  # smaller numbers, smaller rounding
    spread = F.avg_pool2d(grey**2, side, stride=1) - F.avg_pool2d(grey, side, stride=1) ** 2
    corners = [(top, left) for top in (0, radius) for left in (0, radius)]
    means = torch.stack([mean[..., t : t + height, s : s + width] for t, s in corners])
    spreads = torch.stack([spread[..., t : t + height, s : s + width] for t, s in corners])
    calmest = spreads.argmin(0, keepdim=True).expand(1, *images.shape)
    return means.gather(0, calmest)[0]


class StyleImages:
    """Looks taken from a folder of pictures, subfolders too.

    An image of index i takes its look from picture i modulo their number, in every run.

    Args:
        folder: of at least one image; of more than 64 every n-th is used.
    """

    def __init__(self, folder: str | Path) -> None:
        paths = list(list_images(existing_folder(folder), recursive=True))
        if not paths:
            raise ValueError(f"no images in {folder}; expected pictures whose look is to be taken")
        places = np.linspace(0, len(paths) - 1, min(len(paths), MOST_STYLES)).round().astype(int)
        self.paths = [paths[place] for place in places]
        self.images = [_shrunk(read_image(path)) for path in self.paths]  # (1, 3, H, W) float
        moments = [_moments(_to_lab(image)) for image in self.images]
        self.mean, self.std = (torch.cat(column) for column in zip(*moments, strict=True))

    def colours(self, images: Tensor, index: Tensor) -> Tensor:
        """The pictures' colour statistics in the l-alpha-beta space.

        Reinhard et al., Color Transfer between Images, IEEE CG&A 2001.
        """
        place = index.cpu() % len(self.paths)
        mean, std = (t[place].to(images.device) for t in (self.mean, self.std))
        return _to_rgb(_with_moments(_to_lab(images), mean, std)).clamp(0, 255)

    def fourier(self, images: Tensor, index: Tensor) -> Tensor:
        """The pictures' amplitudes at low frequencies, the images' own phases.

        Yang and Soatto, FDA, CVPR 2020, https://arxiv.org/abs/2004.05498, with beta 0.01 (above
        which colours become patches that no painter drew).
        """
        size = images.shape[-2:]
        looks = [self.images[int(i) % len(self.paths)] for i in index]
        style = torch.cat([_resized(look.to(images.device), size) for look in looks])
        own = torch.fft.fft2(images)
        amplitude, other = own.abs(), torch.fft.fft2(style).abs()
        reach = max(1, int(min(size) * FOURIER_SHARE))
        near = [
            torch.fft.fftfreq(n, 1 / n, device=images.device).abs().round() <= reach for n in size
        ]
        low = near[0][:, None] & near[1][None, :]  # (H, W)
        mixed = torch.polar(torch.where(low, other, amplitude), own.angle())
        restyled: Tensor = torch.fft.ifft2(mixed).real
        return restyled.clamp(0, 255)


def _shrunk(image: np.ndarray) -> Tensor:
    """(H, W, 3) uint8 -> (1, 3, H', W') float of at most 256 pixels on the shorter side."""
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    share = min(1.0, STYLE_SIZE / min(image.shape[:2]))
    height, width = (max(1, round(side * share)) for side in image.shape[:2])
    return _resized(tensor, (height, width))


def _resized(image: Tensor, size: tuple[int, ...]) -> Tensor:
    return F.interpolate(image, size=size, mode="bilinear", antialias=True, align_corners=False)


def _moments(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over H and W, (N, C, 1, 1)."""
    return images.mean((2, 3), keepdim=True), images.std((2, 3), correction=0, keepdim=True)


def _with_moments(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    own_mean, own_std = _moments(images)
    return (images - own_mean) / own_std.clamp(min=1e-6) * std + mean


def _to_lab(images: Tensor) -> Tensor:
    """(N, 3, H, W) RGB 0..255 -> Reinhard's l, alpha, beta."""
    lms = _mixed(images.clamp(min=1.0) / 255, images.new_tensor(_LMS))
    return _mixed(lms.log10(), images.new_tensor(_LAB))


def _to_rgb(lab: Tensor) -> Tensor:
    lms = torch.pow(10.0, _mixed(lab, torch.linalg.inv(lab.new_tensor(_LAB))))
    return 255 * _mixed(lms, torch.linalg.inv(lab.new_tensor(_LMS)))


def _mixed(images: Tensor, matrix: Tensor) -> Tensor:
    """A (3, 3) matrix on the channels of (N, 3, H, W)."""
    return torch.einsum("ij,njhw->nihw", matrix, images)
