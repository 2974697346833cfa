"""Read images and label files, and refuse those that would train or test nonsense in silence.

The classic failure of this field: a palette PNG (GTA5) read as colours, or a colour picture given
as labels, still trains, with an mIoU near 1%. So the header of a label file is looked at before it
is decoded, and what the pixels are is decided from it: palette indices and grey values are ids,
colours never are.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from typing import Any, NamedTuple

import cv2
import numpy as np
import stringzilla
from mmcv.transforms import BaseTransform

from seg.label_spaces import (
    IGNORE,
    SOURCES,
    UNKNOWN,
    label_table,
)
from seg.registry import TRANSFORMS

__all__ = [
    "LabelError",
    "LoadImage",
    "LoadLabels",
    "UnreadableFileError",
    "apply_table",
    "has_unknown",
    "image_size",
    "read_image",
    "read_labels",
]

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND\xaeB`\x82"  # the empty IEND chunk and its CRC
_UNKNOWN_BYTE = bytes([UNKNOWN])
_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGBA = 0, 2, 3, 4, 6  # PNG's colour types


class UnreadableFileError(ValueError):
    """A file that is missing, empty, truncated, corrupt or no image. The message names it."""


class LabelError(ValueError):
    """A label file whose pixels are not the class ids that were expected. The message names it."""


class _Header(NamedTuple):
    width: int
    height: int
    depth: int
    colour: int


def read_image(path: str | os.PathLike[str]) -> np.ndarray:
    """The image at ``path`` as an (H, W, 3) uint8 RGB array.

    The bytes decide on the format, not the name: a JPEG called ``.png`` is read like any other.

    Raises:
        UnreadableFileError: with the path and the reason.
    """
    return cv2.cvtColor(_read_bgr(path), cv2.COLOR_BGR2RGB)


def read_labels(path: str | os.PathLike[str], source: str | None = None) -> np.ndarray:
    """The ids in a label file, as they are stored.

    Palette PNGs give their indices, grey PNGs of 1 to 16 bits their values. A 16-bit RGB PNG is
    read for a source of 16 bits only (SYNTHIA): its ids are the red channel.

    Args:
        source: a key of ``seg.label_spaces.SOURCES``; checks that the file has its number of bits.

    Returns:
        (H, W) uint8, or uint16 for files of 16 bits.

    Raises:
        UnreadableFileError: missing, truncated, corrupt, or no image.
        LabelError: colours, JPEG, or a number of bits that is not the source's.
    """
    data = _read_bytes(path)
    bits = SOURCES[source].bits if source in SOURCES else None
    if not data.startswith(_PNG):
        return _read_other_labels(data, path, source, bits)
    header = _png_header(data, path)
    _check_kind(header, path, source, bits)
    if _PNG_END not in data[-64:] and _PNG_END not in data:
        raise _unreadable(path, "the PNG is truncated (its end mark is missing); copy it again")
    if header.colour == _PALETTE:
        # Indices are stored as grey values are; without its palette the file is a grey PNG of
        # indices, which OpenCV decodes nearly twice as fast as Pillow decodes the palette file.
        data = _without_palette(data, path)
    labels = _decode(data, cv2.IMREAD_UNCHANGED, path)
    if labels.ndim == 3:
        labels = np.ascontiguousarray(labels[..., -1])  # BGR: the last channel is red
    if header.depth < 8:
        labels //= 255 // (2**header.depth - 1)  # decoders stretch 1, 2 and 4 bits to 0..255
    return labels


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(height, width) of an image file, from its header alone.

    Raises:
        UnreadableFileError: missing, or no image.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:  # reads the header only
            width, height = image.size
            if image.getexif().get(0x0112, 1) in (5, 6, 7, 8):  # lies on its side
                width, height = height, width
            return height, width
    except FileNotFoundError:
        raise _unreadable(path, "the file does not exist") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _unreadable(path, str(error)) from None


def apply_table(ids: np.ndarray, source: str, space: str, *, in_place: bool = False) -> np.ndarray:
    """Source ids -> class indices of the space, by lookup.

    Args:
        ids: (H, W) uint8 or uint16, as :func:`read_labels` gives them.
        source, space: keys of ``SOURCES`` and ``SPACES``.
        in_place: write the classes over the ids, where these are contiguous and of 8 bits.

    Returns:
        (H, W) uint8: classes, ``IGNORE`` (255), ``UNKNOWN`` (254); a new array, or ``ids``.
    """
    table = label_table(source, space)
    if not ids.size:
        return np.empty(ids.shape, np.uint8)
    if ids.dtype != np.uint8:
        if int(ids.max()) > 255:  # never in a whole data set of 16 bits: its ids are small, too
            if len(table) == 256:
                table = np.concatenate([table, np.full(2**16 - 256, UNKNOWN, np.uint8)])
            mapped: np.ndarray = table[ids]
            return mapped
        ids, in_place = ids.astype(np.uint8), True
    if not (in_place and ids.flags.c_contiguous and ids.flags.writeable):
        ids = np.array(ids, order="C")
    # 16 to 64 pixels an instruction, where cv2.LUT and NumPy take them one by one
    stringzilla.translate(ids.data, table[:256].data, inplace=True)
    return ids


def has_unknown(labels: np.ndarray) -> bool:
    """Whether a pixel of looked-up labels, as :func:`apply_table` gives them, is ``UNKNOWN``."""
    if not labels.flags.c_contiguous:
        return bool((labels == UNKNOWN).any())
    # a fifth of the time of NumPy's comparison
    return bool(labels.size) and stringzilla.find(labels.data, _UNKNOWN_BYTE) >= 0


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Load ``results["img_path"]`` as an (H, W, 3) uint8 BGR array, as mmcv's own loader does.

    Unlike mmcv's it names the file that cannot be read. Adds img, img_shape and ori_shape.
    Give mmseg's data preprocessor ``bgr_to_rgb=True``.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        image = _read_bgr(results["img_path"])
        results["img"] = image
        results["img_shape"] = results["ori_shape"] = image.shape[:2]
        return results

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


@TRANSFORMS.register_module()
class LoadLabels(BaseTransform):
    """Load ``results["seg_map_path"]`` and look its ids up: gt_seg_map, (H, W) uint8.

    Which lookup stands in the results of our datasets: ``source`` and ``space``. A sample without a
    label file passes through unchanged, so that a test pipeline also serves images alone.

    Args:
        unknown: ``"error"``: an id that the source does not define raises :class:`LabelError`;
            ``"ignore"``: such pixels are ignored (255).
    """

    def __init__(self, unknown: str = "error") -> None:
        if unknown not in ("error", "ignore"):
            raise ValueError(f"LoadLabels: unknown must be 'error' or 'ignore', got {unknown!r}")
        self.unknown = unknown

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        path = results.get("seg_map_path")
        if path is None:
            return results
        try:
            source, space = results["source"], results["space"]
        except KeyError as error:
            raise KeyError(
                f"seg.LoadLabels needs results[{error.args[0]!r}], which the datasets of this "
                "toolkit (type='seg....') give; with another dataset use mmseg's LoadAnnotations"
            ) from None
        ids = read_labels(path, source)
        if "img" in results and tuple(results["ori_shape"]) != ids.shape:
            (h, w), (height, width) = ids.shape, results["ori_shape"]
            raise LabelError(
                f"image and label differ in size (width x height): {results.get('img_path')!r} is "
                f"{width}x{height}, its label {path!r} is {w}x{h}. `python tools/prepare_data.py` "
                "lists all such pairs; leave them out with the dataset's drop=[...]"
            )
        labels = apply_table(ids, source, space, in_place=True)
        if has_unknown(labels):
            if self.unknown == "error":
                raise _unknown_ids(read_labels(path, source), labels == UNKNOWN, path, source)
            labels[labels == UNKNOWN] = IGNORE
        results["gt_seg_map"] = labels
        results.setdefault("seg_fields", []).append("gt_seg_map")
        return results

    def __repr__(self) -> str:
        return f"{type(self).__name__}(unknown={self.unknown!r})"


def _unknown_ids(ids: np.ndarray, where: np.ndarray, path: Any, source: str) -> LabelError:
    values, counts = np.unique(ids[where], return_counts=True)
    found = ", ".join(f"{v} ({c:,} pixels)" for v, c in zip(values[:8], counts[:8], strict=True))
    return LabelError(
        f"the label file {os.fspath(path)!r} has ids that the source {source!r} does not define: "
        f"{found}{', ...' if len(values) > 8 else ''}. It defines "
        f"{_ranges(sorted(SOURCES[source].ids))}. Is it a file of another kind (trainIds, "
        "instanceIds, another data set)? Give the dataset the right source or labels; or say "
        "LoadLabels(unknown='ignore') to leave these pixels out"
    )


def _ranges(numbers: list[int]) -> str:
    """[0, 1, 2, 255] -> '0..2, 255'."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}..{b}" for a, b in runs)


def _read_bgr(path: str | os.PathLike[str]) -> np.ndarray:
    data = _read_bytes(path)
    if data.startswith(_PNG):
        complete = _PNG_END in data[-64:] or _PNG_END in data
    elif data.startswith(b"\xff\xd8\xff"):
        # A truncated JPEG is decoded with a grey lower part. The end mark that counts follows the
        # last start of a scan: a thumbnail in the header has marks of its own, and cameras append
        # bytes behind the end.
        complete = data.rfind(b"\xff\xd9") > data.rfind(b"\xff\xda")
    else:
        complete = True
    if not complete:
        raise _unreadable(path, "the image is truncated (its end mark is missing); copy it again")
    return _decode(data, cv2.IMREAD_COLOR, path)


def _read_bytes(path: str | os.PathLike[str]) -> bytes:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - the hot path
            data = file.read()
    except FileNotFoundError:
        raise _unreadable(path, "the file does not exist") from None
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from None
    if not data:
        raise _unreadable(path, "the file is empty")
    return data


def _decode(data: bytes, flags: int, path: str | os.PathLike[str]) -> np.ndarray:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:  # too many pixels, for example
        raise _unreadable(path, f"OpenCV refuses it ({error.err})") from None
    if image is None:
        raise _unreadable(path, _why_not(data))
    return image


def _why_not(data: bytes) -> str:
    head = data[:256].lstrip().lower()
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it is a web page, perhaps of a failed download; download it again"
    if head.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, not the image; run `git lfs pull`"
    if data.startswith(b"PK\x03\x04"):
        return "it is a zip archive; unpack it"
    if data.startswith((_PNG, b"\xff\xd8\xff")):
        return "its data is corrupt; copy or download it again"
    return f"it is no image that OpenCV can decode; its first bytes are {data[:8]!r}"


def _unreadable(path: str | os.PathLike[str], reason: str) -> UnreadableFileError:
    return UnreadableFileError(f"cannot read {os.fspath(path)!r}: {reason}")


def _png_header(data: bytes, path: str | os.PathLike[str]) -> _Header:
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise _unreadable(path, "the PNG ends or is corrupt within its header; copy it again")
    return _Header(*struct.unpack(">IIBB", data[16:26]))


def _check_kind(
    header: _Header, path: str | os.PathLike[str], source: str | None, bits: int | None
) -> None:
    """LabelError unless the PNG holds ids, with the source's number of bits."""
    name = os.fspath(path)
    if header.colour in (_RGB, _RGBA, _GREY_ALPHA):
        if header.colour == _RGB and header.depth == 16 and bits == 16:
            return
        if header.colour == _RGB and header.depth == 16:
            raise LabelError(
                f"{name!r} is a 16-bit RGB PNG, as SYNTHIA's labels are; the source "
                + (f"{source!r} has 8-bit ids" if source else "is not given")
                + ": use type seg.Synthia, or source='synthia'"
            )
        raise LabelError(
            f"{name!r}: these are colours, not class ids: the PNG is "
            f"{ {_RGB: 'RGB', _RGBA: 'RGBA', _GREY_ALPHA: 'grey with alpha'}[header.colour] } of "
            f"{header.depth} bits. Is it a picture for viewing (..._color.png), or a palette file "
            "that was read and saved again by OpenCV? Expected a palette PNG or a grey PNG whose "
            "values are the ids: take the original label file"
        )
    if bits == 8 and header.depth == 16:
        raise LabelError(
            f"{name!r} is a 16-bit grey PNG, but ids of {source!r} have 8 bits. Is it an "
            "..._instanceIds.png? Take the ..._labelIds.png (or labelTrainIds)"
        )
    if bits == 16 and header.depth != 16:
        raise LabelError(
            f"{name!r} is a {header.depth}-bit {'palette' if header.colour == _PALETTE else 'grey'}"
            f" PNG, but original labels of {source!r} have 16 bits: it was converted, and its "
            "ids may be others. Take the original file (SYNTHIA: GT/LABELS), or, if these are "
            "trainIds, type seg.ImageLabelFolder with source='trainids'"
        )


def _read_other_labels(
    data: bytes, path: str | os.PathLike[str], source: str | None, bits: int | None
) -> np.ndarray:
    """Labels in BMP, GIF, TIFF, ...: whatever Pillow reads as indices or grey values."""
    if data.startswith(b"\xff\xd8\xff"):
        raise LabelError(
            f"{os.fspath(path)!r} is a JPEG: its lossy compression changes ids, so that it cannot "
            "hold labels; take the original PNG. Are image and label folders swapped?"
        )
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as image:
            mode, labels = image.mode, np.array(image)
    except UnidentifiedImageError:
        raise _unreadable(path, _why_not(data)) from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _unreadable(path, str(error)) from None
    if mode not in ("1", "L", "P", "I;16"):
        raise LabelError(
            f"{os.fspath(path)!r}: these are colours, not class ids (mode {mode}); expected a "
            "palette or grey PNG whose values are the ids"
        )
    if bits is not None and bits != 8 * max(labels.dtype.itemsize, 1):
        raise LabelError(
            f"{os.fspath(path)!r} has ids of {8 * labels.dtype.itemsize} bits, but those of "
            f"{source!r} have {bits}: take the original label file"
        )
    return labels.astype(np.uint8) if mode == "1" else labels


def _without_palette(data: bytes, path: str | os.PathLike[str]) -> bytes:
    """A palette PNG -> the grey PNG with the same pixel bytes."""
    chunks, position = [_PNG], 8
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        kind = data[position + 4 : position + 8]
        end = position + 12 + length
        if end > len(data):
            raise _unreadable(path, "the PNG is truncated; copy it again")
        if kind == b"IHDR":
            head = bytearray(data[position + 4 : end - 4])
            head[13] = _GREY  # 4 bytes name, 8 size, 1 depth, then the colour type
            chunks.append(
                data[position : position + 4] + head + struct.pack(">I", zlib.crc32(head))
            )
        elif kind in (b"IDAT", b"IEND"):
            chunks.append(data[position:end])
        position = end
    return b"".join(chunks)
