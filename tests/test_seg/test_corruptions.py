from __future__ import annotations

import cv2
import numpy as np
import pytest

from seg.corruptions import CORRUPTIONS, corrupt, image_seed


def _street(height: int, width: int) -> np.ndarray:
    """Something with edges, colours and texture."""
    generator = np.random.default_rng(0)
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2] = (150, 180, 220)
    image[height // 2 :] = (95, 90, 88)
    for _ in range(40):
        x, y = generator.integers(0, [width, height])
        w, h = generator.integers(4, [width // 4, height // 3])
        colour = generator.integers(20, 236, 3).tolist()
        cv2.rectangle(image, (int(x), int(y)), (int(x + w), int(y + h)), colour, -1)
    noise = generator.normal(0, 4, image.shape)
    return (image + noise).clip(0, 255).astype(np.uint8)


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(float) - b).mean())


@pytest.fixture(scope="module")
def street() -> np.ndarray:
    return _street(120, 200)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_grows_with_severity(street, name) -> None:
    distances = []
    for seed in (0, 1, 2):
        outs = [corrupt(street, name, severity, seed) for severity in (1, 2, 3, 4, 5)]
        for out in outs:
            assert out.shape == street.shape and out.dtype == np.uint8 and out.flags.c_contiguous
        distances.append([_distance(out, street) for out in outs])
    mean = np.mean(distances, 0)
    assert (np.diff(mean) > 0.02 * mean[:-1]).all(), mean
    assert mean[0] > 0.3


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_pure_function(street, name) -> None:
    kept = street.copy()
    first = corrupt(street, name, 3, seed=7)
    np.testing.assert_array_equal(street, kept)
    cv2.setRNGSeed(99)
    np.random.seed(99)
    np.testing.assert_array_equal(corrupt(street, name, 3, seed=7), first)
    # memory layout does not matter
    np.testing.assert_array_equal(corrupt(np.asfortranarray(street), name, 3, seed=7), first)


def test_seeds_matter_where_there_is_chance(street) -> None:
    still = {
        *("defocus_blur", "zoom_blur", "brightness", "darkness", "contrast", "saturation"),
        *("jpeg", "pixelate"),
    }
    for name in CORRUPTIONS:
        same = np.array_equal(corrupt(street, name, 4, 0), corrupt(street, name, 4, 1))
        assert same == (name in still), name


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("size", [(32, 32), (33, 150), (600, 40)])
def test_any_size(name, size) -> None:
    image = _street(*size)
    assert corrupt(image, name, 5, 2**63 - 1).shape == image.shape


@pytest.mark.parametrize("name", ["defocus_blur", "motion_blur", "glass_blur", "pixelate", "snow"])
def test_lengths_grow_with_the_image(name) -> None:
    """The same scene at twice the resolution is changed about equally after scaling it back."""
    small = _street(512, 560)
    large = cv2.resize(small, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
    there = corrupt(large, name, 4, 3)
    back = cv2.resize(there, (560, 512), interpolation=cv2.INTER_AREA)
    assert _distance(back, small) > 0.6 * _distance(corrupt(small, name, 4, 3), small)


def test_specific_kinds(street) -> None:
    assert corrupt(street, "brightness", 3).mean() > street.mean() + 40
    assert corrupt(street, "darkness", 3).mean() < 0.5 * street.mean()
    gray = corrupt(street, "saturation", 5)
    assert np.ptp(gray.astype(int), axis=2).max() <= 1
    assert corrupt(street, "contrast", 5).std() < 0.25 * street.std()
    blocks = corrupt(street, "pixelate", 5)
    assert len(np.unique(blocks.reshape(-1, 3), axis=0)) <= (120 // 8) * (200 // 8)
    salt = corrupt(street, "impulse_noise", 5)
    assert (salt == 0).all(2).mean() == pytest.approx(0.09, abs=0.02)
    fog = corrupt(street, "fog", 5)
    assert fog[:60].std() < fog[60:].std()  # the near half stays clearer


def test_bad_input(street) -> None:
    with pytest.raises(ValueError, match="unknown corruption 'gauss_noise'; did you mean gaussian"):
        corrupt(street, "gauss_noise", 1)
    with pytest.raises(ValueError, match="known: gaussian_noise, shot"):
        corrupt(street, "earthquake", 1)
    for severity in (0, 6, 2.5):
        with pytest.raises(ValueError, match="severity"):
            corrupt(street, "fog", severity)
    for image in (street[..., 0], street.astype(np.float32)):
        with pytest.raises(ValueError, match="uint8 RGB"):
            corrupt(image, "fog", 1)
    with pytest.raises(ValueError, match="at least 32x32 pixels, got 1x1"):
        corrupt(street[:1, :1], "fog", 1)


def test_image_seed() -> None:
    assert image_seed("a/b.png", "fog") == image_seed("/x/y/b.png", "fog")
    assert image_seed("a\\b.png", "fog") == image_seed("b.png", "fog")
    assert image_seed("b.png", "fog") != image_seed("b.png", "rain")
    assert image_seed("b.png", "fog") == 4098417432070395941  # must never change
    assert 0 <= image_seed("", "fog") < 2**63
