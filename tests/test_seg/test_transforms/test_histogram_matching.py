from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("mmseg")

import cv2

from seg.transforms import HistogramMatching
from seg.transforms.histogram_matching import cumulative_histograms, matching_values


def naive(image: np.ndarray, target: np.ndarray) -> np.ndarray:
    out = np.zeros_like(image)
    for c in range(3):
        for v in np.unique(image[..., c]):
            share = (image[..., c] <= v).mean()
            w = next(w for w in range(256) if (target[..., c] <= w).mean() >= share - 1e-9)
            out[..., c][image[..., c] == v] = w
    return out


@pytest.fixture
def images() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    image = generator.integers(20, 90, (15, 22, 3), np.uint8)
    target = generator.normal(140, 30, (31, 17, 3)).clip(0, 255).astype(np.uint8)
    return image, target


def test_equals_the_definition(images, tmp_path) -> None:
    image, target = images
    cv2.imwrite(str(tmp_path / "t.png"), target)
    out = HistogramMatching(tmp_path, strength=1.0, p=1.0)(dict(img=image))["img"]
    np.testing.assert_array_equal(out, naive(image, target))
    assert abs(float(out.mean()) - float(target.mean())) < 3
    half = HistogramMatching(tmp_path, strength=0.5, p=1.0)(dict(img=image))["img"]
    expected = np.rint((naive(image, target).astype(float) + image) / 2)
    assert np.abs(half - expected).max() <= 1
    none = HistogramMatching(tmp_path, strength=0.0, p=1.0)(dict(img=image))["img"]
    np.testing.assert_array_equal(none, image)


def test_own_histogram_changes_nothing(images) -> None:
    own = cumulative_histograms(images[0])
    values = matching_values(own, own)
    for c in range(3):
        present = np.unique(images[0][..., c])
        np.testing.assert_array_equal(values[c][present], present)


def test_seed_and_errors(images, tmp_path) -> None:
    image, target = images
    cv2.imwrite(str(tmp_path / "t.png"), target)
    step = HistogramMatching(tmp_path, p=1.0)
    outs = [step(dict(img=image, sample_seed=s))["img"].tobytes() for s in (0, 1, 0)]
    assert outs[0] == outs[2] != outs[1]
    with pytest.raises(ValueError, match="strength"):
        HistogramMatching(tmp_path, strength=(0.5, 1.5))
