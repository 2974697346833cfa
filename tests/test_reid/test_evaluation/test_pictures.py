from __future__ import annotations

import cv2
import numpy as np
import pytest

from reid.evaluation.pictures import (
    camera_pair_picture,
    example_sheet,
    histogram_picture,
    roc_picture,
)


def decoded(data: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert image is not None
    return image


@pytest.mark.parametrize("cameras", [1, 2, 6, 20])
def test_camera_pairs(cameras: int) -> None:
    pairs = [
        {"query_camera": f"{a}", "gallery_camera": f"{b}", "mAP": (a + b) / 60, "rank-1": 1.0}
        for a in range(cameras)
        for b in range(cameras)
        if a != b or cameras == 1
    ]
    image = decoded(camera_pair_picture(pairs, "a $model_1$ on data " * 4))
    assert image.std() > 5 and max(image.shape) < 1500


def test_names_of_cameras_and_pairs_that_are_missing() -> None:
    pairs = [{"query_camera": "north gate", "gallery_camera": "$yard_1$", "mAP": 0.9}]
    image = decoded(camera_pair_picture(pairs, "x"))
    dark = (image[..., 2] > image[..., 0].astype(int) + 60).sum()
    assert 1000 < dark < image[..., 0].size / 8  # one of four cells


def test_roc_of_several_models(make_result) -> None:
    curves = {f"model $_{i}$ <b>": make_result(i).domains["noon"].verification for i in range(12)}
    assert decoded(roc_picture(curves, "x $y$")).std() > 5


@pytest.mark.parametrize("genuine", [[0, 0, 100, 200], [0, 0, 0, 0], [0, 0, 0, 1]])
def test_histogram(make_result, genuine: list[int]) -> None:
    found = make_result(0).domains["noon"].verification
    found["histogram"]["genuine"] = genuine
    image = decoded(histogram_picture(found, "x"))
    green = (image[..., 1] > image[..., 0].astype(int) + 20) & (image[..., 1] > image[..., 2])
    assert (green.sum() > 1000) == bool(sum(genuine))


@pytest.mark.parametrize("file_type", ["png", "jpg"])
def test_examples(make_result, tmp_path, file_type) -> None:
    examples = make_result(0).domains["noon"].examples
    photo = tmp_path / "photo.png"
    assert cv2.imwrite(str(photo), np.full((128, 64, 3), (250, 0, 250), np.uint8))
    examples[0]["hits"][1]["path"] = str(photo)
    examples[1]["hits"] = []
    image = decoded(example_sheet(examples, "worst", file_type=file_type))
    for colour in ((26, 150, 65), (215, 48, 31), (67, 147, 195), (250, 0, 250)):
        near = (np.abs(image.astype(int) - colour) < 24).all(axis=2)
        assert near.sum() > 100, colour
