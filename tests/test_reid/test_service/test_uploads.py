"""500 files that are no good image: each is refused in words, and the decoder lives on."""

from __future__ import annotations

import asyncio
import io
import struct
import zlib
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from .service_world import (
    AUTH,
    ROWS,
    add_image,
    client_of,
    encoded,
    error_of,
    make_gallery,
    make_settings,
    picture,
    search_image,
)

KINDS = ("JPEG", "PNG", "WEBP")
REFUSED = (413, 415, 422)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, data: bytes = b"", depth: int = 8, colour: int = 2) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(data))
        + chunk(b"IEND", b"")
    )


def jpeg_of_size(width: int, height: int) -> bytes:
    """A small JPEG whose frame header says another size."""
    data = bytearray(encoded(picture(0), "JPEG"))
    place = data.index(b"\xff\xc0")
    data[place + 5 : place + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def webp_of_size(width: int, height: int) -> bytes:
    body = b"VP8X" + struct.pack("<I", 10) + b"\0\0\0\0"
    body += (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body += encoded(picture(0), "WEBP")[12:]
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def animation(kind: str) -> bytes:
    frames = [Image.fromarray(picture(seed)) for seed in range(3)]
    buffer = io.BytesIO()
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def other_formats() -> list[bytes]:
    image = Image.fromarray(picture(0))
    found = []
    for kind in ("GIF", "BMP", "TIFF", "PPM", "ICO", "TGA", "JPEG2000", "PDF"):
        buffer = io.BytesIO()
        image.save(buffer, kind)
        found.append(buffer.getvalue())
    return found


def malformed() -> list[tuple[str, bytes]]:
    """(what, bytes): none of them is an acceptable image."""
    rng = np.random.default_rng(0)
    found = [("empty", b""), ("zeros", bytes(5000)), ("one byte", b"\xff")]
    found += [("random", rng.bytes(int(rng.integers(1, 3000)))) for _ in range(60)]
    whole = {kind: encoded(picture(1), kind) for kind in KINDS}
    for kind, data in whole.items():
        cuts = np.unique(np.linspace(1, len(data) - 3, 90).astype(int))
        found += [(f"cut {kind}", data[:cut]) for cut in cuts]
        found += [
            (f"{kind} signature", data[:12] + rng.bytes(int(rng.integers(0, 500))))
            for _ in range(20)
        ]
    sides = (20_000, 65_535, 2**31 - 1, 2**32 - 1)
    found += [("huge png", png(side, other)) for side in sides for other in (1, 100, side)]
    found += [("huge jpeg", jpeg_of_size(w, h)) for w in (30_000, 65_535) for h in (1, 65_535)]
    found += [("huge webp", webp_of_size(w, h)) for w in (17_000, 2**24) for h in (17_000, 2**24)]
    found += [("bomb", png(30_000, 30_000, bytes(10**6)))]
    found += [("png of size 0", png(w, h)) for w, h in ((0, 5), (5, 0), (0, 0))]
    found += [("jpeg of size 0", jpeg_of_size(w, h)) for w, h in ((0, 5), (5, 0), (0, 0))]
    found += [("png without data", png(w, h)) for w, h in ((10, 10), (1, 1), (5000, 4000))]
    found += [("png of odd kind", png(4, 4, bytes(64), d, c)) for d in (3, 32) for c in (1, 5, 7)]
    found += [("sizes that differ", webp_of_size(w, h)) for w, h in ((10, 10), (999, 1), (33, 64))]
    found += [("animation", animation(kind)) for kind in ("PNG", "WEBP", "GIF")]
    found += [("format", data) for data in other_formats()]
    svg = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
    found += [
        ("svg", svg),
        ("svg", b"<?xml version='1.0'?>\n" + svg),
        ("html", b"<!doctype html><script>alert(1)</script>"),
        ("html, image", b"<html>" + whole["JPEG"]),
        ("zip, image", b"PK\x03\x04" + whole["PNG"]),
        ("gif header, jpeg", b"GIF89a" + whole["JPEG"]),
        ("text", b"hello"),
        ("json", b'{"image": 1}'),
        ("python", b"import os"),
        ("elf", b"\x7fELF" + bytes(100)),
    ]
    for _ in range(500 - len(found)):
        data = bytearray(whole["PNG"])  # every byte of a PNG's chunks is checked by a CRC
        place = int(rng.integers(16, 33))
        data[place] ^= int(rng.integers(1, 256))
        found.append(("png header changed", bytes(data)))
    return found


@pytest.fixture(scope="module")
def uploads(tmp_path_factory):
    """A client whose decoder must not be replaced by any of these files."""
    with client_of(make_gallery(tmp_path_factory.mktemp("uploads") / "gallery")) as one:
        yield one


def test_malformed_uploads_are_refused(uploads) -> None:
    pool = uploads.app.state.parts.uploads.decoders
    before = pool.pids
    files = malformed()
    assert len(files) >= 500
    statuses: Counter[int] = Counter()
    accepted: list[str] = []
    for what, data in files:
        answer = search_image(uploads, data, k=1)
        statuses[answer.status_code] += 1
        if answer.status_code == 200:
            accepted.append(what)
        else:
            assert answer.status_code in REFUSED, (what, answer.text)
            error_of(answer, answer.status_code)
    assert not accepted
    assert min(statuses[status] for status in REFUSED) > 5
    assert pool.pids == before and pool.replaced == 0
    assert search_image(uploads, encoded(picture(2)), k=1).json()["hits"][0]["id"] == 2


def test_damage_inside_an_image_is_refused_or_harmless(uploads) -> None:
    """Not every changed byte of a JPEG or WebP can be noticed; none may do harm."""
    rng = np.random.default_rng(1)
    for kind in KINDS:
        whole = encoded(picture(3), kind)
        for _ in range(40):
            data = bytearray(whole)
            for place in rng.integers(2, len(data), 3):
                data[place] = int(rng.integers(0, 256))
            answer = search_image(uploads, bytes(data), k=1)
            assert answer.status_code in (200, *REFUSED), answer.text
    assert uploads.app.state.parts.uploads.decoders.replaced == 0


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("L", "JPEG"), ("CMYK", "JPEG"), ("L", "PNG"), ("P", "PNG"), ("1", "PNG"), ("I;16", "PNG"),
     ("RGBA", "PNG"), ("LA", "PNG"), ("RGBA", "WEBP")],
)  # fmt: skip
def test_unusual_pixels_are_converted(uploads, mode, kind) -> None:
    buffer = io.BytesIO()
    Image.fromarray(picture(4)).convert("L").convert(mode).save(buffer, kind)
    assert search_image(uploads, buffer.getvalue(), k=1).status_code == 200


@pytest.mark.parametrize("size", [(1, 1), (1, 16_384), (16_384, 1), (2, 2), (5000, 5000)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_unusual_sizes_are_searched_for(uploads, size, kind) -> None:
    image = np.zeros((*size, 3), np.uint8) + np.uint8(90)
    answer = search_image(uploads, encoded(image, kind), k=1)
    assert answer.status_code == 200, answer.text
    query = answer.json()["query"]
    assert (query["height"], query["width"]) == size


def test_a_polyglot_is_an_image_and_nothing_else(fresh) -> None:
    script = b"<script>alert(1)</script>"
    data = encoded(picture(60), "JPEG", comment=script) + script
    new = add_image(fresh, data).json()["id"]
    answer = fresh.get(f"/api/rows/{new}/thumbnail")
    assert answer.headers["content-type"] == "image/jpeg"
    assert b"script" not in answer.content  # encoded anew: nothing of the file is kept


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "a\\b.svg", "x" * 200, "\u202egnp.exe", "a.svg"]
)
def test_the_name_of_a_file_means_nothing(client, name) -> None:
    files = {"image": (name, encoded(picture(5)), "image/svg+xml")}
    answer = client.post("/api/search/image", files=files, data={"options": '{"k": 1}'})
    assert answer.json()["hits"][0]["id"] == 5


def test_a_file_that_is_too_long_is_refused_while_it_arrives(tmp_path) -> None:
    settings = make_settings(upload_bytes=20_000)
    with client_of(make_gallery(tmp_path / "g"), settings) as client:
        answer = search_image(client, bytes(20_001))
        assert error_of(answer, 413) == "too_large" and "20,000 bytes" in answer.text
        error_of(search_image(client, bytes(10**6)), 413)
        error_of(client.post("/api/search/id", content=b" " * (3 * 2**20)), 413)
        assert search_image(client, encoded(picture(1)), k=1).status_code == 200


def test_of_an_endless_file_little_is_read(tmp_path) -> None:
    taken = 0

    async def receive():
        nonlocal taken
        taken += 10_000
        return {"type": "http.request", "body": bytes(10_000), "more_body": True}

    messages = []

    async def send(message):
        messages.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/search/image",
        "query_string": b"",
        "headers": [
            (b"host", b"localhost"),
            (b"content-type", b"multipart/form-data; boundary=" + b"0" * 10),
        ],
        "client": ("127.0.0.1", 1),
    }
    settings = make_settings(upload_bytes=20_000)
    with client_of(make_gallery(tmp_path / "g"), settings) as client:
        asyncio.run(client.app(scope, receive, send))
    assert messages[0]["status"] in (400, 413)
    assert taken < 300_000


def test_a_file_that_does_not_arrive_is_not_waited_for(tmp_path) -> None:
    async def ask(app):
        async def receive():
            await asyncio.sleep(3600)

        messages = []

        async def send(message):
            messages.append(message)

        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/api/search/id",
            "query_string": b"",
            "headers": headers,
            "client": ("127.0.0.1", 1),
        }
        await app(scope, receive, send)
        return messages

    settings = make_settings(upload_seconds=0.05)
    with client_of(make_gallery(tmp_path / "g"), settings) as client:
        messages = asyncio.run(ask(client.app))
    assert messages[0]["status"] == 408 and b"too_late" in messages[1]["body"]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"--b\r\n"),
        ("multipart/form-data; boundary=b", b""),
        ("multipart/form-data; boundary=b", b"no boundary"),
        ("multipart/form-data; boundary=b", b"--b\r\n\r\nno name\r\n--b--\r\n"),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: form-data; name=image"),
        ("multipart/form-data; boundary=b",
         b"--b\r\nContent-Disposition: form-data; name=image\r\n\r\ntext\r\n--b--\r\n"),
        ("multipart/form-data; boundary=b; charset=utf-99",
         b"--b\r\nContent-Disposition: form-data; name=options\r\n\r\n\xff\r\n--b--\r\n"),
        ("application/x-www-form-urlencoded", b"image=x"),
        ("application/json", b'{"image": "x"}'),
        ("text/plain", b"x"),
        ("", b"x"),
        ("\xff", b"x"),
    ],
)  # fmt: skip
def test_forms_that_are_none(client, content_type, body) -> None:
    headers = {"Content-Type": content_type.encode("latin-1"), **AUTH}
    for path in ("/api/search/image", "/api/rows"):
        answer = client.post(path, content=body, headers=headers)
        assert answer.status_code in (400, 422), answer.text
        error_of(answer, answer.status_code)
    assert client.get("/api/gallery").json()["rows"] == ROWS


def test_many_parts_are_refused(client) -> None:
    files = [("image", ("a", b"x"))] * 1100
    assert client.post("/api/search/image", files=files).status_code == 400
    fields = {"options": "x" * (2 * 2**20)}
    answer = client.post("/api/search/image", files=[("image", ("a", b"x"))], data=fields)
    assert answer.status_code in (400, 422)


def test_images_in_memory_are_bounded(tmp_path) -> None:
    with client_of(make_gallery(tmp_path / "g"), make_settings(uploads=1)) as client:
        held = client.app.state.parts.uploads
        held._held = 1  # somebody else's
        answer = search_image(client, encoded(picture(1)))
        assert error_of(answer, 503) == "busy" and "retry-after" in answer.headers
        held._held = 0
        assert search_image(client, encoded(picture(1))).status_code == 200
        assert held._held == 0
        search_image(client, b"no image")
        assert held._held == 0
