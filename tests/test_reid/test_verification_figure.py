from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from reid.inference import Comparison
from reid.threshold import Threshold, calibrate
from reid.verification_figure import calibration_figure, comparison_figure


@pytest.mark.parametrize("hold_out", [True, False])
def test_calibration_figure(tmp_path: Path, hold_out: bool) -> None:
    rng = np.random.default_rng(0)
    ids = np.repeat(np.arange(12), 4)
    features = np.eye(12, dtype=np.float32)[ids] + 0.3 * rng.normal(size=(48, 12))
    features = (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)
    first, second = slice(0, None, 2), slice(1, None, 2)
    found = calibrate(
        features[first], features[second], ids[first], ids[second], far=0.1, hold_out=hold_out
    )
    path = calibration_figure(found, tmp_path / "new" / "roc.png", title="drawn people")
    image = cv2.imread(str(path))
    assert image.shape == (462, 1056, 3) and image.std() > 5
    # both kinds of pairs are there, in their colours
    for colour in ((65, 150, 26), (31, 48, 215)):  # BGR
        assert (np.abs(image.astype(int) - colour).sum(2) < 30).any()
    with pytest.raises(ValueError, match=r"\.png"):
        calibration_figure(found, tmp_path / "roc.pdf")


def test_comparison_figure(tmp_path: Path) -> None:
    tall, wide = np.zeros((120, 40, 3), np.uint8), np.full((60, 90, 3), 255, np.uint8)
    calibrated = Threshold(0.5, far=0.01, frr=0.2)
    frames = []
    for score in (0.9, 0.1):
        answer = Comparison(score, 0.5, calibrated)
        path = comparison_figure(tall, wide, answer, tmp_path / f"{score}.png")
        image = cv2.imread(str(path)).astype(int)
        green, red = (np.abs(image - c).sum(2) < 30 for c in ((65, 150, 26), (31, 48, 215)))
        frames.append((green.sum() > 500, red.sum() > 500))
    assert frames == [(True, False), (False, True)]
    with pytest.raises(ValueError, match=r"\.png"):
        comparison_figure(tall, wide, answer, tmp_path / "a.jpg")
