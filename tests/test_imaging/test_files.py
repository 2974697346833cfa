import io
import os
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

from imaging.files import (
    UnreadableImageError,
    decode_image,
    existing_folder,
    image_format,
    list_images,
    read_image,
)
from tests.test_imaging.conftest import encode, picture

LOSSLESS = [".png", ".bmp", ".tif", ".ppm"]


def with_pillow(mode: str, form: str, **options) -> bytes:
    image = pytest.importorskip("PIL.Image")
    buffer = io.BytesIO()
    image.fromarray(picture()).convert(mode).save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("extension", LOSSLESS)
def test_reads_rgb_exactly(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"a{extension}"
    path.write_bytes(encode(picture(), extension))
    image = read_image(path)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, picture())


def test_the_bytes_decide_and_not_the_name(tmp_path: Path) -> None:
    for name in ("jpeg.png", "no_extension", "text.txt"):
        (tmp_path / name).write_bytes(encode(picture(), ".jpg"))
        assert np.abs(read_image(tmp_path / name).astype(int) - picture()).mean() < 4


def test_grey_becomes_three_equal_channels() -> None:
    grey = picture()[..., 0]
    np.testing.assert_array_equal(decode_image(encode(grey, ".png")), np.dstack([grey] * 3))


@pytest.mark.parametrize("extension", [".png", ".tif"])
def test_16_bit_is_scaled_to_8(extension: str) -> None:
    deep = picture().astype(np.uint16) * 257
    for image in (deep, deep[..., 0]):
        read = decode_image(encode(image, extension)).astype(int)
        expected = image if image.ndim == 3 else np.dstack([image] * 3)
        assert np.abs(read - expected / 257).max() <= 1


def test_alpha_is_dropped() -> None:
    bgra = np.dstack([picture()[..., ::-1], np.zeros(picture().shape[:2], np.uint8)])
    data = cv2.imencode(".png", bgra)[1].tobytes()
    np.testing.assert_array_equal(decode_image(data), picture())


@pytest.mark.parametrize(
    ("mode", "form", "options"),
    [("CMYK", "JPEG", {}), ("RGB", "JPEG", {"progressive": True}), ("P", "PNG", {})],
)
def test_other_encodings_keep_the_colours(mode: str, form: str, options: dict) -> None:
    image = decode_image(with_pillow(mode, form, **options))
    assert image.shape == picture().shape and image.dtype == np.uint8
    assert np.abs(image.astype(int) - picture()).mean() < 20


def test_exif_orientation_is_applied() -> None:
    exif = pytest.importorskip("PIL.Image").Exif()
    exif[0x0112] = 6  # turn clockwise to view
    image = decode_image(with_pillow("RGB", "JPEG", exif=exif))
    expected = np.rot90(picture(), -1)
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).mean() < 6


@pytest.mark.parametrize("extension", [".jpg", ".png", ".webp", ".bmp", ".tif"])
@pytest.mark.parametrize("keep", [0.2, 0.5, 0.98])
def test_a_truncated_image_is_refused(tmp_path: Path, extension: str, keep: float) -> None:
    data = encode(picture(size=(96, 64)), extension)
    path = tmp_path / f"cut{extension}"
    path.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(UnreadableImageError, match="truncated") as caught:
        read_image(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("extension", [".jpg", ".png"])
def test_a_truncated_image_padded_with_zeros_is_refused(extension: str) -> None:
    data = encode(picture(size=(96, 64)), extension)
    half = len(data) // 2
    with pytest.raises(ValueError, match="truncated"):
        decode_image(data[:half] + bytes(len(data) - half))


def test_the_end_of_an_embedded_thumbnail_does_not_count() -> None:
    inner = encode(picture(1), ".jpg")
    outer = encode(picture(2), ".jpg")
    segment = b"\xff\xe1" + (len(inner) + 2).to_bytes(2, "big") + inner
    whole = outer[:2] + segment + outer[2:]
    np.testing.assert_array_equal(decode_image(whole), decode_image(outer))
    with pytest.raises(ValueError, match="truncated"):
        decode_image(whole[:-20])
    with pytest.raises(ValueError, match="truncated"):
        decode_image(whole[: len(segment) // 2])


def test_bytes_after_the_end_mark_are_harmless() -> None:
    for extension in (".jpg", ".png"):
        data = encode(picture(), extension)
        np.testing.assert_array_equal(decode_image(data + b"\0" * 9 + b"maker"), decode_image(data))


def test_a_fill_byte_before_a_marker_is_harmless() -> None:
    data = encode(picture(), ".jpg")
    filled = data[:2] + b"\xff" + data[2:] + b"tail"
    np.testing.assert_array_equal(decode_image(filled), decode_image(data))


def test_a_corrupt_png_is_refused() -> None:
    data = bytearray(encode(picture(), ".png"))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(ValueError, match="corrupt"):
        decode_image(bytes(data))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"<!DOCTYPE html><p>404", "failed download"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"PK\x03\x04rest", "unpack it"),
        (b"\0\0\0\x18ftypheic", "convert it"),
        (bytes(500), "interrupted copy"),
        (b"something else", "first bytes are b'somethin'"),
    ],
)
def test_reasons_say_what_it_is(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(data)
    with pytest.raises(UnreadableImageError, match=reason.replace("(", r"\(")) as caught:
        read_image(path)
    assert caught.value.path == str(path)
    assert reason in caught.value.reason


def test_what_opencv_refuses_has_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_):
        raise cv2.error("too many pixels")

    monkeypatch.setattr(cv2, "imdecode", refuse)
    with pytest.raises(ValueError, match="OpenCV refuses it"):
        decode_image(encode(picture()))


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError, match="does not exist"):
        read_image(tmp_path / "none.jpg")
    with pytest.raises(UnreadableImageError, match="directory"):
        read_image(tmp_path)


def test_the_error_crosses_process_borders() -> None:
    error = UnreadableImageError.of("a.jpg", "the file is empty")
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.path, copy.reason) == (str(error), "a.jpg", "the file is empty")
    assert str(UnreadableImageError(str(error))) == str(error)  # as torch's workers rebuild it


def test_image_format() -> None:
    for extension, name in {
        ".jpg": "JPEG",
        ".png": "PNG",
        ".bmp": "BMP",
        ".webp": "WebP",
        ".tif": "TIFF",
        ".ppm": "PNM",
    }.items():
        assert image_format(encode(picture(), extension)) == name
    assert image_format(b"GIF89a....") == "GIF"
    assert image_format(b"P") is None
    assert image_format(b"") is None


def test_list_images_is_sorted_and_leaves_other_files_out(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "Thumbs.db", "._a.png", "c.txt", "sub/d.jpeg", ".hidden/e.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = [Path(p).relative_to(tmp_path).as_posix() for p in list_images(tmp_path)]
    assert names == ["a.png", "b.JPG"]
    names = [
        Path(p).relative_to(tmp_path).as_posix() for p in list_images(tmp_path, recursive=True)
    ]
    assert names == ["a.png", "b.JPG", "sub/d.jpeg"]


def test_existing_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert existing_folder(tmp_path) == tmp_path
    with pytest.raises(FileNotFoundError) as caught:
        existing_folder(tmp_path / "a" / "b")
    assert f"of that path only {str(tmp_path)!r} is there" in str(caught.value)
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="is a file"):
        existing_folder(tmp_path / "file")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert existing_folder("~") == tmp_path


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes in folders here")
def test_pipes_are_left_out_and_circles_of_links_end(tmp_path) -> None:
    inside = tmp_path / "a"
    inside.mkdir()
    (inside / "1.jpg").write_bytes(b"x")
    os.mkfifo(inside / "pipe.jpg")
    (inside / "pipe too.jpg").symlink_to(inside / "pipe.jpg")
    (inside / "broken.jpg").symlink_to(tmp_path / "nowhere")
    (inside / "again").symlink_to(tmp_path)
    (tmp_path / "other").symlink_to(inside)
    found = [path.removeprefix(f"{tmp_path}/") for path in list_images(tmp_path, recursive=True)]
    assert found == ["a/1.jpg", "a/broken.jpg", "other/1.jpg", "other/broken.jpg"]
