from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from imaging.graph_resize import Resizing, linear_as_opencv, resizing_of
from imaging.transforms import build_transforms

SIZES = [(70, 50), (128, 64), (64, 32), (13, 7), (1, 1), (1, 90), (5, 400), (333, 222)]


def noise(height: int, width: int, n: int = 2) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (n, height, width, 3), np.uint8)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("out", [(128, 64), (31, 77)])
def test_linear_is_opencvs_to_the_last_bit(size, out) -> None:
    images = noise(*size)
    got = linear_as_opencv(torch.from_numpy(images), out)
    expected = [cv2.resize(i, out[::-1], interpolation=cv2.INTER_LINEAR) for i in images]
    np.testing.assert_array_equal(got.numpy(), np.stack(expected))


def test_no_images() -> None:
    assert Resizing(8, 4)(torch.zeros(0, 5, 6, 3, dtype=torch.uint8)).shape == (0, 3, 8, 4)


@pytest.mark.parametrize(
    ("step", "within"),
    [
        (dict(type="Resize"), 0),
        (dict(type="Resize", interpolation=cv2.INTER_LINEAR, p=1), 0),
        (dict(type="Resize", interpolation=cv2.INTER_CUBIC), 1),
        (dict(type="AntialiasedResize"), 1),
        (dict(type="AntialiasedResize", interpolation="bilinear"), 1),
    ],
)
def test_what_a_pipeline_does(step, within) -> None:
    pipeline = [dict(**step, height=40, width=24)]
    transform, resizing = build_transforms(pipeline), resizing_of(pipeline)
    for size in SIZES:
        images = noise(*size)
        expected = torch.stack([transform(image) for image in images])
        got = resizing(torch.from_numpy(images))
        assert got.dtype == torch.float32 and got.shape == expected.shape
        difference = (got - expected).abs()
        assert difference.max() <= within and difference.mean() < 0.3


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        ([], "must be one Resize"),
        ([dict(type="CenterCrop", height=8, width=8)], "must be one Resize.*CenterCrop"),
        ([dict(type="Resize", height=8, width=8)] * 2, "must be one Resize"),
        ([dict(type="Resize", height=8, width=8, interpolation=3)], "interpolation=3"),
        ([dict(type="Resize", height=8, width=8, area_for_downscale="image")], "area_for"),
        ([dict(type="Resize", height=8, width=8, p=0.5)], "defaults"),
        (
            [dict(type="AntialiasedResize", height=8, width=8, interpolation="bicubic")],
            "AntialiasedResize has interpolation='bicubic'",
        ),
    ],
)
def test_pipelines_that_a_graph_cannot_hold(pipeline, message) -> None:
    with pytest.raises(ValueError, match=message):
        resizing_of(pipeline)
