"""A gallery as it was at one moment: immutable, shared by all searches that began then."""

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from reid.gallery.errors import DamagedGalleryError
from reid.gallery.manifest import DataFile, Manifest
from reid.gallery.segment import OpenSegment, open_segment
from reid.gallery.storage import GalleryStorage, damaged, logger
from reid.gallery.store import Rows
from reid.gallery.table import RecordTable
from reid.gallery.tombstones import Ranges, live_mask

if TYPE_CHECKING:
    from reid.gallery.approximate import ApproximateIndex


class Snapshot:
    """What a manifest says, opened.

    The vectors stay mapped as long as anybody holds the snapshot, also when their files have been
    deleted since.

    Attributes:
        manifest: the state it is of.
        segments: in row order.
        tombstones: ranges of removed ids.
        table: the records.
        index: the approximate index, where there is one that can be read.
    """

    def __init__(
        self,
        manifest: Manifest,
        segments: tuple[OpenSegment, ...],
        tombstones: Ranges,
        index: "ApproximateIndex | None",
    ) -> None:
        self.manifest, self.segments, self.tombstones = manifest, segments, tombstones
        self.index = index
        live = [self._live(segment) for segment in segments]
        self.table = RecordTable([segment.columns for segment in segments], live)

    @cached_property
    def vectors(self) -> list[NDArray[Any]]:
        """By segment (rows_i, dim)."""
        return [segment.vectors for segment in self.segments]

    def live_numbers(self, number: int) -> NDArray[np.int64]:
        """Rows of a segment that were not removed, counted within it."""
        segment = self.segments[number]
        live = self._live(segment)
        return np.arange(len(segment)) if live is None else np.flatnonzero(live)

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(n, dim) vectors of row numbers."""
        taken = np.empty((len(rows), self.manifest.dim), np.float32)
        numbers = np.searchsorted(self._starts, rows, "right") - 1
        for number in np.unique(numbers).tolist():
            here = numbers == number
            taken[here] = self.segments[number].vectors[rows[here] - self._starts[number]]
        return taken

    def thumbnail(self, row: int) -> bytes | None:
        number = int(np.searchsorted(self._starts, row, "right")) - 1
        return self.segments[number].thumbnail(row - int(self._starts[number]))

    def pictured(self, row: int) -> bool:
        number = int(np.searchsorted(self._starts, row, "right")) - 1
        return self.segments[number].pictured(row - int(self._starts[number]))

    def blocks(self, rows: int) -> Iterator[Rows]:
        live = self.table.live_rows
        for start in range(0, len(live), rows):
            block = live[start : start + rows]
            yield Rows(
                self.table.ids[block],
                self.take(block),
                self.table.records(block),
                [self.thumbnail(row) for row in block.tolist()],
            )

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        return np.cumsum([0, *map(len, self.segments)], dtype=np.int64)

    def _live(self, segment: OpenSegment) -> NDArray[np.bool_] | None:
        if not len(self.tombstones):
            return None
        live = live_mask(segment.columns.ids, self.tombstones)
        return None if live.all() else live


_RELOAD_ATTEMPTS = 20

Opened: TypeAlias = dict[DataFile, OpenSegment]
"""Segments by their file of vectors, which tells that they are the same rows."""


def load(
    storage: GalleryStorage,
    manifest: Manifest,
    previous: Snapshot | None,
    opened: Opened | None = None,
) -> Snapshot:
    """Open what a manifest names; what ``previous`` has open already is shared with it.

    ``opened`` takes in what could be opened, and is used, when the rest could not.

    Raises:
        DamagedGalleryError: naming every file that is missing, cut short or, as far as it was read,
            changed.
    """
    opened = {} if opened is None else opened
    for segment in () if previous is None else previous.segments:
        opened.setdefault(segment.entry.vectors, segment)
    segments, damage = [], []
    for entry in manifest.segments:
        old = opened.get(entry.vectors)
        if old is not None and old.entry == entry:
            segments.append(old)
            continue
        try:
            segment = open_segment(storage.segments_path, entry, manifest.dim, manifest.dtype, old)
            opened[entry.vectors] = segment
            segments.append(segment)
        except FileNotFoundError as error:
            damage.append(f"{_name(error)}: missing")
        except DamagedGalleryError as error:
            damage.append(str(error))
    if previous is not None and previous.manifest.tombstones == manifest.tombstones:
        tombstones = previous.tombstones
    else:
        try:
            tombstones = storage.read_tombstones(manifest)
        except FileNotFoundError as error:
            damage.append(f"{_name(error)}: missing")
        except DamagedGalleryError as error:
            damage.append(str(error))
    if damage:
        raise damaged(storage.root, damage)
    if previous is not None and previous.manifest.built == manifest.built:
        index = previous.index
    else:
        index = _read_index(storage, manifest)
    return Snapshot(manifest, tuple(segments), tombstones, index)


def load_newest(storage: GalleryStorage, manifest: Manifest, previous: Snapshot | None) -> Snapshot:
    """Load a state; the next one if another process took its files away meanwhile.

    What was opened of one state is kept for the next: however busy the writer, each attempt has
    less to open than the one before.
    """
    opened: Opened = {}
    for _ in range(_RELOAD_ATTEMPTS):
        try:
            return load(storage, manifest, previous, opened)
        except DamagedGalleryError:
            newer = storage.read_manifest()
            if newer == manifest:
                raise
            manifest = newer
    return load(storage, manifest, previous, opened)


def _read_index(storage: GalleryStorage, manifest: Manifest) -> "ApproximateIndex | None":
    """The index that a manifest names; None, and a word in the log, for one that is unusable."""
    if manifest.built is None:
        return None
    from reid.gallery.approximate import ApproximateIndex  # with torch, which is slow to import

    try:
        index = ApproximateIndex.read(storage.index_folder(manifest.built))
        if index.rows != manifest.built.rows or index.rows > manifest.rows:
            raise ValueError(f"it covers {index.rows} rows, expected {manifest.built.rows}")
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        logger.warning(
            "the gallery %s is searched exactly, its index cannot be used: %s", storage.root, error
        )
        return None
    return index


def _name(error: FileNotFoundError) -> str:
    return str(error.filename).replace("\\", "/").rpartition("/")[2]
