"""What is wrong with the files of a gallery, down to single rows, and what of them is whole."""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid.gallery.columns import RecordColumns
from reid.gallery.errors import DamagedGalleryError
from reid.gallery.manifest import Manifest, Segment, decode
from reid.gallery.segment import Pictures, checksums, name_ids, read_records, vectors_header
from reid.gallery.storage import TWIN, GalleryStorage, damage_of, read_ranges
from reid.gallery.tombstones import NO_RANGES, Ranges

_BLOCK_ROWS = 4096
_NONE: NDArray[np.int64] = np.empty(0, np.int64)


@dataclass
class SegmentState:
    """One segment, looked at.

    Attributes:
        entry: what the manifest says of it.
        damage: sentences, one a damaged file.
        columns: ids and records; None where these cannot be trusted, and no row can be saved.
        lost: numbers of the rows whose vectors are not what they were.
        lost_pictures: numbers of the rows whose thumbnails are not.
    """

    entry: Segment
    damage: list[str] = field(default_factory=list)
    columns: RecordColumns | None = None
    pictures: Pictures | None = None
    lost: NDArray[np.int64] = field(default_factory=lambda: _NONE)
    lost_pictures: NDArray[np.int64] = field(default_factory=lambda: _NONE)


@dataclass
class GalleryState:
    """All files that a manifest names, looked at.

    Attributes:
        damage: sentences about what belongs to no segment.
        tombstones: ranges of removed ids; None where both copies are lost.
    """

    segments: list[SegmentState]
    tombstones: Ranges | None
    index_damage: list[str]
    damage: list[str]

    @property
    def sentences(self) -> list[str]:
        found = [sentence for segment in self.segments for sentence in segment.damage]
        return [*found, *self.damage, *self.index_damage]


def inspect(storage: GalleryStorage, manifest: Manifest) -> GalleryState:
    """Read everything that a manifest names, and its twin."""
    segments = [
        inspect_segment(storage.segments_path, entry, manifest.dim, manifest.dtype)
        for entry in manifest.segments
    ]
    damage: list[str] = []
    tombstones: Ranges | None = NO_RANGES
    if (file := manifest.tombstones) is not None:
        tombstones = None
        for name in (file.name, file.name + TWIN):
            try:
                ranges = read_ranges(storage.segments_path / name, file)
                tombstones = ranges if tombstones is None else tombstones
            except FileNotFoundError:
                damage.append(f"{name}: missing")
            except DamagedGalleryError as error:
                damage.append(str(error))
            except OSError as error:
                damage.append(f"{name}: cannot be read ({error.strerror or error})")
    try:  # an older or a missing twin is what a crash leaves, and the next writer mends it
        decode(storage.backup_path.read_bytes(), storage.backup_path)
    except FileNotFoundError:
        pass
    except (DamagedGalleryError, OSError):
        damage.append(f"{storage.backup_path.name}: not a whole manifest")
    index_damage = [] if manifest.built is None else storage.index_damage(manifest.built)
    return GalleryState(segments, tombstones, index_damage, damage)


def inspect_segment(folder: Path, entry: Segment, dim: int, dtype: str) -> SegmentState:
    """Read the files of a segment and compare them with their checksums, and, where these differ,
    row by row with the rows' own."""
    state = SegmentState(entry)
    crc32 = None
    try:
        state.columns, crc32, state.pictures = read_records(folder, entry)
    except FileNotFoundError:
        state.damage.append(f"{entry.records.name}: missing")
    except DamagedGalleryError as error:
        state.damage.append(str(error))
    except OSError as error:
        state.damage.append(f"{entry.records.name}: cannot be read ({error.strerror or error})")
    if fault := damage_of(folder / entry.vectors.name, entry.vectors):
        if state.columns is not None and crc32 is not None:
            raw = RawVectors(folder, entry, dim, dtype)
            state.lost = np.concatenate(
                [_NONE, *(start + _unlike(block, crc32, start) for start, block in raw.blocks())]
            )
            fault += f": {_say(state.columns, state.lost, 'lost')}"
        state.damage.append(fault)
    if entry.thumbnails is not None and (
        fault := damage_of(folder / entry.thumbnails.name, entry.thumbnails)
    ):
        if state.columns is not None and state.pictures is not None:
            raw_pictures = RawPictures(folder, entry, state.pictures)
            sums = [zlib.crc32(raw_pictures.read(row) or b"") for row in range(entry.rows)]
            state.lost_pictures = np.flatnonzero(np.array(sums, np.uint32) != state.pictures.crc32)
            fault += f": {_say(state.columns, state.lost_pictures, 'without thumbnail')}"
        state.damage.append(fault)
    return state


class RawVectors:
    """The rows of a file of vectors, whatever of it is there: what is missing reads as zeros.

    The header is not trusted; its length follows from the manifest.
    """

    def __init__(self, folder: Path, entry: Segment, dim: int, dtype: str) -> None:
        self._path, self._rows = folder / entry.vectors.name, entry.rows
        self._dim, self._dtype = dim, np.dtype(dtype)
        self._offset = len(vectors_header(entry.rows, dim, dtype))

    def blocks(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """First row number, and vectors (n, dim)."""
        width = self._dim * self._dtype.itemsize
        for start in range(0, self._rows, _BLOCK_ROWS):
            count = min(_BLOCK_ROWS, self._rows - start)
            data = _read(self._path, self._offset + start * width, count * width, width)
            yield start, np.frombuffer(data, self._dtype).reshape(count, self._dim)


class RawPictures:
    """The thumbnails of a segment, whatever of them is there."""

    def __init__(self, folder: Path, entry: Segment, pictures: Pictures) -> None:
        self._pictures = pictures
        self._path = None if entry.thumbnails is None else folder / entry.thumbnails.name

    def read(self, row: int) -> bytes | None:
        size = int(self._pictures.bytes[row])
        if not size or self._path is None:
            return None
        return _read(self._path, int(self._pictures.start[row]), size, size)


class SavedRows:
    """The rows of a damaged segment that are whole: a source for a new one."""

    def __init__(self, folder: Path, state: SegmentState, dim: int, dtype: str) -> None:
        assert state.columns is not None
        kept = np.ones(state.entry.rows, np.bool_)
        kept[state.lost] = False
        self._kept = kept
        self._raw = RawVectors(folder, state.entry, dim, dtype)
        self._pictures = None
        if state.pictures is not None:
            self._pictures = RawPictures(folder, state.entry, state.pictures)
        self._lost_pictures = set(state.lost_pictures.tolist())
        self.columns = state.columns.take(np.flatnonzero(kept))

    def __len__(self) -> int:
        return len(self.columns)

    def blocks(self) -> Iterator[tuple[NDArray[Any], Sequence[bytes | None]]]:
        for start, block in self._raw.blocks():
            inside = np.flatnonzero(self._kept[start : start + len(block)])
            yield block[inside], [self._thumbnail(start + row) for row in inside.tolist()]

    def _thumbnail(self, row: int) -> bytes | None:
        if self._pictures is None or row in self._lost_pictures:
            return None
        return self._pictures.read(row)


def _unlike(block: NDArray[Any], crc32: NDArray[np.uint32], start: int) -> NDArray[np.int64]:
    return np.flatnonzero(checksums(block) != crc32[start : start + len(block)])


def _say(columns: RecordColumns, rows: NDArray[np.int64], what: str) -> str:
    return f"{name_ids(columns.ids[rows])} {what}" if len(rows) else f"no row {what}"


def _read(path: Path, offset: int, count: int, step: int) -> bytes:
    """``count`` bytes; zeros for those that are not there or, by ``step``, cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(count)
    except FileNotFoundError:
        data = b""
    except OSError:  # a bad sector: go round it
        if count <= step:
            data = b""
        else:
            parts = (_read(path, offset + at, step, step) for at in range(0, count, step))
            data = b"".join(parts)
    return data.ljust(count, b"\0")
