from __future__ import annotations

import cv2
import numpy as np
import pytest

from cls.evaluation.pictures import confusion_picture, mistakes_picture
from cls.evaluation.results import DomainResult


def decoded(data: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image


def result(k: int) -> DomainResult:
    rng = np.random.default_rng(k)
    matrix = np.diag(rng.integers(20, 50, k))
    for truth, prediction in rng.integers(0, k, (3 * k, 2)):
        matrix[truth, prediction] += 3
    matrix[k - 1] = 0  # does not occur
    return DomainResult(
        metrics={},
        classes=[f"a class <{c}> of $no math_{c}$" for c in range(k)],
        counts=matrix.sum(1).tolist(),
        accuracy=[None] * k,
        confusion=[[int(t), int(p), int(matrix[t, p])] for t, p in np.argwhere(matrix)],
    )


@pytest.mark.parametrize("k", [2, 10, 60, 400])
def test_a_confusion_matrix_of_any_size(k: int) -> None:
    image = decoded(confusion_picture(result(k), "a model $x_1$ on data " * 8))
    assert max(image.shape) < 2200 and image.std() > 5


def test_of_very_many_classes_single_mistakes_can_be_seen() -> None:
    k = 1000
    only = DomainResult(
        metrics={},
        classes=[str(c) for c in range(k)],
        counts=[50] * k,
        accuracy=[1.0] * k,
        confusion=[[c, c, 50] for c in range(k - 1)] + [[k - 1, 500, 50]],
    )
    image = decoded(confusion_picture(only, "x"))
    dark = (image[..., 2] < 60) & (image[..., 0] > 80)  # deep blue, which no text or axis is
    assert dark.sum() > 3


def test_nothing_at_all_is_no_reason_to_fail() -> None:
    empty = DomainResult(metrics={}, classes=["a", "b"], counts=[0, 0], accuracy=[None, None])
    assert decoded(confusion_picture(empty, "x")).size


@pytest.mark.parametrize("number", [1, 4, 13])
def test_mistakes(number: int) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (8 * (n + 1), 40, 3), np.uint8) for n in range(number)]
    mistakes = [
        {"path": f"/a/b/{n}$x$.png", "truth": "t" * 60, "prediction": "p", "confidence": 0.9}
        for n in range(number)
    ]
    assert decoded(mistakes_picture(images, mistakes, "x on y")).std() > 5
