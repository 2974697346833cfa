"""The Resize of a test pipeline as torch operations, so that an exported network can hold it.

OpenCV resizes uint8 images in fixed point (INTER_LINEAR: weights of 11 bits), which is followed
here bit by bit: an exported network sees the very pixels that the trained one has seen, whatever
the size of the image. Of the other filters the results are rounded from floating point and may be
off by one level.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Resizing", "linear_as_opencv", "resizing_of"]

# What cv2's numbers for interpolation mean, of those whose filter torch and ONNX have
_OPENCV: dict[int, Literal["linear", "bicubic"]] = {1: "linear", 2: "bicubic"}

# Added before rounding down: halves go up, and the last bits of a runtime's arithmetic decide
# nothing about the many pixels that are exactly half.
_HALF = 0.501


@dataclass(frozen=True)
class Resizing:
    """What a test pipeline does to an image.

    Args:
        height, width: of the result.
        filter: 'linear' and 'bicubic' are OpenCV's, 'antialiased' is Pillow's bilinear filter.
    """

    height: int
    width: int
    filter: Literal["linear", "bicubic", "antialiased"] = "linear"

    def __call__(self, images: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 -> (N, 3, height, width) float32, whole numbers of 0..255."""
        size = (self.height, self.width)
        if self.filter == "linear":
            return linear_as_opencv(images, size).permute(0, 3, 1, 2).float()
        antialias = self.filter == "antialiased"
        mode = "bilinear" if antialias else "bicubic"
        maps = images.permute(0, 3, 1, 2).float()
        resized = F.interpolate(maps, size, mode=mode, antialias=antialias)
        return (resized + _HALF).floor().clamp(0, 255)


def resizing_of(pipeline: Sequence[Mapping[str, Any]]) -> Resizing:
    """The test pipeline of a config as something that a graph can hold.

    Raises:
        ValueError: it is more, or something else, than one Resize.
    """
    steps = [dict(step) for step in pipeline]
    names = [str(step.get("type")) for step in steps]
    if len(steps) != 1 or names[0] not in ("Resize", "AntialiasedResize"):
        raise ValueError(
            f"the test pipeline must be one Resize to be exported, got {names}: other steps have "
            "no counterpart in the graph; set test_pipeline=[dict(type='Resize', height=..., "
            "width=...)] and test the model so, or do the other steps before the exported network"
        )
    step = steps[0]
    size = int(step["height"]), int(step["width"])
    if step.get("area_for_downscale") is not None or step.get("p", 1) != 1:
        raise ValueError(
            f"the test pipeline's Resize must leave area_for_downscale and p at their defaults to "
            f"be exported, got {step}"
        )
    if names[0] == "AntialiasedResize" and step.get("interpolation", "bilinear") == "bilinear":
        return Resizing(*size, "antialiased")
    if names[0] == "Resize" and (number := step.get("interpolation", 1)) in _OPENCV:
        return Resizing(*size, _OPENCV[number])
    raise ValueError(
        f"the test pipeline's {names[0]} has interpolation={step['interpolation']!r}, which the "
        "graph cannot express; it can cv2.INTER_LINEAR (1, the default), cv2.INTER_CUBIC (2), and "
        "AntialiasedResize with 'bilinear'"
    )


def linear_as_opencv(images: Tensor, size: tuple[int, int]) -> Tensor:
    """cv2.resize with INTER_LINEAR: (N, H, W, C) uint8 -> (N, *size, C) int32 of 0..255."""
    upper, lower, above, below = _taps(images.shape[1], size[0])
    left, right, before, after = _taps(images.shape[2], size[1], inside=True)

    def rows(chosen: Tensor) -> Tensor:  # (N, size[0], size[1], C), 15 bits
        row = images.index_select(1, chosen)
        first, second = (row.index_select(2, column).int() for column in (left, right))
        return (first * before[:, None] + second * after[:, None]) >> 4

    # each product is cut before the sum, as in OpenCV's 16-bit arithmetic
    sums = ((rows(upper) * above[:, None, None]) >> 16) + (
        (rows(lower) * below[:, None, None]) >> 16
    )
    return (sums + 2) >> 2


def _taps(length: int, out: int, *, inside: bool = False) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """For each of ``out`` pixels its two neighbours of ``length``, and their weights of 11 bits.

    Args:
        inside: a pixel beyond the outer ones is one of them, alone, as OpenCV has it for columns;
            otherwise both its neighbours are the outer pixel and share the weight.
    """
    whole = torch.full((1,), length, dtype=torch.int64)  # a tensor, for in a graph it is not known
    places = (torch.arange(out, dtype=torch.float64) + 0.5) / (out / whole.double()) - 0.5
    places = places.float()
    share = places - places.floor()
    first, last = places.floor().long(), whole - 1
    if inside:
        share = share * ((first >= 0) & (first < last))
    one, other = (torch.minimum(i.clamp(min=0), last) for i in (first, first + 1))
    return one, other, ((1 - share) * 2048).round().int(), (share * 2048).round().int()
