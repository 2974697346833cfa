from __future__ import annotations

import cv2
import numpy as np
import pytest

pytest.importorskip("mmseg")

from seg.evaluation.boundary import BoundaryCounts, boundary_width, near_contour


def blobs(seed: int, shape: tuple[int, int] = (60, 90), classes: int = 5) -> np.ndarray:
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, classes, (6, 9), dtype=np.uint8)
    labels = cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_NEAREST)
    labels[generator.random(shape) < 0.01] = 1  # specks
    return labels


def naive_boundary(mask: np.ndarray, width: int) -> np.ndarray:
    """The paper's: the mask without what is left of it after ``width`` 3x3 erosions, with a frame
    of nothing around the image."""
    padded = np.pad(mask.astype(np.uint8), 1)
    eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=width)[1:-1, 1:-1]
    return mask & ~eroded.astype(bool)


def naive_iou(pairs: list[tuple[np.ndarray, np.ndarray]], classes: int) -> np.ndarray:
    intersection, union = np.zeros(classes), np.zeros(classes)
    for truth, prediction in pairs:
        width = max(1, round(0.02 * np.hypot(*truth.shape)))
        prediction = np.where(truth == 255, 255, prediction)
        for c in range(classes):
            true = naive_boundary(truth == c, width)
            predicted = naive_boundary(prediction == c, width)
            intersection[c] += (true & predicted).sum()
            union[c] += (true | predicted).sum()
    with np.errstate(invalid="ignore"):
        return intersection / union


@pytest.mark.parametrize("width", [1, 2, 7, 200])
def test_all_classes_at_once_as_each_mask_alone(width: int) -> None:
    labels = blobs(0)
    near = near_contour(labels, width)
    for c in range(5):
        assert np.array_equal(near & (labels == c), naive_boundary(labels == c, width))


@pytest.mark.parametrize("ignored", [False, True])
def test_iou_over_several_images(ignored: bool) -> None:
    counts, pairs = BoundaryCounts(6), []
    for seed in range(3):
        truth = blobs(seed)
        prediction = np.roll(truth, seed, axis=1)
        if ignored:
            truth[10:30, 20:50] = 255
        pairs.append((truth, prediction))
        counts.update(truth, prediction)
    assert np.allclose(counts.iou(), naive_iou(pairs, 6), equal_nan=True)
    assert np.isnan(counts.iou()[5])
    assert counts.mean_iou() == pytest.approx(np.nanmean(naive_iou(pairs, 6)))


def test_perfect_and_shifted() -> None:
    truth = blobs(0)
    perfect, shifted = BoundaryCounts(5), BoundaryCounts(5)
    perfect.update(truth, truth)
    shifted.update(truth, np.roll(truth, 2, axis=0))
    assert perfect.mean_iou() == 1
    assert 0 < shifted.mean_iou() < 1


def test_pixels_far_from_contours_do_not_count() -> None:
    truth = np.zeros((200, 200), np.uint8)
    truth[50:150, 50:150] = 1
    hole = truth.copy()
    hole[100, 100] = 0  # 50 pixels inside, where d is 6
    counts = BoundaryCounts(2)
    counts.update(truth, hole)
    assert boundary_width(200, 200) == 6
    assert counts.iou()[0] < 1  # the hole's pixel is a boundary of class 0 in the prediction
    counts = BoundaryCounts(2, evaluated=(1,))
    counts.update(truth, truth)
    assert counts.intersection[1] == 100 * 100 - 88 * 88


def test_evaluated_classes_and_degenerate_images() -> None:
    counts = BoundaryCounts(3, evaluated=(0,))
    counts.update(np.zeros((1, 1), np.uint8), np.zeros((1, 1), np.uint8))
    counts.update(np.zeros((0, 4), np.uint8), np.zeros((0, 4), np.uint8))
    counts.update(np.full((4, 4), 255, np.uint8), np.zeros((4, 4), np.uint8))
    assert counts.mean_iou() == 1 and counts.union.tolist() == [1, 0, 0]
    assert np.isnan(BoundaryCounts(3).mean_iou())
    with pytest.raises(ValueError, match="ratio"):
        BoundaryCounts(3, ratio=2)
    with pytest.raises(ValueError, match="is 2x2, the prediction 3x3"):
        counts.update(np.zeros((2, 2), np.uint8), np.zeros((3, 3), np.uint8))


def test_width_is_a_share_of_the_diagonal() -> None:
    assert boundary_width(1024, 2048) == 46
    assert boundary_width(3, 3) == 1
