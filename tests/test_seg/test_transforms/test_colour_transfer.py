from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("mmseg")

import cv2

from seg.transforms import ColourTransfer
from seg.transforms.colour_transfer import colour_statistics, transfer_colours


@pytest.fixture
def image() -> np.ndarray:
    generator = np.random.default_rng(0)
    grid = generator.integers(60, 190, (5, 6, 3), np.uint8)
    return cv2.resize(grid, (41, 33), interpolation=cv2.INTER_CUBIC)


def test_rgb_equals_the_formula(image) -> None:
    mean, std = np.array([90.0, 120.0, 150.0]), np.array([10.0, 25.0, 15.0])
    x = image.astype(np.float64)
    expected = (x - x.mean((0, 1))) * std / x.std((0, 1)) + mean
    out = transfer_colours(image, mean, std, "rgb")
    np.testing.assert_array_equal(out, np.rint(expected).clip(0, 255))


@pytest.mark.parametrize("space", ["lab", "rgb"])
def test_the_result_has_the_targets_statistics(image, space) -> None:
    # mild enough for the RGB gamut: nothing is clipped
    mean, std = colour_statistics(image, space)
    wanted_mean, wanted_std = mean + np.array([3, -2, 2]), std * np.array([0.8, 0.9, 0.7])
    found_mean, found_std = colour_statistics(
        transfer_colours(image, wanted_mean, wanted_std, space), space
    )
    np.testing.assert_allclose(found_mean, wanted_mean, atol=0.5)
    np.testing.assert_allclose(found_std, wanted_std, atol=0.5)


@pytest.mark.parametrize("space", ["lab", "rgb"])
def test_own_statistics_change_nothing(image, space) -> None:
    out = transfer_colours(image, *colour_statistics(image, space), space)
    assert np.abs(out.astype(int) - image).max() <= 1


def test_lab_is_cielab() -> None:
    white = np.full((2, 2, 3), 255, np.uint8)
    mean, std = colour_statistics(white)
    np.testing.assert_allclose(mean, [100, 0, 0], atol=0.1)
    np.testing.assert_allclose(std, 0, atol=1e-3)
    red = np.zeros((1, 1, 3), np.uint8)
    red[..., 2] = 255  # BGR
    np.testing.assert_allclose(colour_statistics(red)[0], [53.2, 80.1, 67.2], atol=0.2)


@pytest.mark.parametrize("size", [(1, 1), (8, 8)])
def test_a_flat_image_takes_the_mean(size) -> None:
    flat = np.full((*size, 3), 50, np.uint8)
    out = transfer_colours(flat, np.array([10.0, 20, 30]), np.array([5.0, 5, 5]), "rgb")
    np.testing.assert_array_equal(out, np.broadcast_to([10, 20, 30], out.shape))


def test_transform(image, tmp_path) -> None:
    target = (image // 2 + 20).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "t.png"), target)
    step = ColourTransfer(tmp_path, p=1.0)
    expected = transfer_colours(image, *colour_statistics(target))
    results = step(dict(img=image, gt_seg_map=image[..., 0], sample_seed=1))
    np.testing.assert_array_equal(results["img"], expected)
    assert results["img"].flags.c_contiguous and results["gt_seg_map"] is not None

    half = ColourTransfer(tmp_path, strength=0.5, space="rgb", p=1.0)(dict(img=image))["img"]
    middle = (image.astype(float).mean() + target.astype(float).mean()) / 2
    assert half.mean() == pytest.approx(middle, abs=0.5)


def test_drawn_statistics(image) -> None:
    step = ColourTransfer(p=1.0)
    outs = [step(dict(img=image, sample_seed=s))["img"] for s in range(5)]
    assert len({o.tobytes() for o in outs}) == 5
    again = [step(dict(img=image, sample_seed=s))["img"] for s in range(5)]
    assert all(np.array_equal(a, b) for a, b in zip(outs, again, strict=True))
    still = ColourTransfer(shift=0, scale=(1, 1), space="rgb", p=1.0)
    np.testing.assert_array_equal(still(dict(img=image))["img"], image)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(space="hsv"), "'lab' or 'rgb'"),
        (dict(strength=2), "strength"),
        (dict(shift=-1), "shift"),
        (dict(scale=(0, 1)), "scale"),
        (dict(p=-1), "probability"),
    ],
)
def test_bad_arguments(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        ColourTransfer(**arguments)
