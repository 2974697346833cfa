"""Sizes and animation are read from headers as Pillow reads them, without decoding."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from reid.service.image_header import UnknownFormatError, media_type, read_header

from .service_world import encoded, picture


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("JPEG", {"exif": b"Exif\0\0" + b"x" * 5000, "comment": b"\xff\xc0 no frame"}),
        ("PNG", {}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"}),
    ],
)
@pytest.mark.parametrize("size", [(1, 1), (64, 32), (3, 1000), (400, 7)])
def test_size_is_that_of_pillow(kind, options, size) -> None:
    data = encoded(picture(0, *size), kind, **options)
    header = read_header(data)
    assert header == (kind.lower(), *Image.open(io.BytesIO(data)).size, False)
    assert media_type(data) == f"image/{kind.lower()}"


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_an_animation_is_recognised(kind) -> None:
    frames = [Image.fromarray(picture(seed)) for seed in range(3)]
    buffer = io.BytesIO()
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
    assert read_header(buffer.getvalue()).animated


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_every_truncation_is_an_error_or_the_right_header(kind) -> None:
    whole = encoded(picture(0), kind)
    right = read_header(whole)
    read = 0
    for length in range(len(whole)):
        try:
            assert read_header(whole[:length]) == right
            read += 1
        except ValueError:
            assert not read  # once the header is whole, it stays so
    assert 0 < read < len(whole)


def test_other_files_are_of_no_format() -> None:
    for data in (b"", b"<svg/>", b"GIF89a", b"%PDF-1.7", bytes(100), b"RIFF\0\0\0\0WAVE"):
        assert media_type(data) is None
        with pytest.raises(UnknownFormatError, match="neither"):
            read_header(data)


def test_random_bytes_after_a_signature_never_crash() -> None:
    rng = np.random.default_rng(0)
    for start in (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBPVP8X"):
        for _ in range(300):
            data = start + rng.bytes(int(rng.integers(0, 60)))
            try:
                header = read_header(data)
            except ValueError:
                continue
            assert header.width > 0 and header.height > 0
