from __future__ import annotations

import numpy as np
import pytest
import torch

from cls.evaluation.counting import (
    Judged,
    calibration_error,
    class_accuracy,
    confusion_counts,
    judge,
    top_confusions,
    top_k,
)


def naive_rank(row: np.ndarray, label: int) -> int:
    """Places that the true class takes if all that are as large stand before it."""
    order = sorted(range(len(row)), key=lambda c: (-row[c], c == label))
    return order.index(label)


def test_ranks_and_predictions_of_many_ties() -> None:
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.integers(0, 4, (300, 7)).astype(np.float32))
    labels = torch.from_numpy(rng.integers(0, 7, 300))
    judged = judge(logits, labels)
    ranks = [naive_rank(row, int(c)) for row, c in zip(logits.numpy(), labels, strict=True)]
    assert judged.rank.tolist() == ranks
    # the prediction is one of the largest, and the truth only where nothing is as large
    assert (logits[range(300), judged.prediction] == logits.max(1).values).all()
    assert ((judged.prediction == labels.numpy()) == (judged.rank == 0)).all()
    for k in range(1, 8):
        assert top_k(judged.rank, k) == pytest.approx(np.mean(np.array(ranks) < k))
    assert top_k(judged.rank, 7) == 1
    softmax = logits.double().softmax(1)
    assert judged.confidence == pytest.approx(softmax.max(1).values.numpy())
    loss = torch.nn.functional.cross_entropy(logits.double(), labels, reduction="none")
    assert judged.log_loss == pytest.approx(loss.numpy())


def test_the_order_of_the_classes_does_not_matter() -> None:
    rng = np.random.default_rng(1)
    logits = torch.from_numpy(rng.integers(0, 3, (200, 6)).astype(np.float32))
    labels = torch.from_numpy(rng.integers(0, 6, 200))
    order = torch.from_numpy(rng.permutation(6))
    other = judge(logits[:, order], order.argsort()[labels])
    assert (other.rank == judge(logits, labels).rank).all()


def test_a_network_that_gives_all_classes_the_same_is_never_right() -> None:
    judged = judge(torch.zeros(10, 10), torch.arange(10))
    assert top_k(judged.rank, 1) == top_k(judged.rank, 9) == 0 and top_k(judged.rank, 10) == 1
    confusion = confusion_counts(np.arange(10), judged.prediction, 10)
    assert np.trace(confusion) == 0 and confusion.sum() == 10


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_is_wrong(value: float) -> None:
    logits = torch.eye(3) * 9
    logits[1, 2] = value
    judged = judge(logits, torch.arange(3))
    assert judged.rank.tolist() == [0, 3, 0] and judged.prediction.tolist() == [0, -1, 2]
    assert np.isnan(judged.confidence[1]) and np.isnan(judged.log_loss[1])
    assert top_k(judged.rank, 3) == pytest.approx(2 / 3)
    assert confusion_counts(np.arange(3), judged.prediction, 3).sum() == 2


def test_large_logits_of_low_precision_stay_exact() -> None:
    logits = torch.tensor([[1000.0, 1001.0], [-1000.0, -1004.0]], dtype=torch.bfloat16)
    judged = judge(logits, torch.tensor([1, 0]))
    assert np.isfinite(judged.log_loss).all() and judged.prediction.tolist() == [0, 0]


def test_one_class_and_no_images() -> None:
    judged = judge(torch.zeros(2, 1), torch.zeros(2, dtype=torch.int64))
    assert judged.rank.tolist() == [0, 0] and judged.prediction.tolist() == [0, 0]
    empty = judge(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))
    assert np.isnan(top_k(empty.rank, 1)) and not len(empty.prediction)
    assert len(Judged.joined([judged, empty]).rank) == 2


def test_shapes_and_labels_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"expected logits \(N, K\)"):
        judge(torch.zeros(3), torch.zeros(3, dtype=torch.int64))
    for label in (-1, 4):
        with pytest.raises(ValueError, match="other classes than the data"):
            judge(torch.zeros(2, 4), torch.tensor([0, label]))


def test_confusion_and_class_accuracy() -> None:
    labels, predictions = np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, -1, 0])
    confusion = confusion_counts(labels, predictions, 3)
    assert confusion.tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
    accuracy = class_accuracy(confusion, np.array([2, 3, 0]))
    assert accuracy[:2] == pytest.approx([1 / 2, 1 / 3]) and np.isnan(accuracy[2])


def test_calibration_error() -> None:
    rng = np.random.default_rng(2)
    confidence = rng.uniform(0.05, 1, 500)
    right = rng.uniform(size=500) < 0.6
    naive = 0.0
    for low in range(15):
        inside = (confidence > low / 15) & (confidence <= (low + 1) / 15)
        if inside.any():
            naive += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert calibration_error(confidence, right) == pytest.approx(naive)
    assert calibration_error(np.ones(4), np.ones(4, bool)) == 0
    assert calibration_error(np.ones(4), np.zeros(4, bool)) == 1
    assert calibration_error(np.array([1.0, np.nan]), np.array([True, False])) == 0
    assert np.isnan(calibration_error(np.zeros(0), np.zeros(0, bool)))


def test_top_confusions() -> None:
    confusion = np.array([[5, 3, 0], [1, 9, 0], [3, 0, 0]])
    found = top_confusions(confusion, "abc", 10)
    assert found == [("a", "b", 3, 3 / 8), ("c", "a", 3, 1.0), ("b", "a", 1, 0.1)]
    assert top_confusions(confusion, "abc", 1) == found[:1]
    assert top_confusions(np.diag([3, 4]), "ab", 5) == []
