"""Small trees of real image files, made where a test needs them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.test_imaging.conftest import encode, picture


@pytest.fixture(scope="session")
def tree(tmp_path_factory) -> Path:
    """``<domain>/<class>/<n>.png``: two domains, three classes of ten 20x20 images each."""
    root = tmp_path_factory.mktemp("domains") / "shapes"
    for d, domain in enumerate(("photo", "sketch")):
        for c, name in enumerate(("circle", "square", "star")):
            folder = root / domain / name
            folder.mkdir(parents=True)
            for n in range(10):
                image = picture(100 * d + 10 * c + n, (20, 20))
                (folder / f"{n}.png").write_bytes(encode(image, ".png"))
    return root
