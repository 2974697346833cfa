from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("mmseg")

import cv2
from PIL import Image

from seg.transforms.style_images import StyleImages


def _save(path, image: np.ndarray) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)
    return str(path)


def test_folder_list_and_file(tmp_path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    paths = [_save(tmp_path / name, image + k) for k, name in enumerate(["b.png", "a/c.PNG"])]
    (tmp_path / "notes.txt").write_text("no image")
    assert StyleImages(tmp_path).paths == sorted(paths)
    assert len(StyleImages(paths)) == 2
    np.testing.assert_array_equal(StyleImages(paths[1]).read(0), image + 1)


def test_alpha_is_dropped(tmp_path) -> None:
    path = _save(tmp_path / "a.png", np.full((4, 4, 4), 90, np.uint8))
    assert StyleImages(path).read(0).shape == (4, 4, 3)


def test_label_maps_are_refused(tmp_path) -> None:
    gray = _save(tmp_path / "gray.png", np.zeros((4, 4), np.uint8))
    palette = tmp_path / "palette.png"
    Image.fromarray(np.zeros((4, 4), np.uint8)).convert("P").save(palette)
    for path in (gray, palette):
        with pytest.raises(ValueError, match="like a label map"):
            StyleImages(path).read(0)


def test_missing_empty_and_damaged(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        StyleImages(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"x\.png"):
        StyleImages([tmp_path / "x.png"])
    with pytest.raises(ValueError, match="no style images"):
        StyleImages(tmp_path)
    with pytest.raises(ValueError, match="no style images"):
        StyleImages([])
    for name, data in (("cut.png", b"\x89PNG"), ("empty.png", b"")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=f"{name} cannot be read"):
            StyleImages(tmp_path / name).read(0)
