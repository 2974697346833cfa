from pathlib import Path

import pytest

from reid.datasets import parse_veri776, validate
from reid.datasets.veri776 import OFFICIAL_COUNTS
from tests.test_reid.test_datasets.made_trees import make_veri776


def test_names(tmp_path: Path) -> None:
    splits = parse_veri776(make_veri776(tmp_path))
    assert [(r.pid, r.camid) for r in splits.train] == [(1, 1), (1, 20), (3, 1)]
    assert [(r.pid, r.camid) for r in splits.query] == [(2, 2)]
    assert [(r.pid, r.camid) for r in splits.gallery] == [(2, 2), (2, 3)]
    assert splits.protocol == (
        "veri776 layout, image-to-image, 3/1/2 images: not the official split"
    )


def test_official(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert OFFICIAL_COUNTS == (37_778, 1_678, 11_579)
    monkeypatch.setattr("reid.datasets.veri776.OFFICIAL_COUNTS", (3, 1, 2))
    protocol = parse_veri776(make_veri776(tmp_path)).protocol
    assert protocol == "veri776 official split, image-to-image, 3/1/2 images"


def test_the_query_in_the_gallery_is_harmless(tmp_path: Path) -> None:
    """VeRi repeats each query in the gallery, where its own camera does not count."""
    root = make_veri776(tmp_path)
    name = "0002_c002_00030600_0.jpg"
    (root / "image_test" / name).write_bytes((root / "image_query" / name).read_bytes())
    assert not [f for f in validate(parse_veri776(root)).warnings if "bytes" in f.message]


def test_a_missing_folder(tmp_path: Path) -> None:
    root = make_veri776(tmp_path)
    (root / "image_query").rename(root / "queries")
    with pytest.raises(FileNotFoundError, match="not a VeRi-776 folder: image_query is missing"):
        parse_veri776(root)
