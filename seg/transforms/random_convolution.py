"""Random convolutions: new texture and colour, old shapes.

Xu, Liu, Yang, Raffel and Niethammer, "Robust and Generalizable Visual Representation Learning via
Random Convolutions", ICLR 2021, https://arxiv.org/abs/2007.13003:

    y = alpha * x + (1 - alpha) * (x * W),   W ~ N(0, 1 / (3 k^2)),   alpha ~ U(0, 1)

with a 3-to-3-channel kernel of a random size k and x normalised by ImageNet's mean and deviation.
Deviations: the result is rounded and clipped to uint8 (the paper works on floats), and the border
is mirrored instead of filled with zeros, which would frame every image.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..registry import TRANSFORMS
from .style import StyleTransform, to_uint8

MEAN_BGR = np.array([103.53, 116.28, 123.675], np.float32)
STD_BGR = np.array([57.375, 57.12, 58.395], np.float32)


def convolve(image: np.ndarray, weight: np.ndarray, alpha: float = 0.0) -> np.ndarray:
    """The formula above for an image on the scale 0..255.

    Args:
        image: (H, W, 3) uint8 BGR.
        weight: (3, 3, k, k): output channel, input channel, row, column; k odd.
        alpha: share of the image itself.

    Returns:
        (H, W, 3) uint8.
    """
    import cv2

    size = weight.shape[2]
    # normalise, convolve, mix, undo: all linear, so done on the raw image with changed weights
    kernel = (1 - alpha) * weight * (STD_BGR[:, None] / STD_BGR)[..., None, None]
    kernel[range(3), range(3), size // 2, size // 2] += alpha
    offset = MEAN_BGR - np.einsum("oikl,i->o", kernel, MEAN_BGR)
    if size == 1:
        out = cv2.transform(image.astype(np.float32), kernel[:, :, 0, 0].astype(np.float32))
        out += offset.astype(np.float32)
        return to_uint8(out)
    planes = [np.ascontiguousarray(p, np.float32) for p in cv2.split(image)]
    channels = []
    for kernels, constant in zip(kernel, offset, strict=True):
        total = np.full(image.shape[:2], constant, np.float32)
        for plane, one in zip(planes, kernels, strict=True):
            total += cv2.filter2D(
                plane, cv2.CV_32F, one.astype(np.float32), borderType=cv2.BORDER_REFLECT
            )
        channels.append(total)
    return to_uint8(cv2.merge(channels))


@TRANSFORMS.register_module()
class RandomConvolution(StyleTransform):
    """RandConv: a convolution with random weights, mixed with the image.

    Args:
        kernel_sizes: odd sizes to draw from; small ones change colours, large ones texture.
        mix: draw alpha in 0..1; False: the convolution alone.
        p: share of images that are changed.
    """

    def __init__(
        self, kernel_sizes: Sequence[int] = (1, 3, 5, 7), mix: bool = True, p: float = 0.5
    ) -> None:
        super().__init__(p)
        if not kernel_sizes or any(k < 1 or k % 2 == 0 for k in kernel_sizes):
            raise ValueError(f"RandomConvolution: kernel_sizes are odd, got {list(kernel_sizes)}")
        self.kernel_sizes = tuple(int(k) for k in kernel_sizes)
        self.mix = mix

    def restyle(self, image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        size = int(generator.choice(self.kernel_sizes))
        weight = generator.normal(0, 1 / np.sqrt(3 * size**2), (3, 3, size, size))
        alpha = generator.random() if self.mix else 0.0
        return convolve(image, weight, alpha)

    def __repr__(self) -> str:
        return f"RandomConvolution(kernel_sizes={self.kernel_sizes}, mix={self.mix}, p={self.p})"
