from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("mmseg")

import torch

from seg.evaluation.confusion import ConfusionMatrix, count_pairs, subset_means


def random_maps(
    classes: int = 7, shape: tuple[int, int] = (37, 53), seed: int = 0, absent: tuple[int, ...] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Truth with ignored pixels and a prediction that is right on half of it."""
    generator = np.random.default_rng(seed)
    known = [c for c in range(classes) if c not in absent]
    truth = generator.choice(known, shape).astype(np.uint8)
    prediction = np.where(
        generator.random(shape) < 0.5, truth, generator.choice(known, shape)
    ).astype(np.uint8)
    truth[generator.random(shape) < 0.15] = 255
    return truth, prediction


def naive_counts(truth: np.ndarray, prediction: np.ndarray, classes: int) -> np.ndarray:
    counts = np.zeros((classes, classes), int)
    for t, p in zip(truth.ravel().tolist(), prediction.ravel().tolist(), strict=True):
        if t != 255:
            counts[t, p] += 1
    return counts


def test_counts_are_those_of_a_loop_over_pixels() -> None:
    matrix = ConfusionMatrix(7)
    expected = np.zeros((7, 7), int)
    for seed in range(3):
        truth, prediction = random_maps(seed=seed)
        own = matrix.update(truth, prediction)
        assert np.array_equal(own, naive_counts(truth, prediction, 7))
        expected += own
    assert matrix.counts.dtype == np.int64
    assert np.array_equal(matrix.counts, expected)


def test_counting_in_strips_and_of_views(monkeypatch) -> None:
    truth, prediction = random_maps()
    whole = count_pairs(truth, prediction)
    monkeypatch.setattr("seg.evaluation.confusion._EXACT", 200)
    assert np.array_equal(count_pairs(truth, prediction), whole)
    assert np.array_equal(count_pairs(truth.T, prediction.T), whole)  # not contiguous
    assert count_pairs(truth[:0], prediction[:0]).sum() == 0


@pytest.mark.parametrize("absent", [(), (3,), (0, 6)])
def test_equals_mmsegs_metric(absent: tuple[int, ...]) -> None:
    from mmseg.evaluation.metrics import IoUMetric

    names = [f"class {c}" for c in range(7)]
    theirs = IoUMetric()
    theirs.dataset_meta = {"classes": names}
    matrix, samples = ConfusionMatrix(7), []
    for seed in range(4):
        truth, prediction = random_maps(seed=seed, absent=absent)
        matrix.update(truth, prediction)
        samples.append(
            {
                "pred_sem_seg": {"data": torch.from_numpy(prediction).long()[None]},
                "gt_sem_seg": {"data": torch.from_numpy(truth).long()[None]},
            }
        )
    theirs.process({}, samples)
    areas = [sum(column) for column in zip(*theirs.results, strict=True)]
    by_class = IoUMetric.total_area_to_metrics(*areas)
    # the same to the last digit of their float32, NaN where they have NaN
    assert np.array_equal(matrix.iou().astype(np.float32), by_class["IoU"], equal_nan=True)
    assert np.array_equal(matrix.accuracy().astype(np.float32), by_class["Acc"], equal_nan=True)
    assert np.isnan(matrix.iou()[list(absent)]).all()
    printed = theirs.compute_metrics(theirs.results)
    ours = {
        "mIoU": matrix.mean_iou(),
        "aAcc": matrix.pixel_accuracy(),
        "mAcc": matrix.mean_accuracy(),
    }
    assert {k: round(100 * v, 2) for k, v in ours.items()} == pytest.approx(printed, abs=1e-9)


def test_a_class_that_is_only_predicted_has_iou_zero() -> None:
    truth = np.zeros((2, 2), np.uint8)
    matrix = ConfusionMatrix(3)
    matrix.update(truth, np.array([[0, 0], [0, 1]], np.uint8))
    assert matrix.iou()[:2].tolist() == [0.75, 0] and np.isnan(matrix.iou()[2])
    assert matrix.mean_iou() == 0.375 and matrix.mean_accuracy() == 0.75


def test_classes_outside_the_labels_leave_the_mean_and_stay_errors() -> None:
    truth = np.array([[0, 0, 1, 1]], np.uint8)
    prediction = np.array([[0, 2, 1, 1]], np.uint8)
    matrix = ConfusionMatrix(3, evaluated=(0, 1))
    matrix.update(truth, prediction)
    assert matrix.mean_iou() == pytest.approx((0.5 + 1) / 2)  # not (0.5 + 1 + 0) / 3
    assert matrix.pixel_accuracy() == 0.75
    full = ConfusionMatrix(3)
    full.update(truth, prediction)
    assert full.mean_iou() == pytest.approx(0.5)


def test_relabelling_and_the_order_of_images_change_nothing() -> None:
    order = np.random.default_rng(1).permutation(7).astype(np.uint8)
    table = np.full(256, 255, np.uint8)
    table[:7] = order
    first, second, reverse = ConfusionMatrix(7), ConfusionMatrix(7), ConfusionMatrix(7)
    for seed in range(3):
        truth, prediction = random_maps(seed=seed)
        first.update(truth, prediction)
        second.update(table[truth], table[prediction])
    for seed in (2, 1, 0):
        reverse.update(*random_maps(seed=seed))
    assert np.allclose(first.iou(), second.iou()[order])
    assert np.array_equal(first.counts, reverse.counts)
    assert first.mean_iou() == pytest.approx(second.mean_iou())
    first += reverse
    assert np.array_equal(first.counts, 2 * reverse.counts)


def test_subsets() -> None:
    matrix = ConfusionMatrix(3, evaluated=(0, 1))
    matrix.update(np.array([[0, 1, 1, 1]], np.uint8), np.array([[0, 0, 1, 1]], np.uint8))
    names = ["road", "car", "train"]
    means = subset_means(matrix, names, {"things": ["car", "train"], "none": ["train"]})
    assert means["mIoU_things"] == pytest.approx(2 / 3)  # train is not in these labels
    assert np.isnan(means["mIoU_none"])
    with pytest.raises(ValueError, match=r"no class.*bus"):
        subset_means(matrix, names, {"x": ["bus"]})


def test_nothing_labelled_gives_nan_and_no_warning(recwarn) -> None:
    matrix = ConfusionMatrix(2)
    matrix.update(np.full((3, 3), 255, np.uint8), np.zeros((3, 3), np.uint8))
    assert np.isnan([matrix.mean_iou(), matrix.pixel_accuracy(), matrix.mean_accuracy()]).all()
    assert not recwarn.list


@pytest.mark.parametrize(
    ("truth", "prediction", "message"),
    [
        (
            np.zeros((2, 3), np.uint8),
            np.zeros((3, 2), np.uint8),
            "truth is 2x3, the prediction 3x2",
        ),
        (np.zeros((2, 2), np.int64), np.zeros((2, 2), np.uint8), "truth.*uint8"),
        (np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2, 3), np.uint8), r"\(H, W\)"),
        (np.full((2, 2), 254, np.uint8), np.zeros((2, 2), np.uint8), r"truth holds \[254\]"),
        (np.zeros((2, 2), np.uint8), np.full((2, 2), 7, np.uint8), r"prediction holds \[7\]"),
    ],
)
def test_what_cannot_be_compared_is_refused(truth, prediction, message) -> None:
    matrix = ConfusionMatrix(7)
    with pytest.raises(ValueError, match=message):
        matrix.update(truth, prediction)
    assert not matrix.counts.any()


@pytest.mark.parametrize("arguments", [(0,), (255,), (3, (0, 3)), (3, ()), (3, (1, 1))])
def test_class_sets_that_make_no_sense(arguments) -> None:
    with pytest.raises(ValueError, match="expected"):
        ConfusionMatrix(*arguments)
