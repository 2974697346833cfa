"""What style transforms share: the image changes with probability p, the labels never."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from .randomness import draw_generators


def image_of(results: dict[str, Any], who: str) -> np.ndarray:
    """``results["img"]``, (H, W, 3) uint8 BGR, H and W at least 1.

    Raises:
        ValueError: no image there, or one of another shape or type.
    """
    image = results.get("img")
    if image is None:
        raise ValueError(f"{who}: no image yet; put seg.LoadImage in front of it in the pipeline")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(
            f"{who}: expected an (H, W, 3) uint8 image, got {image.dtype} {image.shape} from "
            f"{results.get('img_path', 'an unnamed file')}; leave normalisation to the model"
        )
    return image  # type: ignore[no-any-return]


class StyleTransform(BaseTransform):
    """Changes how an image looks and nothing else; shape, type and labels stay.

    Args:
        p: share of images that are changed, 0..1.
    """

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"{type(self).__name__}: p is a probability in 0..1, got {p}")
        self.p = p

    @abstractmethod
    def restyle(self, image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """(H, W, 3) uint8 BGR -> the same shape and type, a new array."""

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        image = image_of(results, type(self).__name__)
        generator, _ = draw_generators(results)
        if generator.random() < self.p:
            results["img"] = np.ascontiguousarray(self.restyle(image, generator))
        return results


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Float values on the scale of 0..255 -> rounded and clipped; ``image`` is overwritten."""
    np.rint(image, out=image)
    return np.clip(image, 0, 255, out=image).astype(np.uint8)
