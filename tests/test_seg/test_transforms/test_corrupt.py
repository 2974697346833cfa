from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("mmseg")

import cv2
from mmseg.registry import TRANSFORMS

from seg.corruptions import corrupt, image_seed
from seg.transforms import Corrupt


@pytest.fixture
def image() -> np.ndarray:
    grid = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(grid, (64, 48), interpolation=cv2.INTER_CUBIC)


def test_the_file_name_decides(image) -> None:
    step = TRANSFORMS.build(dict(type="seg.Corrupt", name="gaussian_noise", severity=3))
    outs = []
    for path, seed in (("a/x.png", 1), ("b/x.png", 2), ("a/y.png", 1)):
        np.random.seed(seed)
        outs.append(step(dict(img=image, img_path=path, sample_seed=seed))["img"])
    np.testing.assert_array_equal(outs[0], outs[1])
    assert not np.array_equal(outs[0], outs[2])


def test_it_is_corrupt_on_bgr(image) -> None:
    labels = np.ones((48, 64), np.uint8)
    results = Corrupt("fog", 5)(dict(img=image, img_path="c/d.png", gt_seg_map=labels))
    rgb = np.ascontiguousarray(image[..., ::-1])
    expected = corrupt(rgb, "fog", 5, image_seed("d.png", "fog"))
    np.testing.assert_array_equal(results["img"], expected[..., ::-1])
    assert results["img"].flags.c_contiguous and results["gt_seg_map"] is labels


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="did you mean fog"):
        Corrupt("fogg", 1)
    with pytest.raises(ValueError, match="severity"):
        Corrupt("fog", 6)
    assert repr(Corrupt("fog", 2)) == "Corrupt(name='fog', severity=2)"
