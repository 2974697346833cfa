"""Decoder processes: the pixels of the library's own reader, limits, and decoders that die."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from imaging.files import decode_image
from reid.service.decoding import BadImage, DecoderPool, DecodingLimits, decode

from .service_world import encoded, picture

ROOT = Path(__file__).resolve().parents[3]
LIMITS = DecodingLimits(pixels=1_000_000, side=4000, memory=2 * 2**30)


@pytest.fixture(scope="module")
def pool():
    one = DecoderPool(1, 20.0, LIMITS)
    yield one
    one.close()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_pixels_are_those_that_galleries_are_filled_with(pool, kind) -> None:
    data = encoded(picture(1, 50, 31), kind)
    found = pool.decode(data)
    assert np.array_equal(found.pixels, decode_image(data))
    assert (found.width, found.height, found.crop, found.thumbnail) == (31, 50, None, b"")


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "RGBA", "I;16", "CMYK"])
def test_every_kind_of_pixel_becomes_rgb(pool, mode) -> None:
    grey = Image.fromarray(picture(2)).convert("L")
    buffer = io.BytesIO()
    grey.convert(mode).save(buffer, "JPEG" if mode == "CMYK" else "PNG")
    found = pool.decode(buffer.getvalue())
    assert found.pixels.shape == (64, 32, 3) and found.pixels.dtype == np.uint8
    if mode not in ("1", "I;16", "CMYK"):
        assert np.array_equal(found.pixels[..., 0], np.asarray(grey))


def test_a_crop_is_of_the_image_as_it_is_seen(pool) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: shown 90 degrees clockwise
    data = encoded(picture(3, 40, 80), "PNG", exif=exif)
    whole = pool.decode(data)
    assert (whole.width, whole.height) == (40, 80)
    assert np.array_equal(whole.pixels, np.rot90(picture(3, 40, 80), -1))
    part = pool.decode(data, (10, 20, 15, 25))
    assert np.array_equal(part.pixels, whole.pixels[20:45, 10:25])
    assert (part.width, part.height, part.crop) == (40, 80, (10, 20, 15, 25))


def test_a_crop_is_cut_at_the_border(pool) -> None:
    data = encoded(picture(4))
    assert pool.decode(data, (-5, 60, 10, 100)).crop == (0, 60, 5, 4)
    with pytest.raises(BadImage, match="outside the image, which has 32 x 64"):
        pool.decode(data, (32, 0, 5, 5))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "unsupported"),
        (encoded(picture(0, 1001, 1000)), "too_many_pixels"),
        (encoded(picture(0, 4001, 1)), "too_many_pixels"),
        (encoded(picture(0), "JPEG")[:-300], "bad_image"),
    ],
)
def test_what_is_refused(pool, data, code) -> None:
    with pytest.raises(BadImage) as here:
        decode(data, None, False, LIMITS)
    with pytest.raises(BadImage) as there:
        pool.decode(data)
    assert here.value.code == there.value.code == code
    assert str(here.value) == str(there.value) and str(here.value).endswith(".")


def test_a_decoder_that_was_killed_is_replaced(pool) -> None:
    data = encoded(picture(6))
    (before,), replaced = pool.pids, pool.replaced
    os.kill(before, signal.SIGKILL)
    while_waiting = time.monotonic() + 10
    while pool._idle.queue[0].alive and time.monotonic() < while_waiting:
        time.sleep(0.01)
    assert np.array_equal(pool.decode(data).pixels, picture(6))
    assert pool.pids != [before] and pool.replaced == replaced + 1


def test_a_decoder_that_hangs_is_replaced() -> None:
    pool = DecoderPool(1, 0.3, LIMITS)
    try:
        pool.decode(encoded(picture(7)))
        os.kill(pool.pids[0], signal.SIGSTOP)
        with pytest.raises(BadImage, match="too long"):
            pool.decode(encoded(picture(7)))
        pool._seconds = 20.0
        assert pool.decode(encoded(picture(7))).height == 64
        assert pool.replaced == 1
    finally:
        pool.close()


def test_who_waits_for_a_decoder_waits_a_bounded_time() -> None:
    pool = DecoderPool(1, 20.0, LIMITS)
    pool.decode(encoded(picture(8)))
    os.kill(pool.pids[0], signal.SIGSTOP)
    failed: list[BaseException] = []

    def first() -> None:
        try:
            pool.decode(encoded(picture(8)))
        except BadImage as error:
            failed.append(error)

    thread = threading.Thread(target=first)
    thread.start()
    while not pool._idle.empty():
        time.sleep(0.01)
    with pytest.raises(TimeoutError, match="no decoder"):
        pool.decode(encoded(picture(8)), wait=0.05)
    pids = pool.pids
    pool.close()
    thread.join()
    assert len(failed) == 1
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    with pytest.raises(TimeoutError, match="stopped"):
        pool.decode(encoded(picture(8)), wait=0.05)


def test_the_room_of_the_main_module_is_not_the_images(tmp_path) -> None:
    """A spawned process imports its parent's main module, and whatever large that has."""
    script = tmp_path / "large.py"
    script.write_text(
        """
import mmap
import sys

room = mmap.mmap(-1, 3 << 30)
if __name__ == "__main__":
    from reid.service.decoding import DecoderPool, DecodingLimits

    pool = DecoderPool(1, 30.0, DecodingLimits(1_000_000, 4000, 1 << 30))
    print(pool.decode(open(sys.argv[1], "rb").read()).pixels.shape)
    pool.close()
"""
    )
    (tmp_path / "a.png").write_bytes(encoded(picture(0)))
    done = subprocess.run(
        [sys.executable, script, tmp_path / "a.png"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.stdout == "(64, 32, 3)\n", done.stderr


def test_an_image_that_takes_too_much_memory_is_refused() -> None:
    pool = DecoderPool(1, 30.0, DecodingLimits(100_000_000, 20_000, 64 << 20))
    try:
        with pytest.raises(BadImage):
            pool.decode(encoded(np.zeros((6000, 6000, 3), np.uint8)))
        assert pool.decode(encoded(picture(0))).pixels.shape == (64, 32, 3)
    finally:
        pool.close()
