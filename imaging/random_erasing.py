"""Random erasing: a rectangle of the image is replaced by one colour.

Zhong et al., "Random Erasing Data Augmentation", AAAI 2020, https://arxiv.org/abs/1708.04896,
algorithm 1. albumentations' own ``Erasing`` is another distribution: it first limits the area to
what fits at *every* aspect ratio, 15% instead of 40% of a 128x64 image, and fails when none does.
"""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
from albumentations import ImageOnlyTransform


class RandomErasing(ImageOnlyTransform):
    """Erase a rectangle of random area, shape and place.

    Args:
        scale: range of the erased share of the image.
        ratio: range of height / width of the rectangle.
        fill: RGB; the data set's mean makes the area zero once the image is normalised.
        p: probability to erase at all.
    """

    class InitSchema(ImageOnlyTransform.InitSchema):
        scale: tuple[float, float]
        ratio: tuple[float, float]
        fill: tuple[int, int, int]

    def __init__(
        self,
        scale: tuple[float, float] = (0.02, 0.4),
        ratio: tuple[float, float] = (0.3, 1 / 0.3),
        fill: tuple[int, int, int] = (124, 116, 104),
        p: float = 0.5,
    ) -> None:
        super().__init__(p=p)
        if not 0 < scale[0] <= scale[1] <= 1 or not 0 < ratio[0] <= ratio[1]:
            raise ValueError(
                f"RandomErasing: expected 0 < scale <= 1 and 0 < ratio, each as (smallest, "
                f"largest), got scale={scale}, ratio={ratio}"
            )
        self.scale, self.ratio, self.fill = scale, ratio, fill

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        height, width = params["shape"][:2]
        for _ in range(100):
            area = self.py_random.uniform(*self.scale) * height * width
            ratio = self.py_random.uniform(*self.ratio)
            h, w = round(sqrt(area * ratio)), round(sqrt(area / ratio))
            if 0 < h < height and 0 < w < width:
                top = self.py_random.randint(0, height - h)
                left = self.py_random.randint(0, width - w)
                return {"box": (top, top + h, left, left + w)}
        return {"box": (0, 0, 0, 0)}  # nothing of that size fits into this image

    def apply(self, img: np.ndarray, box: tuple[int, int, int, int], **_: Any) -> np.ndarray:
        top, bottom, left, right = box
        img = img.copy()
        img[top:bottom, left:right] = self.fill
        return img
