"""Histogram matching: each channel gets the distribution of values of a target image.

Gonzalez and Woods, "Digital Image Processing", section on histogram specification. With the
cumulative histograms C_s and C_t of a channel, the value v becomes the smallest w for which

    C_t(w) >= C_s(v)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..registry import TRANSFORMS
from .style import StyleTransform, to_uint8
from .style_images import StyleImages


def cumulative_histograms(image: np.ndarray) -> np.ndarray:
    """(H, W, C) uint8 -> (C, 256) float64, share of pixels with this value or a smaller one."""
    import cv2

    counts = [cv2.calcHist([c], [0], None, [256], [0, 256]).ravel() for c in cv2.split(image)]
    shares: np.ndarray = np.stack(counts).astype(np.float64) / (image.shape[0] * image.shape[1])
    return shares.cumsum(1)


def matching_values(own: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Two (C, 256) cumulative histograms -> (C, 256) uint8, the new value of every value."""
    # counts are whole numbers: the margin only outweighs rounding
    found = [np.searchsorted(t + 1e-9, s) for s, t in zip(own, target, strict=True)]
    return np.stack(found).clip(0, 255).astype(np.uint8)


@TRANSFORMS.register_module()
class HistogramMatching(StyleTransform):
    """Match the channels' histograms to those of a random target image (no labels needed).

    Args:
        target: folder (searched with its sub-folders), file or list of files.
        strength: share of the matched image in the result, the rest is the image itself; a pair
            is a range to draw from.
        p: share of images that are changed.
    """

    def __init__(
        self,
        target: str | Path | Sequence[str | Path],
        strength: float | Sequence[float] = (0.5, 1.0),
        p: float = 0.5,
    ) -> None:
        super().__init__(p)
        low, high = (strength, strength) if isinstance(strength, (int, float)) else tuple(strength)
        if not 0 <= low <= high <= 1:
            raise ValueError(
                f"HistogramMatching: strength is in 0..1 or an ascending pair, got {strength}"
            )
        self.target, self.strength = target, (float(low), float(high))
        self.images = StyleImages(target)
        self._known: dict[int, np.ndarray] = {}

    def restyle(self, image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        import cv2

        index = int(generator.integers(len(self.images)))
        strength = generator.uniform(*self.strength)
        if index not in self._known:
            self._known[index] = cumulative_histograms(self.images.read(index))
        values = matching_values(cumulative_histograms(image), self._known[index])
        mixed = to_uint8(strength * values + (1 - strength) * np.arange(256))  # (3, 256)
        table = np.ascontiguousarray(mixed.T[None])  # (1, 256, 3), as cv2.LUT wants it
        out: np.ndarray = cv2.LUT(image, table)
        return out

    def __repr__(self) -> str:
        return (
            f"HistogramMatching(target={self.target!r} ({len(self.images):,} images), "
            f"strength={self.strength}, p={self.p})"
        )
