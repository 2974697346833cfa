"""What the first bytes of an image file say about it, before anything is decoded.

A picture of 100 x 100 km fits into a few bytes of PNG. So size, depth and animation are read from
the header, with nothing but integer arithmetic on bytes that are there.

Formats: PNG (W3C, https://www.w3.org/TR/png-3/), JPEG (ITU T.81, annex B) and WebP (RFC 9649).
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["FORMATS", "ImageHeader", "UnknownFormatError", "media_type", "read_header"]

FORMATS = ("jpeg", "png", "webp")

_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset((0x01, *range(0xD0, 0xD9)))


class UnknownFormatError(ValueError):
    """The bytes begin like none of ``FORMATS``."""


class ImageHeader(NamedTuple):
    """``format`` is one of ``FORMATS``; ``width`` and ``height`` are those before any rotation."""

    format: str
    width: int
    height: int
    animated: bool


def media_type(data: bytes) -> str | None:
    """``image/jpeg`` and so on by the first bytes; None for what is none of ``FORMATS``."""
    kind = _kind(data)
    return kind and f"image/{kind}"


def read_header(data: bytes) -> ImageHeader:
    """The header of an encoded image.

    Raises:
        UnknownFormatError: it is none of ``FORMATS``.
        ValueError: its header is damaged or cut short.
    """
    kind = _kind(data)
    if kind is None:
        raise UnknownFormatError("It is neither a JPEG, nor a PNG, nor a WebP image.")
    header = {"jpeg": _read_jpeg, "png": _read_png, "webp": _read_webp}[kind](data)
    if header is None or header.width < 1 or header.height < 1:
        raise ValueError(f"The {kind.upper()} header is damaged or cut short.")
    return header


def _kind(data: bytes) -> str | None:
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return None


def _read_png(data: bytes) -> ImageHeader | None:
    if data[12:16] != b"IHDR" or len(data) < 33:
        return None
    width, height = _big(data, 16, 4), _big(data, 20, 4)
    return ImageHeader("png", width, height, _has_animation_control(data))


def _has_animation_control(data: bytes) -> bool:
    """Whether an ``acTL`` chunk stands before the picture's data, which makes it an APNG."""
    place = 8
    while place + 8 <= len(data):
        name = data[place + 4 : place + 8]
        if name == b"acTL":
            return True
        if name == b"IDAT":
            return False
        place += 12 + _big(data, place, 4)
    return False


def _read_jpeg(data: bytes) -> ImageHeader | None:
    place = 2
    while place + 4 <= len(data):
        if data[place] != 0xFF:
            return None
        marker = data[place + 1]
        if marker == 0xFF:  # a fill byte
            place += 1
        elif marker in _WITHOUT_LENGTH:
            place += 2
        elif marker in _START_OF_FRAME:
            if place + 9 > len(data):
                return None
            return ImageHeader("jpeg", _big(data, place + 7, 2), _big(data, place + 5, 2), False)
        elif marker in (0xD9, 0xDA):  # the end, or a scan, before any frame
            return None
        else:
            place += 2 + max(2, _big(data, place + 2, 2))
    return None


def _read_webp(data: bytes) -> ImageHeader | None:
    chunk = data[12:16]
    if len(data) < 30 and not (chunk == b"VP8L" and len(data) >= 25):
        return None
    if chunk == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = _little(data, 26, 2) & 0x3FFF, _little(data, 28, 2) & 0x3FFF
        return ImageHeader("webp", width, height, False)
    if chunk == b"VP8L" and data[20] == 0x2F:
        bits = _little(data, 21, 4)
        return ImageHeader("webp", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, False)
    if chunk == b"VP8X":
        width, height = _little(data, 24, 3) + 1, _little(data, 27, 3) + 1
        animated = bool(data[20] & 0b10) or b"ANIM" in data[30:64]
        return ImageHeader("webp", width, height, animated)
    return None


def _big(data: bytes, place: int, size: int) -> int:
    return int.from_bytes(data[place : place + size], "big")


def _little(data: bytes, place: int, size: int) -> int:
    return int.from_bytes(data[place : place + size], "little")
