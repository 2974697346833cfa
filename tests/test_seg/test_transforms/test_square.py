from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("mmseg")

from seg.registry import TRANSFORMS
from seg.transforms.square import ResizeAndCropSquare


def sample(height: int, width: int) -> dict[str, object]:
    columns = np.linspace(0, 240, width).astype(np.uint8)
    image = np.repeat(np.tile(columns, (height, 1))[..., None], 3, axis=2)
    labels = (np.arange(width) * 6 // width).astype(np.uint8)[None].repeat(height, 0)
    return {
        "img": image,
        "gt_seg_map": labels,
        "seg_fields": ["gt_seg_map"],
        "ori_shape": (height, width),
        "img_shape": (height, width),
    }


def test_a_wide_image_is_cut_about_its_centre() -> None:
    out = ResizeAndCropSquare(60).transform(sample(120, 240))
    assert out["img"].shape == (60, 60, 3) and out["gt_seg_map"].shape == (60, 60)
    assert out["ori_shape"] == out["img_shape"] == (60, 60)
    # of 120 columns after resizing, the middle 60: classes 1.5 to 4.5 of 6
    assert np.unique(out["gt_seg_map"]).tolist() == [1, 2, 3, 4]
    assert np.array_equal(out["gt_seg_map"][:, ::-1], 5 - out["gt_seg_map"])
    assert abs(int(out["img"][:, 0, 0].mean()) - 60) <= 3
    assert abs(int(out["img"][:, -1, 0].mean()) - 180) <= 3


def test_a_narrow_image_is_padded_on_both_sides_and_the_padding_ignored() -> None:
    out = ResizeAndCropSquare(64, pad_value=7).transform(sample(128, 64))
    labels = out["gt_seg_map"]
    assert labels.shape == (64, 64) and (labels[:, :16] == 255).all()
    assert (labels[:, 48:] == 255).all() and (labels[:, 16:48] != 255).all()
    assert (out["img"][:, :16] == 7).all()


def test_an_exact_square_stays_as_it_is() -> None:
    given = sample(48, 48)
    image, labels = given["img"].copy(), given["gt_seg_map"].copy()
    out = ResizeAndCropSquare(48).transform(given)
    assert np.array_equal(out["img"], image) and np.array_equal(out["gt_seg_map"], labels)


def test_odd_sizes_and_a_single_pixel() -> None:
    for height, width in ((1, 1), (7, 3), (3, 101)):
        out = ResizeAndCropSquare(33).transform(sample(height, width))
        assert out["img"].shape == (33, 33, 3) and out["gt_seg_map"].shape == (33, 33)


def test_errors_and_registration() -> None:
    wrong = sample(10, 20)
    wrong["gt_seg_map"] = np.zeros((5, 10), np.uint8)
    wrong["seg_map_path"] = "labels/7.png"
    with pytest.raises(ValueError, match=r"labels/7.png: labels of 10x5 for an image of 20x10"):
        ResizeAndCropSquare(8).transform(wrong)
    with pytest.raises(ValueError, match="size of 1 or more"):
        ResizeAndCropSquare(0)
    assert isinstance(
        TRANSFORMS.build(dict(type="seg.ResizeAndCropSquare", size=8)), ResizeAndCropSquare
    )
