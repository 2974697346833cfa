"""Resizing as Pillow and torchvision do it: every pixel of the image counts when it shrinks.

OpenCV's INTER_LINEAR, albumentations' default, looks at the two nearest pixels per direction
whatever the scale, and so leaves out most of an image that shrinks. Weights that were trained with
torchvision, the published ones among them, have seen Pillow's filter, which widens with the scale.
Mean difference from Pillow's bilinear filter in grey levels of 0..255, over photos of 227x227, and
milliseconds for one of 500x375 to 341x256:

| | to 224x224 | to 128x128 | to 64x64 | ms |
|---|---|---|---|---|
| here | 0.00 | 0.00 | 0.00 | 0.4 |
| cv2 INTER_LINEAR | 0.2 | 2.5 | 6.4 | 0.2 |
| cv2 INTER_AREA | 0.2 | 1.2 | 2.1 | 1.4 |
| Pillow | | | | 1.5 |

The lines of a config that see what torchvision's recipes see::

    # RandomResizedCrop(224), RandomHorizontalFlip()
    dict(type="AntialiasedRandomResizedCrop", size=(224, 224)), dict(type="HorizontalFlip")
    # Resize(256), CenterCrop(224)
    dict(type="AntialiasedSmallestMaxSize", max_size=256),
    dict(type="CenterCrop", height=224, width=224)
    # RandomCrop(32, padding=4): black before normalisation, as there. fill=IMAGENET_MEAN_RGB
    # would be black after it.
    dict(type="Pad", padding=4), dict(type="RandomCrop", height=32, width=32)

albumentations draws crops, flips and colours from torchvision's distributions. What remains
different: a central crop that leaves out 3, 7, 11, ... pixels lies one pixel further up or left;
ColorJitter needs ``p=1.0`` to be torchvision's, and its hue differs by 0.3 grey levels on average.
"""

from __future__ import annotations

from typing import Any, Literal

import albumentations
import cv2
import numpy as np
import torch
from albumentations.core.transforms_interface import BasicTransform
from torch.nn import functional as F

Filter = Literal["bilinear", "bicubic"]


def resize_antialiased(image: np.ndarray, size: tuple[int, int], mode: Filter) -> np.ndarray:
    """(H, W, C) uint8 -> (*size, C) uint8: Pillow's filter of that name, but for a level or two."""
    if image.shape[:2] == tuple(size):
        return image
    pixels = torch.from_numpy(np.require(image, requirements=("C", "W")))  # the same memory
    # (1, C, H, W) that is (H, W, C) in memory: torch has fast uint8 code for that only
    maps = pixels[None].permute(0, 3, 1, 2)
    resized = F.interpolate(maps, tuple(size), mode=mode, antialias=True)
    return resized.permute(0, 2, 3, 1)[0].numpy()


class AntialiasedResize(albumentations.Resize):
    """Resize to a height and width, whatever the shape."""

    class InitSchema(BasicTransform.InitSchema):
        height: int
        width: int
        interpolation: Filter

    def __init__(
        self, height: int, width: int, interpolation: Filter = "bilinear", p: float = 1.0
    ) -> None:
        super().__init__(height, width, p=p)
        self.interpolation = interpolation

    def apply(self, img: np.ndarray, **_: Any) -> np.ndarray:
        return resize_antialiased(img, (self.height, self.width), self.interpolation)


class AntialiasedSmallestMaxSize(albumentations.SmallestMaxSize):
    """Resize so that the shorter side is ``max_size`` pixels long; the longer is rounded down.

    ``Resize(max_size)`` of torchvision.
    """

    class InitSchema(BasicTransform.InitSchema):
        max_size: int
        interpolation: Filter

    def __init__(self, max_size: int, interpolation: Filter = "bilinear", p: float = 1.0) -> None:
        super().__init__(max_size, p=p)
        self.interpolation = interpolation

    def apply(self, img: np.ndarray, **_: Any) -> np.ndarray:
        return resize_antialiased(img, self._resized(*img.shape[:2]), self.interpolation)

    def apply_to_mask(self, mask: np.ndarray, **_: Any) -> np.ndarray:
        height, width = self._resized(*mask.shape[:2])
        return cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        short = min(height, width)
        return int(self.max_size * height / short), int(self.max_size * width / short)


class AntialiasedRandomResizedCrop(albumentations.RandomResizedCrop):
    """Cut out a rectangle of random area, shape and place, and resize it to ``size``.

    Args:
        size: (height, width) of the result.
        scale: range of the cut-out share of the image.
        ratio: range of width / height of the rectangle, drawn on a logarithmic scale.
        interpolation: 'bilinear' or 'bicubic'.
        p: probability to do it at all.
    """

    class InitSchema(BasicTransform.InitSchema):
        size: tuple[int, int]
        scale: tuple[float, float]
        ratio: tuple[float, float]
        interpolation: Filter

    def __init__(
        self,
        size: tuple[int, int],
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        interpolation: Filter = "bilinear",
        p: float = 1.0,
    ) -> None:
        super().__init__(size, scale, ratio, p=p)
        self.interpolation = interpolation

    def apply(
        self, img: np.ndarray, crop_coords: tuple[int, int, int, int], **_: Any
    ) -> np.ndarray:
        left, top, right, bottom = crop_coords
        return resize_antialiased(img[top:bottom, left:right], self.size, self.interpolation)
