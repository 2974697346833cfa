"""The confusion matrix of a segmentation and every number that follows from it.

Classes that a data set's labels cannot contain (SYNTHIA has 16 of Cityscapes' 19) are left out of
the means. A prediction of such a class is still an error of the true class: it stays in that
class's union and in the pixel accuracy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from ..label_spaces import IGNORE

# cv2 counts in float32, exact up to here; larger images are counted in strips
_EXACT = 2**24


def count_pairs(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """How often each pair of values occurs.

    Args:
        truth, prediction: (H, W) uint8.

    Returns:
        (256, 256) int64, rows truth, columns prediction.
    """
    counts = np.zeros((256, 256), np.int64)
    rows = max(1, _EXACT // max(1, truth.shape[1]))
    for top in range(0, truth.shape[0], rows):
        pair = [np.ascontiguousarray(m[top : top + rows]) for m in (truth, prediction)]
        if pair[0].size:
            counts += cv2.calcHist(
                pair, [0, 1], None, [256, 256], [0, 256, 0, 256]
            ).astype(np.int64)  # fmt: skip
    return counts


class ConfusionMatrix:
    """Pixels by true and predicted class, over any number of images.

    The numbers are those of mmseg's IoUMetric where all classes are evaluated, without its float32
    sums, which lose pixels above 16.7 million of a class.

    Args:
        num_classes: C, at most 254; 255 is ignored in the truth.
        evaluated: classes that enter the means; all if None.

    Attributes:
        counts: (C, C) int64, rows truth, columns prediction.
    """

    def __init__(self, num_classes: int, evaluated: Sequence[int] | None = None) -> None:
        if not 1 <= num_classes <= 254:
            raise ValueError(f"expected 1 to 254 classes, got {num_classes}")
        self.counts = np.zeros((num_classes, num_classes), np.int64)
        self.evaluated = tuple(range(num_classes) if evaluated is None else evaluated)
        wrong = [c for c in self.evaluated if not 0 <= c < num_classes]
        if wrong or not self.evaluated or len(set(self.evaluated)) != len(self.evaluated):
            raise ValueError(
                f"evaluated classes: expected different ones of 0..{num_classes - 1}, got "
                f"{list(self.evaluated)}"
            )

    @property
    def num_classes(self) -> int:
        return len(self.counts)

    def update(self, truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
        """Add one image.

        Args:
            truth: (H, W) uint8, classes and 255 for ignored pixels.
            prediction: (H, W) uint8, classes.

        Returns:
            The image's own (C, C) int64 matrix.

        Raises:
            ValueError: sizes or types differ from that, or a value is neither a class nor ignored.
        """
        check_labels(truth, prediction)
        pairs = count_pairs(truth, prediction)
        c = self.num_classes
        image = pairs[:c, :c]
        if image.sum() + pairs[IGNORE].sum() != truth.size:
            self._refuse(pairs)
        self.counts += image
        return image.copy()

    def _refuse(self, pairs: np.ndarray) -> None:
        c = self.num_classes
        in_truth = [int(v) for v in np.flatnonzero(pairs.sum(1)) if c <= v != IGNORE]
        if in_truth:
            raise ValueError(
                f"the truth holds {in_truth}, expected classes 0..{c - 1} and {IGNORE} for ignored "
                "pixels; were the labels mapped to this class set (seg.LoadLabels)?"
            )
        counted = pairs[np.arange(256) != IGNORE].sum(0)
        predicted = [int(v) for v in np.flatnonzero(counted) if v >= c]
        raise ValueError(
            f"the prediction holds {predicted}, expected classes 0..{c - 1}: the head has more "
            "classes than the data set"
        )

    def __iadd__(self, other: ConfusionMatrix) -> ConfusionMatrix:
        self.counts += other.counts
        return self

    def iou(self) -> np.ndarray:
        """(C,) float64: intersection over union; NaN for a class neither in truth nor predicted."""
        hits = np.diag(self.counts)
        return _ratio(hits, self.counts.sum(0) + self.counts.sum(1) - hits)

    def accuracy(self) -> np.ndarray:
        """(C,) float64: share of a class's pixels that are found; NaN for a class not in truth."""
        return _ratio(np.diag(self.counts), self.counts.sum(1))

    def mean_iou(self, classes: Sequence[int] | None = None) -> float:
        """Mean IoU over the evaluated classes that occur (in truth or prediction), or over those of
        ``classes``; NaN if none does."""
        return self._mean(self.iou(), classes)

    def mean_accuracy(self) -> float:
        """Mean of ``accuracy`` over the evaluated classes that occur in the truth."""
        return self._mean(self.accuracy(), None)

    def pixel_accuracy(self) -> float:
        """Share of all labelled pixels that are right; NaN if there is none."""
        return float(_ratio(np.trace(self.counts), self.counts.sum()))

    def _mean(self, values: np.ndarray, classes: Sequence[int] | None) -> float:
        chosen = self.evaluated if classes is None else [c for c in classes if c in self.evaluated]
        found = values[list(chosen)]
        found = found[~np.isnan(found)]
        return float(found.mean()) if found.size else float("nan")


def subset_means(
    matrix: ConfusionMatrix, names: Sequence[str], subsets: Mapping[str, Sequence[str]]
) -> dict[str, float]:
    """Mean IoU over named subsets of the classes, ``{"mIoU_<subset>": value}``.

    Raises:
        ValueError: a subset names a class that does not exist.
    """
    means = {}
    for subset, members in subsets.items():
        unknown = [m for m in members if m not in names]
        if unknown:
            raise ValueError(f"subset {subset!r}: no class {unknown}; there are {', '.join(names)}")
        means[f"mIoU_{subset}"] = matrix.mean_iou([list(names).index(m) for m in members])
    return means


def check_labels(truth: np.ndarray, prediction: np.ndarray) -> None:
    """Two label maps (H, W) uint8 of one size, or a ValueError."""
    for name, labels in (("truth", truth), ("prediction", prediction)):
        if labels.ndim != 2 or labels.dtype != np.uint8:
            raise ValueError(
                f"{name}: expected (H, W) uint8, got {labels.shape} {labels.dtype} labels"
            )
    if truth.shape != prediction.shape:
        raise ValueError(
            f"the truth is {_size(truth)}, the prediction {_size(prediction)} (height x width)"
        )


def _size(labels: np.ndarray) -> str:
    return "x".join(map(str, labels.shape))


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    whole = np.asarray(whole, np.float64)
    ratios: np.ndarray = np.divide(part, whole, out=np.full_like(whole, np.nan), where=whole > 0)
    return ratios
