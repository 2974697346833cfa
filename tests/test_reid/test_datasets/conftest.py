"""Tiny images and trees, made where a test needs them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.test_imaging.conftest import encode, picture

MakeImage = Callable[..., Path]


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
