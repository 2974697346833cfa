"""Tiny images and trees, made where a test needs them."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

MakeImage = Callable[..., Path]


def picture(seed: int = 0, size: tuple[int, int] = (48, 24)) -> np.ndarray:
    """A smooth (H, W, 3) uint8 RGB picture that no other seed has."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 3, 3), dtype=np.uint8)
    return cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_LINEAR)


def encode(image: np.ndarray, extension: str = ".jpg") -> bytes:
    """RGB (or grey) array -> file bytes."""
    bgr = image[..., ::-1] if image.ndim == 3 else image
    done, data = cv2.imencode(extension, np.ascontiguousarray(bgr))
    assert done
    return data.tobytes()


@pytest.fixture
def make_image() -> MakeImage:
    """``make_image(path)`` writes a JPEG whose content depends on the order of the calls."""
    count = 0

    def make(path: Path, *, seed: int | None = None, size: tuple[int, int] = (48, 24)) -> Path:
        nonlocal count
        count += 1
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(picture(count if seed is None else seed, size)))
        return path

    return make


@pytest.fixture
def market(tmp_path: Path, make_image: MakeImage) -> Path:
    """Two training and two test identities, a distractor (0) and junk (-1)."""
    root = tmp_path / "market"
    for name in (
        "bounding_box_train/0002_c1s1_000451_03.jpg",
        "bounding_box_train/0002_c2s1_000451_03.jpg",
        "bounding_box_train/0007_c1s1_000451_03.jpg",
        "bounding_box_train/0007_c3s2_000451_03.jpg",
        "query/0005_c1s1_000451_00.jpg",
        "query/0009_c6s1_000451_00.jpg",
        "bounding_box_test/-1_c1s1_000451_00.jpg",
        "bounding_box_test/0000_c1s1_000451_00.jpg",
        "bounding_box_test/0005_c2s1_000451_00.jpg",
        "bounding_box_test/0009_c1s1_000451_00.jpg",
    ):
        make_image(root / name)
    (root / "query" / "Thumbs.db").write_bytes(b"x")
    (root / "query" / "._0005_c1s1_000451_00.jpg").write_bytes(b"x")
    (root / "readme.txt").write_text("x")
    return root


@pytest.fixture
def people(tmp_path: Path, make_image: MakeImage) -> Path:
    """Six identities x 2 cameras x 3 images as ``<identity>/<camera>_<k>.jpg``."""
    root = tmp_path / "people"
    for identity in ("anna", "bert", "carl", "dora", "emil", "frida"):
        for camera in ("01", "02"):
            for k in range(3):
                make_image(root / identity / f"{camera}_{k}.jpg")
    return root
