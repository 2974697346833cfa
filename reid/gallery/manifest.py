"""The manifest: the one small file that says which rows a gallery holds."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid.gallery.durable import FileSum
from reid.gallery.errors import DamagedGalleryError

FORMAT = "reid-gallery"
VERSION = 1
_SEGMENT_NAME = re.compile(r"[0-9a-f]+-[0-9a-f]+")  # becomes a file name: never a path


@dataclass(frozen=True, slots=True)
class Segment:
    """A batch of rows that is never changed once written: ``<name>.npy`` and ``<name>.jsonl``."""

    name: str
    rows: int
    vectors: FileSum
    records: FileSum


@dataclass(frozen=True, slots=True)
class Manifest:
    """State of a gallery.

    Attributes:
        uid: drawn at creation; tells a gallery from another one created later at the same path.
        generation: grows by one with every change.
        next_id: the next row's id; ids are never given twice.
        tombstones: removed ids that still lie in segments: disjoint ascending ranges [start, stop).
    """

    uid: str
    dim: int
    metric: str
    index: str
    model: str | None
    generation: int = 0
    next_id: int = 0
    segments: tuple[Segment, ...] = ()
    tombstones: tuple[tuple[int, int], ...] = ()

    @property
    def removed_rows(self) -> int:
        return sum(stop - start for start, stop in self.tombstones)

    @property
    def live_rows(self) -> int:
        return sum(segment.rows for segment in self.segments) - self.removed_rows


def encode(manifest: Manifest) -> bytes:
    """Manifest -> JSON text that carries its own checksum."""
    body = {"format": FORMAT, "version": VERSION, **asdict(manifest)}
    return json.dumps({**body, "sha256": _checksum(body)}, indent=1).encode() + b"\n"


def decode(data: bytes, path: Path) -> Manifest:
    """JSON text -> manifest.

    Raises:
        DamagedGalleryError: not a manifest, written by a newer format, or changed since.
    """
    try:
        body = json.loads(data)
        if body.get("format") != FORMAT:
            raise ValueError(f"format is {body.get('format')!r}, expected {FORMAT!r}")
    except (ValueError, AttributeError) as error:
        raise DamagedGalleryError(f"{path} is not a gallery's manifest: {error}") from error
    if body.get("version") != VERSION:
        raise DamagedGalleryError(
            f"{path} has format version {body.get('version')!r}, this program reads version "
            f"{VERSION}. Open the gallery with the program that wrote it, or build it anew."
        )
    if body.pop("sha256", None) != _checksum(body):
        raise DamagedGalleryError(
            f"{path} does not match its own checksum: it was edited by hand or damaged. Restore "
            "it from a copy, or build the gallery anew."
        )
    try:
        return _from_body(body)
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedGalleryError(f"{path} is not a valid manifest: {error!r}") from error


def tombstone_ranges(ids: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Ids, in any order -> disjoint ascending ranges [start, stop)."""
    ranges: list[tuple[int, int]] = []
    for row_id in sorted(set(ids)):
        if ranges and ranges[-1][1] == row_id:
            ranges[-1] = (ranges[-1][0], row_id + 1)
        else:
            ranges.append((row_id, row_id + 1))
    return tuple(ranges)


def tombstone_ids(ranges: Sequence[tuple[int, int]]) -> Iterator[int]:
    """The inverse of :func:`tombstone_ranges`."""
    for start, stop in ranges:
        yield from range(start, stop)


def live_mask(ids: NDArray[np.int64], tombstones: Sequence[tuple[int, int]]) -> NDArray[np.bool_]:
    """(n,) ascending ids -> (n,) bool, False where the row was removed."""
    mask = np.ones(len(ids), dtype=np.bool_)
    if tombstones:
        bounds = np.searchsorted(ids, np.asarray(tombstones, dtype=np.int64))  # (ranges, 2)
        for start, stop in bounds.tolist():
            mask[start:stop] = False
    return mask


def _checksum(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _from_body(body: dict[str, Any]) -> Manifest:
    segments = []
    for entry in body["segments"]:
        if not _SEGMENT_NAME.fullmatch(entry["name"]):
            raise ValueError(f"segment name {entry['name']!r}")
        segments.append(
            Segment(
                name=entry["name"],
                rows=int(entry["rows"]),
                vectors=FileSum(**entry["vectors"]),
                records=FileSum(**entry["records"]),
            )
        )
    model = body["model"]
    return Manifest(
        uid=str(body["uid"]),
        dim=int(body["dim"]),
        metric=str(body["metric"]),
        index=str(body["index"]),
        model=None if model is None else str(model),
        generation=int(body["generation"]),
        next_id=int(body["next_id"]),
        segments=tuple(segments),
        tombstones=tuple((int(start), int(stop)) for start, stop in body["tombstones"]),
    )
