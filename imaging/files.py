"""Read one image file, or say exactly why it cannot be read.

OpenCV decides by the bytes and not by the name, so a JPEG called ``.png`` is read like any other.
What it does with a damaged file depends on its version: a truncated JPEG may come back with its
lower part grey. So the end-of-image mark of JPEG, PNG and WebP is looked for before decoding, and
an image without it is refused. Bytes overwritten *inside* an otherwise complete JPEG cannot be
told from unusual content and are not detected.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

__all__ = [
    "IMAGE_EXTENSIONS",
    "UnreadableImageError",
    "decode_image",
    "existing_folder",
    "image_format",
    "list_images",
    "read_bytes",
    "read_image",
    "relative_name",
]

IMAGE_EXTENSIONS = frozenset(
    (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
)
"""What a parser takes for an image when it lists a folder (compared in lower case)."""

_JPEG_END = b"\xff\xd9"  # the EOI marker
_PNG_END = b"IEND\xaeB`\x82"  # the empty IEND chunk and its CRC


class UnreadableImageError(ValueError):
    """An image that is missing, empty, truncated, corrupt or not an image at all.

    ``path`` and ``reason`` tell which and why. The message alone rebuilds the error (and pickle
    keeps both attributes), so that it crosses the process border of a data loader's worker.
    """

    def __init__(self, message: str, *, path: str = "", reason: str = "") -> None:
        super().__init__(message)
        self.path = path
        self.reason = reason

    @classmethod
    def of(cls, path: str | os.PathLike[str], reason: str) -> "UnreadableImageError":
        name = os.fspath(path)
        return cls(f"cannot read the image {name!r}: {reason}", path=name, reason=reason)


def read_image(path: str | os.PathLike[str]) -> np.ndarray:
    """The image at ``path`` as an (H, W, 3) uint8 RGB array.

    Grey, palette, 16-bit (scaled), CMYK and RGBA (alpha dropped, not blended) images become
    8-bit RGB. The EXIF orientation is applied, as viewers do.

    Raises:
        UnreadableImageError: with the path and the reason.
    """
    data = read_bytes(path)
    try:
        return decode_image(data)
    except ValueError as error:
        raise UnreadableImageError.of(path, str(error)) from None


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """The bytes of the file; :class:`UnreadableImageError` when there are none to be had."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - Path.open costs 3 us more on the hot path
            return file.read()
    except FileNotFoundError:
        raise UnreadableImageError.of(path, "the file does not exist") from None
    except OSError as error:
        raise UnreadableImageError.of(path, error.strerror or str(error)) from error


def decode_image(data: bytes) -> np.ndarray:
    """Encoded bytes -> (H, W, 3) uint8 RGB; ValueError with the reason when that is impossible."""
    if not data:
        raise ValueError("the file is empty")
    kind = image_format(data)
    if not _is_complete(data, kind):
        raise ValueError(f"the {kind} data is truncated (its end mark is missing); copy it again")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:  # too many pixels, for example
        raise ValueError(f"OpenCV refuses it ({error.err})") from error
    if image is None:
        raise ValueError(f"the {kind} data is corrupt or truncated" if kind else _describe(data))
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def image_format(data: bytes) -> str | None:
    """The format that the first bytes announce (``'JPEG'``, ``'PNG'``, ...), None when unknown."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WebP"
    if data.startswith(b"BM"):
        return "BMP"
    if data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "TIFF"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data[:1] == b"P" and data[1:2] in b"123456" and data[2:3].isspace():
        return "PNM"
    return None


def list_images(folder: str | os.PathLike[str], *, recursive: bool = False) -> Iterator[str]:
    """Paths of the images in a folder, in sorted order; hidden files and other files are left out.

    Hidden names matter: macOS writes a ``._name.jpg`` beside every file it copies to a foreign
    disk, which has an image's name and no image inside. Links are followed, but not into a folder
    that they lie in; pipes and sockets are left out, for reading one may never end.
    """
    yield from _list_images(os.fspath(folder), recursive, frozenset())


def _list_images(folder: str, recursive: bool, above: frozenset[tuple[int, int]]) -> Iterator[str]:
    status = os.stat(folder)  # noqa: PTH116
    above |= {(status.st_dev, status.st_ino)}
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            status = entry.stat()
            if recursive and (status.st_dev, status.st_ino) not in above:
                yield from _list_images(entry.path, True, above)
        elif os.path.splitext(entry.name)[1].lower() in IMAGE_EXTENSIONS:  # noqa: PTH122 - a million
            broken_link = entry.is_symlink() and not os.path.exists(entry.path)  # noqa: PTH110
            if entry.is_file() or broken_link:  # the latter is to be missed by name
                yield entry.path


def existing_folder(root: str | os.PathLike[str]) -> Path:
    """``root`` as a Path; an error that shows how far the path exists when it is no folder."""
    folder = Path(root).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise NotADirectoryError(f"expected a dataset folder, but {str(folder)!r} is a file")
    there = next((p for p in folder.absolute().parents if p.is_dir()), None)
    raise FileNotFoundError(
        f"the dataset folder {str(folder)!r} does not exist; of that path only "
        f"{str(there)!r} is there"
    )


def relative_name(path: str, root: str) -> str:
    """``path`` below ``root`` with forward slashes; a path elsewhere is kept as it is."""
    prefix = os.path.join(root, "") if root else ""  # noqa: PTH118 - strings, 100,000 of them
    return path.removeprefix(prefix).replace(os.sep, "/")


def _is_complete(data: bytes, kind: str | None) -> bool:
    """Whether the end mark of the format is there; formats without one count as complete."""
    if kind == "JPEG":
        return data.endswith(_JPEG_END) or _jpeg_ends_somewhere(data)
    if kind == "PNG":
        return _PNG_END in data
    if kind == "WebP":
        return len(data) >= 8 + int.from_bytes(data[4:8], "little")
    return True


def _jpeg_ends_somewhere(data: bytes) -> bool:
    """Look for EOI behind the image's own start of scan.

    Cameras append bytes after EOI, which is fine; an EOI of the thumbnail inside the EXIF segment
    proves nothing, so the header's segments are walked by their lengths.
    """
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
        elif marker == 0xDA:  # start of scan: inside it, an 0xFF of the data is followed by 0
            return data.find(_JPEG_END, position) >= 0
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return False


def _describe(data: bytes) -> str:
    """What bytes that are no image usually are, and the remedy."""
    head = data[:256].lstrip().lower()
    if head.startswith((b"<!doctype", b"<html", b"<?xml", b"<svg")):
        return "it is a web page or XML, perhaps of a failed download; download it again"
    if head.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, not the image; run `git lfs pull`"
    if data.startswith(b"PK\x03\x04"):
        return "it is a zip archive; unpack it"
    if data[4:8] == b"ftyp":
        return "it is a HEIC, AVIF or video file; convert it to JPEG or PNG"
    if not any(data[:4096]):
        return "its bytes are zero, as after an interrupted copy; copy it again"
    return f"it is no image that OpenCV can decode; its first bytes are {data[:8]!r}"
