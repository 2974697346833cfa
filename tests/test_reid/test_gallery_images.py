from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from imaging.files import decode_image, read_image
from imaging.transforms import build_transforms
from reid.gallery_images import load_gallery_images
from reid.image_loading import load_batches
from reid.image_sources import Item

RESIZE = build_transforms([dict(type="Resize", height=16, width=8)])


@pytest.fixture
def items(tmp_path) -> list[Item]:
    """Six images, of which number 2 is none and number 4 is not there."""
    found = []
    for number in range(6):
        path = tmp_path / f"{number}.png"
        pixels = np.random.default_rng(number).integers(0, 255, (300, 20 + number, 3), np.uint8)
        cv2.imwrite(str(path), pixels)
        found.append(Item(str(path)))
    (tmp_path / "2.png").write_bytes(b"no image")
    (tmp_path / "4.png").unlink()
    return found


@pytest.mark.parametrize("workers", [0, 2])
def test_the_tensors_are_those_of_any_other_loading(items, workers) -> None:
    batches = [[0, 1, 2], [4], [3, 5]]
    found = list(load_gallery_images(items, batches, RESIZE, workers=workers))
    plain = list(load_batches(items, [range(0, 3), range(4, 5), range(3, 4), range(5, 6)], RESIZE))
    assert [batch.positions for batch in found] == [[0, 1], [], [3, 5]]
    assert torch.equal(found[0].inputs, plain[0].inputs)
    assert torch.equal(found[2].inputs, torch.cat([plain[2].inputs, plain[3].inputs]))
    assert found[1].inputs is None
    assert found[0].failed == plain[0].failed and found[1].failed == plain[1].failed
    assert "does not exist" in found[1].failed[0][1]


def test_sums_and_thumbnails_are_of_the_same_file(items) -> None:
    (batch,) = load_gallery_images(items, [[0, 1, 2, 3]], RESIZE)
    assert batch.positions == [0, 1, 3]
    for position, digest, picture in zip(
        batch.positions, batch.sums, batch.thumbnails, strict=True
    ):
        path = items[position].path
        assert digest == hashlib.sha256(Path(path).read_bytes()).hexdigest()
        height, width = read_image(path).shape[:2]
        assert decode_image(picture).shape == (256, round(width * 256 / height), 3)
    (bare,) = load_gallery_images(items, [[0, 1]], RESIZE, thumbnails=False)
    assert bare.thumbnails == [None, None] and bare.sums == batch.sums[:2]


def test_nothing_to_load(items) -> None:
    assert list(load_gallery_images(items, [], RESIZE)) == []
