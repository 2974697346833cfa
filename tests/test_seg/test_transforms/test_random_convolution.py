from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("mmseg")

import torch

from seg.transforms import RandomConvolution
from seg.transforms.random_convolution import MEAN_BGR, STD_BGR, convolve


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (19, 26, 3), np.uint8)


@pytest.mark.parametrize("size", [1, 3, 5, 7])
@pytest.mark.parametrize("alpha", [0.0, 0.4])
def test_equals_normalise_convolve_mix(image, size, alpha) -> None:
    weight = np.random.default_rng(size).normal(0, 1 / np.sqrt(3 * size**2), (3, 3, size, size))
    x = (image - MEAN_BGR.astype(np.float64)) / STD_BGR
    half = size // 2
    padded = np.pad(x, ((half, half), (half, half), (0, 0)), mode="symmetric")
    z = torch.nn.functional.conv2d(
        torch.from_numpy(padded).permute(2, 0, 1)[None], torch.from_numpy(weight)
    )[0].permute(1, 2, 0)
    y = (alpha * x + (1 - alpha) * z.numpy()) * STD_BGR + MEAN_BGR
    out = convolve(image, weight, alpha)
    difference = np.abs(out.astype(int) - np.rint(y).clip(0, 255))
    assert difference.max() <= 1 and (difference > 0).mean() < 0.01


def test_alpha_one_is_the_image(image) -> None:
    weight = np.random.default_rng(0).normal(size=(3, 3, 3, 3))
    np.testing.assert_array_equal(convolve(image, weight, 1.0), image)


@pytest.mark.parametrize("size", [(1, 1), (2, 40)])
def test_small_images(size) -> None:
    image = np.full((*size, 3), 7, np.uint8)
    out = RandomConvolution(kernel_sizes=(7,), p=1.0)(dict(img=image, sample_seed=0))["img"]
    assert out.shape == image.shape
    assert (out == out[0, 0]).all()  # a flat image stays flat, up to its border


def test_transform(image) -> None:
    step = RandomConvolution(p=1.0)
    outs = [step(dict(img=image, gt_seg_map=image[..., 0], sample_seed=s)) for s in range(6)]
    assert len({o["img"].tobytes() for o in outs}) == 6
    for s, out in enumerate(outs):
        assert out["img"].dtype == np.uint8 and out["img"].flags.c_contiguous
        np.testing.assert_array_equal(out["gt_seg_map"], image[..., 0])
        np.testing.assert_array_equal(step(dict(img=image, sample_seed=s))["img"], out["img"])


def test_bad_arguments() -> None:
    for sizes in ((), (2,), (-1,)):
        with pytest.raises(ValueError, match="kernel_sizes"):
            RandomConvolution(kernel_sizes=sizes)
    assert "kernel_sizes=(1, 3, 5, 7)" in repr(RandomConvolution())
