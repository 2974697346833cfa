"""Boundary IoU: the IoU of the pixels near contours, which rewards exact outlines.

Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", CVPR 2021,
https://arxiv.org/abs/2103.16562. For a class, G_d are the pixels of the true mask within d pixels
of its contour (Chebyshev distance, as the authors' 3x3 erosions give; the image's border counts as
contour) and P_d those of the predicted mask; the class's boundary IoU is
``|G_d & P_d| / |G_d | P_d|``, d = 2% of the image's diagonal.

Where the paper says nothing: intersections and unions are summed over the data set, as for the
mIoU. Pixels ignored in the truth are ignored in both maps before contours are drawn, so that an
ignored region has the same outline in both.

The rule of a contour does not depend on the class: a pixel lies in its own class's boundary if some
other label is near. So one pass over the label map does all classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from ..label_spaces import IGNORE
from .confusion import ConfusionMatrix, check_labels, count_pairs

_SQUARE = np.ones((3, 3), np.uint8)


def boundary_width(height: int, width: int, ratio: float = 0.02) -> int:
    """d in pixels: ``ratio`` of the diagonal, rounded, at least 1."""
    return max(1, round(ratio * math.hypot(height, width)))


def near_contour(labels: np.ndarray, width: int) -> np.ndarray:
    """Which pixels lie within ``width`` pixels of another label or of the image's border.

    Args:
        labels: (H, W) uint8.
        width: d >= 1, in pixels; 1 marks pixels that touch another label, also diagonally.

    Returns:
        (H, W) bool.
    """
    edge = (cv2.erode(labels, _SQUARE) != cv2.dilate(labels, _SQUARE)).view(np.uint8)
    edge[[0, -1]] = 1
    edge[:, [0, -1]] = 1
    side = 2 * width - 1
    # sums over the square: their cost does not grow with the width, that of a dilation does
    sums = cv2.boxFilter(
        edge, cv2.CV_32S, (side, side), normalize=False, borderType=cv2.BORDER_CONSTANT
    )
    near: np.ndarray = sums > 0
    return near


class BoundaryCounts:
    """Boundary pixels of each class over a data set.

    Attributes:
        intersection, union: (C,) int64.
    """

    def __init__(
        self, num_classes: int, evaluated: Sequence[int] | None = None, ratio: float = 0.02
    ) -> None:
        if not 0 < ratio < 1:
            raise ValueError(f"ratio: expected a share of the diagonal in (0, 1), got {ratio}")
        self.evaluated = ConfusionMatrix(num_classes, evaluated).evaluated
        self.ratio = ratio
        self.intersection = np.zeros(num_classes, np.int64)
        self.union = np.zeros(num_classes, np.int64)

    def update(self, truth: np.ndarray, prediction: np.ndarray) -> None:
        """Add one image: (H, W) uint8 each, 255 ignored in the truth."""
        check_labels(truth, prediction)
        if not truth.size:
            return
        ignored = truth == IGNORE
        prediction = np.where(ignored, np.uint8(IGNORE), prediction)
        d = boundary_width(truth.shape[0], truth.shape[1], self.ratio)
        true = np.where(near_contour(truth, d), truth, np.uint8(IGNORE))
        predicted = np.where(near_contour(prediction, d), prediction, np.uint8(IGNORE))
        pairs = count_pairs(true, predicted)
        classes = len(self.intersection)
        hits = np.diag(pairs)[:classes]
        self.intersection += hits
        self.union += pairs.sum(0)[:classes] + pairs.sum(1)[:classes] - hits

    def iou(self) -> np.ndarray:
        """(C,) float64, NaN for classes without a boundary in truth and prediction."""
        whole = self.union.astype(np.float64)
        return np.divide(
            self.intersection, whole, out=np.full_like(whole, np.nan), where=whole > 0
        )  # fmt: skip

    def mean_iou(self) -> float:
        """Mean over the evaluated classes that occur; NaN if none does."""
        found = self.iou()[list(self.evaluated)]
        found = found[~np.isnan(found)]
        return float(found.mean()) if found.size else float("nan")
