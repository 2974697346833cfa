"""Random patch: a rectangle of some image is pasted over this one.

Zhou et al., "Learning Generalisable Omni-Scale Representations for Person Re-Identification",
TPAMI 2021, https://arxiv.org/abs/1910.06827 (its code, torchreid, calls it so): an occlusion that
looks like the camera's world, where random erasing puts one colour.

There the patches come from a pool of images that the loading process happened to see before, so
that what an image becomes depends on the number of processes and on the order of all others. Here
a step is a function of image and seed alone: the patch is cut out of an image in a folder, chosen
by the seed; or, without a folder, out of another place of the same image, which needs nothing to
be read.
"""

from __future__ import annotations

from math import sqrt
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from albumentations import ImageOnlyTransform

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


class RandomPatch(ImageOnlyTransform):
    """Paste a rectangle of random area, shape, origin and place.

    Args:
        images: folder of images to cut from, e.g. the training images of the data set (they lie
            directly in it); it must hold the same images wherever the run goes on. None cuts from
            the image itself.
        scale: range of the pasted share of the image.
        ratio: range of height / width of the rectangle.
        flip: probability to mirror the patch.
        p: probability to do it at all.

    Raises:
        ValueError: ranges that are none, or a folder without images.
    """

    class InitSchema(ImageOnlyTransform.InitSchema):
        images: str | None
        scale: tuple[float, float]
        ratio: tuple[float, float]
        flip: float

    def __init__(
        self,
        images: str | None = None,
        scale: tuple[float, float] = (0.02, 0.4),
        ratio: tuple[float, float] = (0.3, 1 / 0.3),
        flip: float = 0.5,
        p: float = 0.5,
    ) -> None:
        super().__init__(p=p)
        if not 0 < scale[0] <= scale[1] <= 1 or not 0 < ratio[0] <= ratio[1] or not 0 <= flip <= 1:
            raise ValueError(
                "RandomPatch: expected 0 < scale <= 1 and 0 < ratio, each as (smallest, largest), "
                f"and flip from 0 to 1, got scale={scale}, ratio={ratio}, flip={flip}"
            )
        self.images, self.scale, self.ratio, self.flip = images, scale, ratio, flip
        self._paths = None if images is None else _images_in(images)

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        height, width = params["shape"][:2]
        source = data["image"]
        if self._paths is not None:
            from .files import read_image

            source = read_image(self.py_random.choice(self._paths))
            if source.shape[:2] != (height, width):
                source = cv2.resize(source, (width, height), interpolation=cv2.INTER_LINEAR)
        for _ in range(100):
            area = self.py_random.uniform(*self.scale) * height * width
            ratio = self.py_random.uniform(*self.ratio)
            h, w = round(sqrt(area * ratio)), round(sqrt(area / ratio))
            if not (0 < h < height and 0 < w < width):
                continue
            top, left = self._corner(height - h, width - w)
            patch = source[top : top + h, left : left + w]
            if self.py_random.random() < self.flip:
                patch = patch[:, ::-1]
            return {"patch": patch, "corner": self._corner(height - h, width - w)}
        # nothing of that size fits into this image
        return {"patch": source[:0, :0], "corner": (0, 0)}

    def _corner(self, highest: int, leftmost: int) -> tuple[int, int]:
        return self.py_random.randint(0, highest), self.py_random.randint(0, leftmost)

    def apply(
        self, img: np.ndarray, patch: np.ndarray, corner: tuple[int, int], **_: Any
    ) -> np.ndarray:
        (top, left), (height, width) = corner, patch.shape[:2]
        out = img.copy()  # the patch may be a view of the image
        out[top : top + height, left : left + width] = patch
        return out


def _images_in(folder: str) -> list[Path]:
    root = Path(folder)
    found = sorted(p for p in root.glob("*") if p.suffix.lower() in SUFFIXES)
    if not found:
        raise ValueError(
            f"RandomPatch: no images ({', '.join(SUFFIXES)}) in {root}; name the folder that holds "
            "the training images, or leave `images` out to cut from each image itself"
        )
    return found
