"""Crops that show a class which the sampler asks for."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
from mmcv.transforms import BaseTransform

from seg.label_spaces import IGNORE
from seg.registry import TRANSFORMS

__all__ = ["ClassCrop"]

Box: TypeAlias = tuple[int, int, int, int]  # top, bottom, left, right

_TRIES = 10  # as in mmseg's RandomCrop and in DAFormer's code


@TRANSFORMS.register_module()
class ClassCrop(BaseTransform):
    """Crop image and labels, where a class is if the sample names one.

    The class stands in ``results["crop_class"]`` (``seg.RareClassSampler``,
    ``seg.ClassUniformSampler``). Without it the crop is random, with the same draws and the same
    ``cat_max_ratio`` as mmseg's RandomCrop. What is smaller than the crop is kept as it is, for
    SegDataPreProcessor pads. Draws come from ``numpy.random``'s global state.

    ``rule="centroid"``, RobustNet (Choi et al., CVPR 2021, https://arxiv.org/abs/2103.15597),
    after Zhu et al. (CVPR 2019, https://arxiv.org/abs/1812.01593): the label map is cut into
    tiles, a tile that has the class is drawn, and the crop covers the centroid of the class's
    pixels in it. Differences: the tiles at the right and lower edge, which are smaller than the
    others, count as well; and a label map without the class is cropped at random.

    ``rule="contains"``, DAFormer (Hoyer et al., CVPR 2022, https://arxiv.org/abs/2111.14887): up
    to ten random crops, until one has ``min_pixels`` of the class. Differences: the crop is tried
    again, not the whole pipeline; when none will do, the one with most of the class is taken, not
    the last.

    Args:
        crop_size: (height, width), or one number for both.
        rule: ``"centroid"`` or ``"contains"``.
        cat_max_ratio: a random crop, and one of ``"contains"``, is tried again when one class has
            this share of its labelled pixels or more, up to ten times.
        min_pixels: of the class, in a tile or a crop; default 1 for ``"centroid"``, 1500 for
            ``"contains"`` (half of what DAFormer asks of the image).
        tile: side of a tile in pixels of the image as it was loaded; if the results have a
            ``scale_factor``, tiles are scaled with the image.
        jitter: 0..1; 1 lets the centroid lie anywhere in the crop, as the authors' code does, 0
            centres the crop on it as far as the image's borders permit.

    Required keys: img; gt_seg_map unless the crop is plain and ``cat_max_ratio`` is 1. Changed:
    img, img_shape, all of seg_fields.
    """

    def __init__(
        self,
        crop_size: int | tuple[int, int],
        rule: Literal["centroid", "contains"] = "centroid",
        cat_max_ratio: float = 1.0,
        min_pixels: int | None = None,
        tile: int = 1024,
        jitter: float = 1.0,
    ) -> None:
        size = (crop_size, crop_size) if isinstance(crop_size, int) else tuple(crop_size)
        if len(size) != 2 or min(size) < 1:
            raise ValueError(f"ClassCrop: crop_size must be (height, width), got {crop_size}")
        if rule not in ("centroid", "contains"):
            raise ValueError(f"ClassCrop: rule must be 'centroid' or 'contains', got {rule!r}")
        if not 0 < cat_max_ratio <= 1:
            raise ValueError(f"ClassCrop: cat_max_ratio must be in (0, 1], got {cat_max_ratio}")
        if tile < 1 or not 0 <= jitter <= 1:
            raise ValueError(
                f"ClassCrop: tile must be 1 or more and jitter in 0..1, got {tile} and {jitter}"
            )
        if min_pixels is None:
            min_pixels = 1 if rule == "centroid" else 1500
        if min_pixels < 1:
            raise ValueError(f"ClassCrop: min_pixels must be 1 or more, got {min_pixels}")
        self.crop_size = size
        self.rule = rule
        self.cat_max_ratio = cat_max_ratio
        self.min_pixels = min_pixels
        self.tile = tile
        self.jitter = jitter

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        top, bottom, left, right = self._box(results)
        image = results["img"][top:bottom, left:right]
        results["img"] = image
        results["img_shape"] = image.shape[:2]
        for key in results.get("seg_fields", ()):
            results[key] = results[key][top:bottom, left:right]
        return results

    def _box(self, results: dict[str, Any]) -> Box:
        shape = results["img"].shape[:2]
        labels = results.get("gt_seg_map")
        wanted = results.get("crop_class")
        if labels is None:
            if wanted is not None:
                raise ValueError(
                    "ClassCrop: the sampler asks for a class, but there is no gt_seg_map; put "
                    "seg.LoadLabels before it"
                )
            return self._random_box(shape)
        if labels.shape[:2] != shape:
            raise ValueError(
                f"ClassCrop: image {shape} and labels {labels.shape[:2]} differ in size (height, "
                f"width): {results.get('img_path', '')}"
            )
        if wanted is not None:
            if self.rule == "contains":
                return self._containing_box(labels, int(wanted))
            tiles = self._tiles(labels, int(wanted), results.get("scale_factor"))
            if tiles:
                return self._box_at(tiles[np.random.randint(len(tiles))], labels, int(wanted))
        return self._balanced_box(labels)

    def _random_box(self, shape: tuple[int, ...]) -> Box:
        height, width = self.crop_size
        top = np.random.randint(0, max(shape[0] - height, 0) + 1)
        left = np.random.randint(0, max(shape[1] - width, 0) + 1)
        return top, min(top + height, shape[0]), left, min(left + width, shape[1])

    def _balanced_box(self, labels: np.ndarray) -> Box:
        box = self._random_box(labels.shape)
        for _ in range(_TRIES):
            if self._balanced(_cut(labels, box)):
                break
            box = self._random_box(labels.shape)
        return box

    def _balanced(self, labels: np.ndarray) -> bool:
        """Whether there are two classes or more, and none has too large a share."""
        if self.cat_max_ratio == 1:
            return True
        counts = np.bincount(labels.ravel(), minlength=256)
        counts[IGNORE] = 0
        several = np.count_nonzero(counts) > 1
        return bool(several and counts.max() / counts.sum() < self.cat_max_ratio)

    def _containing_box(self, labels: np.ndarray, wanted: int) -> Box:
        best: tuple[int, Box] = (-1, (0, 0, 0, 0))
        for _ in range(_TRIES):
            box = self._random_box(labels.shape)
            content = _cut(labels, box)
            pixels = int(np.count_nonzero(content == wanted))
            if pixels >= self.min_pixels and self._balanced(content):
                return box
            best = max(best, (pixels, box), key=lambda b: b[0])
        return best[1]

    def _tiles(self, labels: np.ndarray, wanted: int, scale: Any) -> list[Box]:
        """The tiles with enough pixels of the class."""
        there = labels == wanted
        height, width = labels.shape
        across, down = (1.0, 1.0) if scale is None else np.broadcast_to(scale, 2)  # mmcv's order
        steps = (max(1, round(self.tile * down)), max(1, round(self.tile * across)))
        tiles: list[Box] = [
            (top, min(top + steps[0], height), left, min(left + steps[1], width))
            for top in range(0, height, steps[0])
            for left in range(0, width, steps[1])
        ]
        return [t for t in tiles if np.count_nonzero(_cut(there, t)) >= self.min_pixels]

    def _box_at(self, tile: Box, labels: np.ndarray, wanted: int) -> Box:
        """A crop around the centroid of the class in the tile, moved into the image."""
        place = np.nonzero(_cut(labels, tile) == wanted)
        box = []
        for axis, origin in enumerate((tile[0], tile[2])):
            centre = origin + int(place[axis].mean())
            length = min(self.crop_size[axis], labels.shape[axis])
            # it may begin between `centre - length + 1` and `centre`
            middle = centre - length // 2
            before = int(self.jitter * (length - 1 - length // 2))
            after = int(self.jitter * (length // 2))
            first = np.random.randint(middle - before, middle + after + 1)
            first = min(max(first, 0), labels.shape[axis] - length)
            box += [first, first + length]
        return box[0], box[1], box[2], box[3]

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(crop_size={self.crop_size}, rule={self.rule!r}, "
            f"cat_max_ratio={self.cat_max_ratio}, min_pixels={self.min_pixels}, "
            f"tile={self.tile}, jitter={self.jitter})"
        )


def _cut(labels: np.ndarray, box: Box) -> np.ndarray:
    return labels[box[0] : box[1], box[2] : box[3]]
