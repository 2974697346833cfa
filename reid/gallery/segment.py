"""One segment of rows: written once, block by block, then mapped into memory."""

import io
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from reid.gallery.columns import RecordColumns, decode_parquet, encode_parquet
from reid.gallery.durable import FileSum, HashingWriter, replacing, sum_bytes
from reid.gallery.errors import DamagedGalleryError
from reid.gallery.manifest import DataFile, Segment

VECTORS, RECORDS, THUMBNAILS = ".npy", ".parquet", ".thumbnails"
_BLOCK_ROWS = 4096


class Source(Protocol):
    """Rows to be written: new ones, or some of a segment's."""

    @property
    def columns(self) -> RecordColumns: ...

    def blocks(self) -> Iterator[tuple[NDArray[Any], Sequence[bytes | None]]]:
        """Vectors (n, dim) and thumbnails of all rows, a block at a time."""
        ...


@dataclass(frozen=True, slots=True)
class Batch:
    """New rows."""

    columns: RecordColumns
    vectors: NDArray[np.float32]
    thumbnails: Sequence[bytes | None] | None

    def blocks(self) -> Iterator[tuple[NDArray[Any], Sequence[bytes | None]]]:
        for start in range(0, len(self.vectors), _BLOCK_ROWS):
            block = slice(start, start + _BLOCK_ROWS)
            vectors = self.vectors[block]
            thumbnails = (
                [None] * len(vectors) if self.thumbnails is None else self.thumbnails[block]
            )
            yield vectors, thumbnails

    def part(self, rows: slice) -> "Batch":
        numbers = np.arange(len(self.vectors))[rows]
        thumbnails = None if self.thumbnails is None else self.thumbnails[rows]
        return Batch(self.columns.take(numbers), self.vectors[rows], thumbnails)


@dataclass(frozen=True, slots=True)
class Pictures:
    """Where the thumbnails of n rows lie in their file: (n,) each; ``bytes`` is 0 for none."""

    start: NDArray[np.int64]
    bytes: NDArray[np.int64]
    crc32: NDArray[np.uint32]

    @property
    def any(self) -> bool:
        return bool(self.bytes.any())


class OpenSegment:
    """A segment as it lies on disk: vectors and thumbnails mapped, records in memory.

    Attributes:
        entry: what the manifest says of it.
        vectors: (rows, dim) float32 or float16, read-only.
        columns: ids and records.
        crc32: (rows,) uint32, of the bytes of every row's vector.
        pictures: where the thumbnails lie; None where no row has one.
    """

    def __init__(
        self,
        entry: Segment,
        vectors: NDArray[Any],
        columns: RecordColumns,
        crc32: NDArray[np.uint32],
        pictures: Pictures | None,
        picture_bytes: NDArray[np.uint8] | None,
    ) -> None:
        self.entry, self.vectors, self.columns, self.crc32 = entry, vectors, columns, crc32
        self.pictures, self._picture_bytes = pictures, picture_bytes

    def __len__(self) -> int:
        return self.entry.rows

    def pictured(self, row: int) -> bool:
        return (
            self.pictures is not None
            and self._picture_bytes is not None
            and bool(self.pictures.bytes[row])
        )

    def thumbnail(self, row: int) -> bytes | None:
        if self.pictures is None or self._picture_bytes is None or not self.pictures.bytes[row]:
            return None
        start, size = int(self.pictures.start[row]), int(self.pictures.bytes[row])
        return self._picture_bytes[start : start + size].tobytes()

    def damaged_rows(self) -> NDArray[np.int64]:
        """Numbers of the rows whose vector no longer has its checksum."""
        return np.flatnonzero(checksums(self.vectors) != self.crc32)

    def rows(self, numbers: NDArray[np.int64] | None = None) -> "SegmentRows":
        return SegmentRows(self, np.arange(len(self)) if numbers is None else numbers)


@dataclass(frozen=True, slots=True)
class SegmentRows:
    """Some rows of a segment, to be copied: each is compared with its checksum on the way.

    A damaged row must not get a valid sum.
    """

    segment: OpenSegment
    numbers: NDArray[np.int64]

    @property
    def columns(self) -> RecordColumns:
        if len(self.numbers) == len(self.segment):
            return self.segment.columns
        return self.segment.columns.take(self.numbers)

    def blocks(self) -> Iterator[tuple[NDArray[Any], Sequence[bytes | None]]]:
        segment = self.segment
        for start in range(0, len(self.numbers), _BLOCK_ROWS):
            numbers = self.numbers[start : start + _BLOCK_ROWS]
            vectors = segment.vectors[numbers]
            if (bad := checksums(vectors) != segment.crc32[numbers]).any():
                raise _changed(segment.entry.vectors, segment.columns.ids[numbers[bad]])
            thumbnails = [segment.thumbnail(row) for row in numbers.tolist()]
            if segment.pictures is not None:
                sums = [0 if picture is None else zlib.crc32(picture) for picture in thumbnails]
                bad = np.array(sums, np.uint32) != segment.pictures.crc32[numbers]
                if bad.any() and segment.entry.thumbnails is not None:
                    raise _changed(segment.entry.thumbnails, segment.columns.ids[numbers[bad]])
            yield vectors, thumbnails


def checksums(vectors: NDArray[Any]) -> NDArray[np.uint32]:
    """(n, dim) C-ordered -> (n,) uint32, CRC-32 of the bytes of every row."""
    vectors = np.ascontiguousarray(vectors)
    rows = vectors.view(np.uint8).reshape(len(vectors), -1)
    return np.fromiter((zlib.crc32(row.data) for row in rows), dtype=np.uint32, count=len(rows))


def vectors_header(rows: int, dim: int, dtype: str) -> bytes:
    """What stands before the vectors in their file."""
    file = io.BytesIO()
    descr = np.dtype(dtype).newbyteorder("<").str
    header = {"descr": descr, "fortran_order": False, "shape": (rows, dim)}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue()


def write_segment(
    folder: Path, stem: str, sources: Sequence[Source], dim: int, dtype: str
) -> Segment:
    """Write all rows of ``sources``, one after another, to files ``<stem>.*``, and fsync these.

    The folder is left to the caller to fsync. If this raises, no file is left.
    """
    columns = RecordColumns.concatenate([source.columns for source in sources])
    vectors_path, thumbnails_path = folder / (stem + VECTORS), folder / (stem + THUMBNAILS)
    crc32: list[NDArray[np.uint32]] = []
    sizes: list[int] = []
    picture_sums: list[int] = []
    pictures_file: HashingWriter | None = None
    try:
        with ExitStack() as stack:
            vectors_file = stack.enter_context(replacing(vectors_path))
            vectors_file.write(vectors_header(len(columns), dim, dtype))
            for source in sources:
                for vectors, thumbnails in source.blocks():
                    if not len(vectors):
                        continue
                    block = np.ascontiguousarray(vectors, dtype=np.dtype(dtype).newbyteorder("<"))
                    vectors_file.write(block.data.cast("B"))
                    crc32.append(checksums(block))
                    for thumbnail in thumbnails:
                        sizes.append(len(thumbnail or b""))
                        picture_sums.append(zlib.crc32(thumbnail) if thumbnail else 0)
                        if thumbnail:
                            if pictures_file is None:
                                pictures_file = stack.enter_context(replacing(thumbnails_path))
                            pictures_file.write(thumbnail)
        pictures = None
        if pictures_file is not None:
            size = np.array(sizes, np.int64)
            sums = np.array(picture_sums, np.uint32)
            pictures = Pictures(np.cumsum(size) - size, size, sums)
        records = write_records(folder, stem, columns, np.concatenate(crc32), pictures)
    except BaseException:
        for path in (vectors_path, thumbnails_path):
            path.unlink(missing_ok=True)
        raise
    return Segment(
        rows=len(columns),
        first_id=int(columns.ids[0]),
        last_id=int(columns.ids[-1]),
        vectors=_named(vectors_path.name, vectors_file.sum),
        records=records,
        thumbnails=(
            None if pictures_file is None else _named(thumbnails_path.name, pictures_file.sum)
        ),
    )


def write_records(
    folder: Path,
    stem: str,
    columns: RecordColumns,
    crc32: NDArray[np.uint32],
    pictures: Pictures | None,
) -> DataFile:
    """Write ``<stem>.parquet`` and fsync it."""
    numbers: dict[str, NDArray[Any]] = {"crc32": crc32}
    if pictures is not None:
        numbers["thumbnail_start"] = pictures.start
        numbers["thumbnail_bytes"] = pictures.bytes
        numbers["thumbnail_crc32"] = pictures.crc32
    name = stem + RECORDS
    with replacing(folder / name) as file:
        file.write(encode_parquet(columns, numbers))
    return _named(name, file.sum)


def open_segment(
    folder: Path, entry: Segment, dim: int, dtype: str, known: OpenSegment | None = None
) -> OpenSegment:
    """Map the files of a segment; ``known`` is the same one with other records.

    Raises:
        DamagedGalleryError: a file does not fit the manifest, naming it.
        FileNotFoundError: a file is missing.
    """
    columns, crc32, pictures = read_records(folder, entry)
    if known is not None and known.entry.vectors == entry.vectors:
        return OpenSegment(entry, known.vectors, columns, crc32, pictures, known._picture_bytes)
    vectors = map_vectors(folder, entry, dim, dtype)
    picture_bytes = None
    if entry.thumbnails is not None:
        path = folder / entry.thumbnails.name
        check_size(path, entry.thumbnails)
        picture_bytes = np.memmap(path, np.uint8, "r").view(np.ndarray)
    return OpenSegment(entry, vectors, columns, crc32, pictures, picture_bytes)


def read_records(
    folder: Path, entry: Segment
) -> tuple[RecordColumns, NDArray[np.uint32], Pictures | None]:
    """Records of a segment, whose sha256 is checked, with the checksums of vectors."""
    file = entry.records
    path = folder / file.name
    check_size(path, file)
    data = path.read_bytes()
    if sum_bytes(data) != file.sum:
        raise DamagedGalleryError(f"{file.name}: content changed (sha256 differs)")
    try:
        columns, numbers = decode_parquet(data)
        crc32, pictures = numbers["crc32"], None
        if entry.thumbnails is not None:
            parts = [numbers[f"thumbnail_{part}"] for part in ("start", "bytes", "crc32")]
            pictures = Pictures(*parts)
            if (pictures.start < 0).any() or (pictures.bytes < 0).any():
                raise ValueError("thumbnails begin before their file")
            if int((pictures.start + pictures.bytes).max(initial=0)) > entry.thumbnails.bytes:
                raise ValueError("thumbnails reach beyond their file")
    except (ValueError, KeyError) as error:
        raise DamagedGalleryError(f"{file.name}: {error}") from error
    if len(columns) != entry.rows:
        raise DamagedGalleryError(
            f"{file.name}: holds {len(columns)} records, expected {entry.rows}"
        )
    ends = (int(columns.ids[0]), int(columns.ids[-1]))
    if ends != (entry.first_id, entry.last_id):
        raise DamagedGalleryError(
            f"{file.name}: holds the ids {ends[0]} to {ends[1]}, expected {entry.first_id} to "
            f"{entry.last_id}"
        )
    return columns, crc32, pictures


def map_vectors(folder: Path, entry: Segment, dim: int, dtype: str) -> NDArray[Any]:
    """(rows, dim), mapped read-only."""
    path = folder / entry.vectors.name
    check_size(path, entry.vectors)
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise DamagedGalleryError(f"{path.name}: {error}") from error
    if array.shape != (entry.rows, dim) or array.dtype != np.dtype(dtype):
        raise DamagedGalleryError(
            f"{path.name}: holds {array.dtype} {array.shape}, not {dtype} {(entry.rows, dim)}"
        )
    return array.view(np.ndarray)  # type: ignore[no-any-return]


def check_size(path: Path, file: DataFile) -> None:
    size = path.stat().st_size
    if size != file.bytes:
        raise DamagedGalleryError(f"{path.name}: {size} bytes, expected {file.bytes}")


def _named(name: str, sum_: FileSum) -> DataFile:
    return DataFile(name, sum_.bytes, sum_.sha256)


def _changed(file: DataFile, ids: NDArray[np.int64]) -> DamagedGalleryError:
    return DamagedGalleryError(f"{file.name}: content changed in {name_ids(ids)}")


def name_ids(ids: NDArray[np.int64]) -> str:
    """``3 rows (ids 5, 7, 9)``."""
    shown = ", ".join(map(str, ids[:10].tolist())) + (", ..." if len(ids) > 10 else "")
    plural = "s" if len(ids) > 1 else ""
    return f"{len(ids)} row{plural} (id{plural} {shown})"
