"""The manifest: the one small file that says which rows a gallery holds."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reid.gallery.durable import FileSum
from reid.gallery.errors import DamagedGalleryError, OtherVersionError

FORMAT = "reid-gallery"
VERSION = 2
_STEM = "[0-9a-f]{8,}-[0-9a-f]{8}"  # names become paths, so that none may lead elsewhere
_FILE_NAME = re.compile(rf"{_STEM}\.(npy|parquet|thumbnails|tombstones)")
_FOLDER_NAME = re.compile(_STEM)
_INDEX_FILE_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file that never changes once it is written: its name in its folder, size and sha256."""

    name: str
    bytes: int
    sha256: str

    @property
    def sum(self) -> FileSum:
        return FileSum(self.bytes, self.sha256)


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of rows by ascending id; which files they lie in never changes but by a new manifest.

    Attributes:
        rows: removed ones counted.
        first_id: of the first row.
        last_id: of the last row; where ids have gaps, more than ``first_id + rows - 1``.
        vectors: (rows, dim), in numpy's format.
        records: ids, checksums and records, a Parquet file.
        thumbnails: encoded images one after another, or None where no row has one.
    """

    rows: int
    first_id: int
    last_id: int
    vectors: DataFile
    records: DataFile
    thumbnails: DataFile | None = None

    @property
    def files(self) -> tuple[DataFile, ...]:
        files = (self.vectors, self.records, self.thumbnails)
        return tuple(file for file in files if file is not None)


@dataclass(frozen=True, slots=True)
class BuiltIndex:
    """An approximate index of the first ``rows`` row numbers.

    Attributes:
        folder: its name in ``index/``.
        rows: row numbers that it covers: [0, rows).
        factory: the FAISS factory string.
        recall: what was asked of it when it was built; ``k``: hits that the recall is of.
        seed: of the queries that were drawn to measure it.
        files: what lies in its folder.
    """

    folder: str
    rows: int
    factory: str
    recall: float
    k: int
    seed: int
    files: tuple[DataFile, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """State of a gallery.

    Attributes:
        uid: drawn at creation; tells a gallery from another one created later at the same path.
        index: ``'Flat'``, or the factory string of the index that is wanted.
        dtype: what vectors are kept as.
        generation: grows by one with every change.
        numbering: grows by one when rows get other numbers, which ends any index over them.
        next_id: the next row's id; ids are never given twice.
        segments: in row order.
        tombstones: names removed rows that still lie in segments, or None.
        removed_rows: how many they are.
        built: the index that there is.
    """

    uid: str
    dim: int
    metric: str
    index: str
    dtype: str
    model: str | None
    generation: int = 0
    numbering: int = 0
    next_id: int = 0
    segments: tuple[Segment, ...] = ()
    tombstones: DataFile | None = None
    removed_rows: int = 0
    built: BuiltIndex | None = None

    @property
    def rows(self) -> int:
        """Rows that lie in segments, removed ones counted."""
        return sum(segment.rows for segment in self.segments)

    @property
    def live_rows(self) -> int:
        return self.rows - self.removed_rows


def encode(manifest: Manifest) -> bytes:
    """Manifest -> JSON text that carries its own checksum."""
    body = {"format": FORMAT, "version": VERSION, **_plain(manifest)}
    return json.dumps({**body, "sha256": _checksum(body)}).encode() + b"\n"


def decode(data: bytes, path: Path) -> Manifest:
    """JSON text -> manifest.

    Raises:
        DamagedGalleryError: not a manifest, or changed since.
        OtherVersionError: of another version of the format.
    """
    try:
        body = json.loads(data)
        if body.get("format") != FORMAT:
            raise ValueError(f"format is {body.get('format')!r}, expected {FORMAT!r}")
    except (ValueError, AttributeError, RecursionError) as error:
        raise DamagedGalleryError(
            f"{path} is not a gallery's manifest: {error}. If it was one, {REPAIR_HINT}"
        ) from error
    if body.get("version") != VERSION:
        raise OtherVersionError(
            f"{path} has format version {body.get('version')!r}, this program reads version "
            f"{VERSION}. Build the gallery anew from its images or features, or open it with the "
            "program that wrote it."
        )
    if body.pop("sha256", None) != _checksum(body):
        raise DamagedGalleryError(
            f"{path} does not match its own checksum: it was edited by hand or damaged. "
            f"{REPAIR_HINT}"
        )
    try:
        return _from_body(body)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedGalleryError(f"{path} is not a valid manifest: {error!r}") from error


REPAIR_HINT = (
    "EmbeddedStore.repair(path), or tools/gallery.py repair, saves all that is whole; or restore "
    "the files from a copy."
)


def _plain(value: Any) -> Any:
    """Dataclasses as dicts: ``asdict`` takes ten times as long, and an add waits for it."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if not isinstance(value, Manifest | Segment | DataFile | BuiltIndex):
        return value
    return {name: _plain(getattr(value, name)) for name in value.__slots__}


def _checksum(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _from_body(body: dict[str, Any]) -> Manifest:
    segments = []
    for entry in body["segments"]:
        thumbnails = entry["thumbnails"]
        segments.append(
            Segment(
                rows=int(entry["rows"]),
                first_id=int(entry["first_id"]),
                last_id=int(entry["last_id"]),
                vectors=_file(entry["vectors"], _FILE_NAME),
                records=_file(entry["records"], _FILE_NAME),
                thumbnails=None if thumbnails is None else _file(thumbnails, _FILE_NAME),
            )
        )
    ends = [end for segment in segments for end in (segment.first_id, segment.last_id + 1)]
    if any(segment.rows < 1 for segment in segments) or ends != sorted(ends):
        raise ValueError("segments without rows, or out of order")
    if ends and not 0 <= ends[0] < ends[-1] <= int(body["next_id"]):
        raise ValueError("ids that were not given yet")
    model, tombstones, built = body["model"], body["tombstones"], body["built"]
    return Manifest(
        uid=str(body["uid"]),
        dim=int(body["dim"]),
        metric=str(body["metric"]),
        index=str(body["index"]),
        dtype=str(body["dtype"]),
        model=None if model is None else str(model),
        generation=int(body["generation"]),
        numbering=int(body["numbering"]),
        next_id=int(body["next_id"]),
        segments=tuple(segments),
        tombstones=None if tombstones is None else _file(tombstones, _FILE_NAME),
        removed_rows=int(body["removed_rows"]),
        built=None if built is None else _built(built),
    )


def _file(entry: dict[str, Any], pattern: re.Pattern[str]) -> DataFile:
    file = DataFile(str(entry["name"]), int(entry["bytes"]), str(entry["sha256"]))
    if not pattern.fullmatch(file.name):
        raise ValueError(f"file name {file.name!r}")
    if file.bytes < 0 or not _SHA256.fullmatch(file.sha256):
        raise ValueError(f"size or checksum of {file.name}")
    return file


def _built(entry: dict[str, Any]) -> BuiltIndex:
    if not _FOLDER_NAME.fullmatch(entry["folder"]):
        raise ValueError(f"folder name {entry['folder']!r}")
    return BuiltIndex(
        folder=entry["folder"],
        rows=int(entry["rows"]),
        factory=str(entry["factory"]),
        recall=float(entry["recall"]),
        k=int(entry["k"]),
        seed=int(entry["seed"]),
        files=tuple(_file(file, _INDEX_FILE_NAME) for file in entry["files"]),
    )
