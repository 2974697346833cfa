"""Colour transfer: the mean and deviation of each colour channel of another image, or drawn ones.

Reinhard, Ashikhmin, Gooch and Shirley, "Color Transfer between Images", IEEE CG&A 21(5), 2001,
https://doi.org/10.1109/38.946629. For each channel of a colour space with little correlation
between channels:

    y = (x - mean(x_s)) * std(x_t) / std(x_s) + mean(x_t)

We use CIELAB in place of the paper's l-alpha-beta, or plain RGB. Without target images the
statistics are the image's own, shifted and scaled at random.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from ..registry import TRANSFORMS
from .style import StyleTransform, to_uint8
from .style_images import StyleImages

Space = Literal["lab", "rgb"]


def colour_statistics(image: np.ndarray, space: Space = "lab") -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the channels.

    Args:
        image: (H, W, 3) uint8 BGR.
        space: "lab": L in 0..100, a and b about -127..127; "rgb": the image's own channels, in
            their own order, 0..255.

    Returns:
        Two (3,) float64 arrays.
    """
    return _statistics(_to_space(image, space))


def transfer_colours(
    image: np.ndarray, mean: np.ndarray, std: np.ndarray, space: Space = "lab"
) -> np.ndarray:
    """``image`` (H, W, 3) uint8 BGR with these (3,) statistics, clipped to 0..255.

    A channel without any variation only gets the new mean.
    """
    values = _to_space(image, space)
    own_mean, own_std = _statistics(values)
    factor = np.divide(std, own_std, out=np.ones(3), where=own_std > 1e-3)
    values *= factor.astype(np.float32)
    values += (mean - own_mean * factor).astype(np.float32)
    return _from_space(values, space)


def _statistics(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    import cv2

    mean, std = cv2.meanStdDev(values)
    return mean.ravel(), std.ravel()


def _to_space(image: np.ndarray, space: Space) -> np.ndarray:
    import cv2

    values: np.ndarray = image.astype(np.float32)
    if space == "lab":
        values *= 1 / 255
        values = cv2.cvtColor(values, cv2.COLOR_BGR2LAB)
    return values


def _from_space(values: np.ndarray, space: Space) -> np.ndarray:
    import cv2

    if space == "lab":
        values = cv2.cvtColor(values, cv2.COLOR_LAB2BGR)
        values *= 255
    return to_uint8(values)


@TRANSFORMS.register_module()
class ColourTransfer(StyleTransform):
    """Colour statistics of a random target image, or random ones.

    Args:
        target: folder (searched with sub-folders), file or list of files; None: every channel's
            mean moves by up to ``shift`` and its deviation is multiplied by a factor from
            ``scale`` (the logarithm is uniform).
        space: "lab" or "rgb".
        strength: how far to go from the image's own statistics to the others, 0..1; a pair is a
            range to draw from.
        shift: without target, as a share of the lightness range (100 in "lab", 255 in "rgb").
        scale: without target.
        p: share of images that are changed.
    """

    def __init__(
        self,
        target: str | Path | Sequence[str | Path] | None = None,
        space: Space = "lab",
        strength: float | Sequence[float] = 1.0,
        shift: float = 0.15,
        scale: Sequence[float] = (0.67, 1.5),
        p: float = 0.5,
    ) -> None:
        super().__init__(p)
        if space not in ("lab", "rgb"):
            raise ValueError(f"ColourTransfer: space is 'lab' or 'rgb', got {space!r}")
        low, high = (strength, strength) if isinstance(strength, (int, float)) else tuple(strength)
        if not 0 <= low <= high <= 1:
            raise ValueError(
                f"ColourTransfer: strength is in 0..1 or an ascending pair, got {strength}"
            )
        if shift < 0:
            raise ValueError(f"ColourTransfer: shift is 0 or more, got {shift}")
        if len(scale) != 2 or not 0 < scale[0] <= scale[1]:
            raise ValueError(f"ColourTransfer: scale is an ascending pair above 0, got {scale}")
        self.target, self.space, self.strength = target, space, (float(low), float(high))
        self.shift, self.scale = shift, (float(scale[0]), float(scale[1]))
        self.images = StyleImages(target) if target is not None else None
        self._known: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def restyle(self, image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        own_mean, own_std = colour_statistics(image, self.space)
        if self.images is not None:
            index = int(generator.integers(len(self.images)))
            if index not in self._known:
                self._known[index] = colour_statistics(self.images.read(index), self.space)
            mean, std = self._known[index]
        else:
            range_ = 100 if self.space == "lab" else 255
            mean = own_mean + range_ * generator.uniform(-self.shift, self.shift, 3)
            low, high = (float(np.log(factor)) for factor in self.scale)
            std = own_std * np.exp(generator.uniform(low, high, 3))
        strength = generator.uniform(*self.strength)
        return transfer_colours(
            image,
            own_mean + strength * (mean - own_mean),
            own_std + strength * (std - own_std),
            self.space,
        )

    def __repr__(self) -> str:
        source = f"shift={self.shift}, scale={self.scale}"
        if self.images is not None:
            source = f"target={self.target!r} ({len(self.images):,} images)"
        return (
            f"ColourTransfer({source}, space={self.space!r}, strength={self.strength}, p={self.p})"
        )
