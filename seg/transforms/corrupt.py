"""A corruption as a step of a test pipeline."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from ..corruptions import corrupt, find_corruption, image_seed
from ..registry import TRANSFORMS
from .style import image_of


@TRANSFORMS.register_module()
class Corrupt(BaseTransform):
    """One common corruption at one severity, the same for every model and run.

    The seed is a hash of the corruption's and the image file's name (not of its folder). Put it
    right behind the loading of the image, before any resizing.

    Args:
        name: one of ``seg.corruptions.CORRUPTIONS``.
        severity: 1 (mild) to 5 (strong).

    Raises:
        ValueError: an unknown name or severity; later, an image that is too small.
    """

    def __init__(self, name: str, severity: int) -> None:
        find_corruption(name)
        if severity not in (1, 2, 3, 4, 5):
            raise ValueError(f"Corrupt: severity is 1, 2, 3, 4 or 5, got {severity!r}")
        self.name, self.severity = name, int(severity)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        image = image_of(results, "Corrupt")
        file_name = str(results.get("img_path") or results.get("sample_idx", ""))
        seed = image_seed(file_name, self.name)
        out = corrupt(np.ascontiguousarray(image[..., ::-1]), self.name, self.severity, seed)
        results["img"] = np.ascontiguousarray(out[..., ::-1])
        return results

    def __repr__(self) -> str:
        return f"Corrupt(name={self.name!r}, severity={self.severity})"
