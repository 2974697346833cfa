"""Galleries to test with: an empty one and one of several segments."""

from pathlib import Path

import pytest

from reid.gallery import Gallery

from .gallery_oracle import DIM, make_rows


@pytest.fixture(params=["cosine", "euclidean"])
def metric(request) -> str:
    return request.param


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gallery"


@pytest.fixture
def gallery(path: Path) -> Gallery:
    return Gallery.create(path, DIM)


@pytest.fixture
def filled(gallery: Gallery) -> Gallery:
    """60 rows in three segments."""
    for seed in range(3):
        gallery.add(*make_rows(20, seed))
    return gallery
