from __future__ import annotations

import numpy as np
import pytest

from imaging.files import decode_image, image_format
from imaging.thumbnail import encode_thumbnail


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((600, 300), (256, 128)),
        ((300, 600), (128, 256)),
        ((128, 64), (128, 64)),
        ((256, 256), (256, 256)),
        ((1, 1), (1, 1)),
        ((5000, 2), (256, 1)),
        ((2, 5000), (1, 256)),
    ],
)
def test_it_fits_and_is_never_enlarged(shape, size) -> None:
    image = np.full((*shape, 3), (10, 120, 230), np.uint8)
    data = encode_thumbnail(image)
    assert image_format(data) == "JPEG"
    small = decode_image(data)
    assert small.shape == (*size, 3)
    assert np.abs(small.astype(int) - (10, 120, 230)).max() <= 4


def test_it_shows_the_image() -> None:
    image = np.zeros((512, 256, 3), np.uint8)
    image[:256] = (250, 5, 5)  # red above black
    small = decode_image(encode_thumbnail(image)).astype(int)
    assert small[:120, :, 0].min() > 230 and small[:120, :, 1:].max() < 25
    assert small[136:].max() < 25


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_what_is_no_image_is_refused(image) -> None:
    with pytest.raises(ValueError, match="RGB"):
        encode_thumbnail(image)
