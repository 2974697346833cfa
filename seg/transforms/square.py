"""The square in which RobustNet tests Mapillary's images of many sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from PIL import Image

from ..label_spaces import IGNORE
from ..registry import TRANSFORMS

__all__ = ["ResizeAndCropSquare"]


@TRANSFORMS.register_module()
class ResizeAndCropSquare(BaseTransform):
    """Resize image and labels to a height, keeping the aspect, then cut or pad a centred square.

    RobustNet (Choi et al., CVPR 2021, https://arxiv.org/abs/2103.15597) tests Mapillary so, with
    1536: the image bicubically, the label by nearest neighbour, both by pillow, whose bicubic
    filter smooths where it reduces.

    It stands after the loading of image *and* labels. The square becomes the sample's original
    size, so that predictions are compared with the labels of the square.

    Differences from RobustNet's code, both only where an image is narrower than the square: the
    image stays centred and whole (theirs moves it to the right and cuts a quarter of the missing
    width off), and padded pixels are ignored (theirs count as road).

    Args:
        size: side of the square in pixels; the height to which images are resized.
        pad_value: of padded image pixels, 0..255 in each channel.

    Raises:
        ValueError: a size below 1; at use, labels that are not as large as the image.
    """

    def __init__(self, size: int = 1536, pad_value: int = 0) -> None:
        if size < 1:
            raise ValueError(f"ResizeAndCropSquare: expected a size of 1 or more, got {size}")
        self.size, self.pad_value = size, pad_value

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """``img`` (H, W, 3) uint8 and every map of ``seg_fields`` (H, W) uint8."""
        image = results["img"]
        height, width = image.shape[:2]
        scaled = max(1, int(width / height * self.size)), self.size
        results["img"] = self._square(
            np.asarray(Image.fromarray(image).resize(scaled, Image.Resampling.BICUBIC)),
            self.pad_value,
        )
        for key in results.get("seg_fields", []):
            labels = results[key]
            if labels.shape[:2] != (height, width):
                raise ValueError(
                    f"{results.get('seg_map_path', key)}: labels of {labels.shape[1]}x"
                    f"{labels.shape[0]} for an image of {width}x{height} (width x height); "
                    "ResizeAndCropSquare stands after the loading of both, before any Resize"
                )
            resized = Image.fromarray(labels).resize(scaled, Image.Resampling.NEAREST)
            results[key] = self._square(np.asarray(resized), IGNORE)
        side = (self.size, self.size)
        results.update(
            img_shape=side,
            ori_shape=side,
            pad_shape=side,
            scale_factor=(1.0, 1.0),
            keep_ratio=True,
        )
        return results

    def _square(self, array: np.ndarray, fill: int) -> np.ndarray:
        """Cut or pad the width of (size, W, ...) to (size, size, ...), about its centre."""
        width = array.shape[1]
        if width >= self.size:
            left = round((width - self.size) / 2)
            return np.ascontiguousarray(array[:, left : left + self.size])
        square = np.full((self.size, self.size, *array.shape[2:]), fill, array.dtype)
        left = (self.size - width) // 2
        square[:, left : left + width] = array
        return square

    def __repr__(self) -> str:
        return f"ResizeAndCropSquare(size={self.size})"
