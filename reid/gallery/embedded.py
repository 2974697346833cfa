"""The gallery in a folder: rows in files that never change, and one manifest that names them.

What :meth:`EmbeddedStore.add` (and every other change) does, in this order: (1) the files of the
new rows are written to temporary names, fsynced, renamed, and their folder fsynced; (2) the new
manifest is written to a temporary name, fsynced, and renamed over the old one: this is the commit;
(3) the gallery's folder is fsynced; (4) the manifest's twin is written, for repairs. A crash before
(2) leaves files that the manifest does not name; the next writer deletes them. If a change raises,
disk full included, the gallery is what it was before; if only (3) failed, the old manifest is put
back. A failure of (4) is logged: the change is done.

Searches take the snapshot that there is (:mod:`reid.gallery.snapshot`) and go on with it, whatever
is written meanwhile by this process or others.
"""

import os
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reid.gallery.columns import RecordColumns
from reid.gallery.disk_errors import gone, saying
from reid.gallery.errors import DamagedGalleryError
from reid.gallery.inspection import inspect
from reid.gallery.manifest import BuiltIndex, Manifest, Segment
from reid.gallery.merging import merge_start
from reid.gallery.packing import packed
from reid.gallery.records import changed
from reid.gallery.repair import RepairReport, repair
from reid.gallery.row_ids import known_rows, new_ids, places, rows_of
from reid.gallery.searching import Mask, search
from reid.gallery.segment import Batch, OpenSegment, Source, write_records
from reid.gallery.snapshot import Snapshot, load, load_newest
from reid.gallery.storage import (
    GalleryStorage,
    damaged,
    logger,
    new_stem,
    refuse_occupied,
    successor,
)
from reid.gallery.store import DTYPES, METRICS, Found, Rows, StoreInfo
from reid.gallery.table import LiveRecords
from reid.gallery.tombstones import make_ranges, range_ids
from reid.gallery.where import Record, RowFilter

if TYPE_CHECKING:
    from reid.gallery.approximate import IndexReport

# What searches (reid.gallery.scan, .approximate) imports torch, which takes longer than to open a
# gallery of a million rows: it is imported at the first search.

SEGMENT_ROWS = 1 << 18  # at most, so that a change of records rewrites few
_MERGED_ROWS = 1 << 16
_MERGED_BYTES = 64 << 20
_BUILD_ATTEMPTS = 3
_SHOWN_CAMERAS = 1000


class EmbeddedStore:
    """A :class:`reid.gallery.store.Store` in a folder of this machine.

    The cost of an add is that of its rows: small segments are merged as they gather
    (:mod:`reid.gallery.merging`), which copies each row a few times in all, and keeps the manifest,
    which is written anew each time, short. Row numbers (positions of rows, removed ones counted)
    change only in :meth:`compact`.
    """

    def __init__(self, storage: GalleryStorage, snapshot: Snapshot, lock_timeout: float) -> None:
        self._storage = storage
        self._current: Snapshot | None = snapshot
        self._lock_timeout = lock_timeout
        self._uid = snapshot.manifest.uid
        self._writer = threading.Lock()  # one change at a time
        self._loading = threading.RLock()  # one loading at a time; searches never take it

    # -- making and opening -------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        dim: int,
        index: str = "Flat",
        metric: str = "cosine",
        dtype: str = "float32",
        model: str | None = None,
        *,
        lock_timeout: float = 10.0,
    ) -> "EmbeddedStore":
        """Make an empty gallery in a new (or empty) folder.

        Raises:
            FileExistsError: the folder already holds a gallery or other files.
            ValueError: an index that is not supported.
        """
        _check_index(index, dim, metric)
        storage = GalleryStorage(Path(path))
        manifest = Manifest(uuid.uuid4().hex, dim, metric, index, dtype, model)
        refuse_occupied(storage)
        with saying(f"No gallery could be made at {storage.root}"):
            storage.make_folders()
            with storage.lock(lock_timeout):
                refuse_occupied(storage)
                storage.clean(None)
                storage.commit(None, manifest)
        return cls(storage, load(storage, manifest, None), lock_timeout)

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, lock_timeout: float = 10.0) -> "EmbeddedStore":
        """Open an existing gallery: vectors are mapped, records are read and checked.

        Raises:
            FileNotFoundError: there is no gallery.
            DamagedGalleryError: files are missing, cut short or changed; the message names them.
            ValueError: a kind of gallery that this program does not know.
        """
        storage = GalleryStorage(Path(path))
        manifest = storage.read_manifest()
        if manifest.metric not in METRICS or manifest.dtype not in DTYPES:
            raise ValueError(
                f"The gallery {storage.root} has metric {manifest.metric!r} and dtype "
                f"{manifest.dtype!r}; this program reads {' or '.join(METRICS)} with "
                f"{' or '.join(DTYPES)}. Open it with the program that made it."
            )
        return cls(storage, load_newest(storage, manifest, None), lock_timeout)

    def close(self) -> None:
        self._current = None

    # -- what it is ---------------------------------------------------------------------------

    @property
    def info(self) -> StoreInfo:
        manifest = self._snapshot.manifest
        return StoreInfo(
            str(self._storage.root),
            manifest.dim,
            manifest.metric,
            manifest.index,
            manifest.dtype,
            manifest.model,
        )

    def __len__(self) -> int:
        return self._snapshot.manifest.live_rows

    @property
    def records(self) -> Mapping[int, Record]:
        return LiveRecords(self._snapshot.table)

    def columns(self, fields: Sequence[str]) -> dict[str, list[Any]]:
        table = self._snapshot.table
        return table.values(fields, table.live_rows)

    def fields(self) -> tuple[str, ...]:
        return self._snapshot.table.fields

    def vectors(self, ids: Sequence[int]) -> NDArray[np.float32]:
        snapshot = self._snapshot
        return snapshot.take(rows_of(snapshot, ids))

    def records_of(self, ids: Sequence[int]) -> list[Record]:
        snapshot = self._snapshot
        return snapshot.table.records(rows_of(snapshot, ids))

    def ids(self, rows: RowFilter) -> NDArray[np.int64]:
        table = self._snapshot.table
        keep = table.keep(rows)
        return table.ids.copy() if keep is None else table.ids[keep]

    def pictured(self, ids: Sequence[int]) -> list[bool]:
        snapshot = self._snapshot
        return [row >= 0 and snapshot.pictured(row) for row in places(snapshot, ids).tolist()]

    def thumbnail(self, row_id: int) -> bytes | None:
        snapshot = self._snapshot
        return snapshot.thumbnail(int(rows_of(snapshot, [row_id])[0]))

    def blocks(self, rows: int = 4096) -> Iterator[Rows]:
        return self._snapshot.blocks(rows)

    def stats(self) -> dict[str, Any]:
        """Rows, removed rows, bytes by kind, the index, fields, and cameras with their rows."""
        snapshot = self._snapshot
        manifest = snapshot.manifest
        sizes = {"vectors": 0, "records": 0, "thumbnails": 0, "index": 0}
        for segment in manifest.segments:
            sizes["vectors"] += segment.vectors.bytes
            sizes["records"] += segment.records.bytes
            sizes["thumbnails"] += segment.thumbnails.bytes if segment.thumbnails else 0
        if manifest.built is not None:
            sizes["index"] = sum(file.bytes for file in manifest.built.files)
        cameras = snapshot.table.counts("camera")
        cameras.sort(key=lambda pair: (isinstance(pair[0], str), pair[0]))
        return {
            "rows": manifest.live_rows,
            "removed": manifest.removed_rows,
            "segments": len(manifest.segments),
            "bytes": sizes,
            "dtype": manifest.dtype,
            "index": self._index_stats(snapshot),
            "generation": manifest.generation,
            "fields": list(snapshot.table.fields),
            "cameras": (
                [{"value": value, "rows": rows} for value, rows in cameras]
                if len(cameras) < _SHOWN_CAMERAS
                else None
            ),
        }

    # -- changing -----------------------------------------------------------------------------

    def add(
        self,
        vectors: NDArray[np.float32],
        records: Sequence[Record],
        thumbnails: Sequence[bytes | None] | None = None,
        ids: NDArray[np.int64] | None = None,
    ) -> list[int]:
        with self._writing() as snapshot:
            manifest = snapshot.manifest
            if manifest.dtype == "float16":
                _check_float16(vectors)
            given = new_ids(manifest, len(vectors), ids)
            batch = Batch(RecordColumns.encode(given, records), vectors, thumbnails)
            segments = self._add_segments(snapshot, batch)
            self._commit(
                snapshot, successor(manifest, segments=segments, next_id=int(given[-1]) + 1)
            )
        return given.tolist()  # type: ignore[no-any-return]

    def remove(self, ids: Sequence[int]) -> int:
        wanted = sorted(set(ids))
        if not wanted:
            return 0
        with self._writing() as snapshot:
            rows = known_rows(snapshot, wanted, "removed")
            manifest = snapshot.manifest
            gone = snapshot.table.ids[rows]
            ranges = make_ranges(np.concatenate([range_ids(snapshot.tombstones), gone]))
            file = self._storage.write_tombstones(manifest.generation + 1, ranges)
            removed = manifest.removed_rows + len(wanted)
            self._commit(snapshot, successor(manifest, tombstones=file, removed_rows=removed))
        return len(wanted)

    def update(self, changes: Mapping[int, Record]) -> int:
        if not changes:
            return 0
        with self._writing() as snapshot:
            manifest = snapshot.manifest
            ids = sorted(changes)
            rows = known_rows(snapshot, ids, "changed")
            old = snapshot.table.records(rows)
            segments: list[Segment] = []
            start = 0
            for segment in snapshot.segments:
                first, last = np.searchsorted(rows, [start, start + len(segment)]).tolist()
                inside = (rows[first:last] - start).tolist()
                new = {
                    row: changed(old[number], changes[ids[number]])
                    for row, number in zip(inside, range(first, last), strict=True)
                }
                segments.append(self._rewritten(manifest, segment, new))
                start += len(segment)
            self._commit(snapshot, successor(manifest, segments=tuple(segments)))
        return len(changes)

    def compact(self) -> None:
        """Rewrite the segments that are small or hold removed rows; build the index again.

        Nobody is kept from searching, nor, while the index is built, from writing.
        """
        with self._writing() as snapshot:
            manifest = snapshot.manifest
            plan = list(packed(snapshot, SEGMENT_ROWS))
            if tuple(plan) == manifest.segments:
                return
            segments = [
                part if isinstance(part, Segment) else self._write(manifest, part) for part in plan
            ]
            new = successor(
                manifest,
                segments=tuple(segments),
                tombstones=None,
                removed_rows=0,
                numbering=manifest.numbering + 1,
                built=None,
            )
            self._commit(snapshot, new)
        if (built := manifest.built) is not None and new.live_rows:
            try:
                self.build_index(built.factory, recall=built.recall, k=built.k, seed=built.seed)
            except ValueError as error:  # typically too few rows are left to train it
                logger.warning("the index was not built again, search is exact: %s", error)

    def build_index(
        self,
        factory: str | None = None,
        *,
        recall: float = 0.99,
        k: int = 10,
        queries: NDArray[np.float32] | None = None,
        seed: int = 0,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> "IndexReport | None":
        """See :meth:`reid.gallery.Gallery.build_index`; ``'Flat'`` drops the index there is.

        It is built over the rows of now while others may read and write: rows added since are
        scanned beside it. Where a :meth:`compact` came between, it is built again.
        """
        from reid.gallery.approximate import ApproximateIndex

        for _ in range(_BUILD_ATTEMPTS):
            self.refresh()
            snapshot = self._snapshot
            manifest = snapshot.manifest
            wanted = manifest.index if factory is None else factory
            if wanted == "Flat":
                self._drop_index(factory)
                return None
            _check_index(wanted, manifest.dim, manifest.metric)
            index = ApproximateIndex.build(
                snapshot.vectors,
                wanted,
                manifest.metric,
                live=snapshot.table.live,
                recall=recall,
                k=k,
                queries=queries,
                seed=seed,
                progress=progress,
            )
            with self._writing() as now:
                if now.manifest.numbering != manifest.numbering:
                    continue
                generation = now.manifest.generation + 1
                folder, files = self._storage.adopt_index(generation, index.write)
                built = BuiltIndex(folder, index.rows, wanted, recall, k, seed, files)
                self._commit(now, successor(now.manifest, index=wanted, built=built))
            return index.report
        raise RuntimeError(
            f"The gallery {self._storage.root} was compacted {_BUILD_ATTEMPTS} times while its "
            "index was built. Build it when nothing else compacts it."
        )

    def _drop_index(self, factory: str | None) -> None:
        if factory is None:
            raise ValueError(
                "This gallery's index is 'Flat': its search is exact and needs no index. To make "
                "one, name it: build_index('IVF1024,Flat')."
            )
        with self._writing() as snapshot:
            self._commit(snapshot, successor(snapshot.manifest, index="Flat", built=None))

    @classmethod
    def repair(cls, path: str | os.PathLike[str], *, lock_timeout: float = 10.0) -> RepairReport:
        """Put right a damaged gallery, also one that does not open: :func:`.repair.repair`."""
        return repair(path, lock_timeout=lock_timeout)

    # -- asking -------------------------------------------------------------------------------

    def search(self, queries: NDArray[np.float32], k: int, rows: RowFilter, exact: bool) -> Found:
        from reid.gallery.scan import scan

        snapshot = self._snapshot
        metric = snapshot.manifest.metric

        index = None if exact else snapshot.index

        def ask(asked: NDArray[np.float32], more: int, mask: Mask) -> Any:
            if index is None:
                return *scan(snapshot.vectors, asked, k + more, metric, mask), None
            numbers, scores, all_seen = index.search(
                snapshot.vectors, asked, k + more, metric, mask
            )
            return numbers, scores, None if all_seen else index.recall_at(k + more)

        return search(snapshot, queries, rows, k, ask)

    def search_range(
        self, queries: NDArray[np.float32], min_score: float, rows: RowFilter, limit: int | None
    ) -> Found:
        from reid.gallery.scan import scan_range

        snapshot = self._snapshot
        metric = snapshot.manifest.metric

        def ask(asked: NDArray[np.float32], more: int, mask: Mask) -> Any:
            most = None if limit is None else limit + more
            return *scan_range(snapshot.vectors, asked, min_score, metric, mask, most), None

        return search(snapshot, queries, rows, limit, ask)

    def verify(self) -> None:
        """Read everything and compare it with its checksums.

        Raises:
            DamagedGalleryError: naming all that is damaged.
        """
        _ = self._snapshot
        manifest = self._read_manifest()
        sentences = inspect(self._storage, manifest).sentences
        if sentences:  # a file that a change took away meanwhile is not damaged
            names = self._storage.names(self._read_manifest())
            sentences = [line for line in sentences if line.partition(":")[0] in names]
        if sentences:
            raise damaged(self._storage.root, sentences)

    def refresh(self) -> bool:
        with self._loading:
            return self._follow(self._read_manifest())

    # -- parts --------------------------------------------------------------------------------

    @property
    def _snapshot(self) -> Snapshot:
        if (snapshot := self._current) is None:
            raise ValueError(
                f"The gallery {self._storage.root} was closed. Open it again with Gallery.open."
            )
        return snapshot

    def _index_stats(self, snapshot: Snapshot) -> dict[str, Any]:
        index, built = snapshot.index, snapshot.manifest.built
        state: dict[str, Any] = {"factory": snapshot.manifest.index, "built": index is not None}
        if index is not None and built is not None:
            state |= {"rows": index.rows, "k": built.k, "recall": index.recall}
            state["setting"] = index.setting
        return state

    def _read_manifest(self) -> Manifest:
        try:
            manifest = self._storage.read_manifest()
        except FileNotFoundError:
            raise gone(self._storage.root) from None
        if manifest.uid != self._uid:
            raise ValueError(
                f"The gallery {self._storage.root} was replaced by another one since it was "
                "opened. Open it again with Gallery.open."
            )
        return manifest

    def _follow(self, manifest: Manifest) -> bool:
        """Stand on the newest state; whether it is another one."""
        snapshot = self._snapshot
        if manifest == snapshot.manifest:
            return False
        self._current = load_newest(self._storage, manifest, snapshot)
        return True

    @contextmanager
    def _writing(self) -> Iterator[Snapshot]:
        """Hold the lock, stand on the newest state, and say what an error means."""
        root = self._storage.root
        _ = self._snapshot
        with (
            self._writer,
            saying(f"The gallery {root} could not be changed and is as it was before"),
        ):
            if not root.is_dir():
                raise gone(root)
            with self._storage.lock(self._lock_timeout):
                with self._loading:
                    self._follow(self._read_manifest())
                    snapshot = self._snapshot
                self._storage.make_folders()  # an empty folder is lost by some ways of copying
                if self._storage.back_up():
                    self._storage.clean(snapshot.manifest)
                yield snapshot

    def _commit(self, snapshot: Snapshot, new: Manifest) -> None:
        after = load(self._storage, new, snapshot)  # while nothing is decided
        self._storage.commit(snapshot.manifest, new)
        with self._loading:
            if self._current is not None:
                self._current = after

    def _write(self, manifest: Manifest, sources: Sequence[Source]) -> Segment:
        try:
            return self._storage.write_segment(
                manifest.generation + 1, sources, manifest.dim, manifest.dtype
            )
        except DamagedGalleryError as error:
            raise damaged(self._storage.root, [str(error)]) from error

    def _add_segments(self, snapshot: Snapshot, batch: Batch) -> tuple[Segment, ...]:
        """The segments with the new rows, which may be merged with the last ones there are."""
        manifest = snapshot.manifest
        old = snapshot.segments
        rows = len(batch.vectors)
        if rows > SEGMENT_ROWS:
            parts = [batch.part(slice(s, s + SEGMENT_ROWS)) for s in range(0, rows, SEGMENT_ROWS)]
            return (*manifest.segments, *(self._write(manifest, [part]) for part in parts))
        sizes = [sum(file.bytes for file in segment.files) for segment in manifest.segments]
        thumbnails = sum(len(picture or b"") for picture in batch.thumbnails or ())
        start = merge_start(
            [*map(len, old), rows],
            [*sizes, rows * manifest.dim * np.dtype(manifest.dtype).itemsize + thumbnails],
            _MERGED_ROWS,
            _MERGED_BYTES,
        )
        merged: list[Source] = [segment.rows() for segment in old[start:]]
        try:
            segment = self._write(manifest, [*merged, batch])
        except DamagedGalleryError as error:
            logger.warning("small segments were not merged: %s", error)
            return (*manifest.segments, self._write(manifest, [batch]))
        return (*manifest.segments[:start], segment)

    def _rewritten(
        self, manifest: Manifest, segment: OpenSegment, changed: Mapping[int, Record]
    ) -> Segment:
        if not changed:
            return segment.entry
        records = write_records(
            self._storage.segments_path,
            new_stem(manifest.generation + 1),
            segment.columns.with_records(changed),
            segment.crc32,
            segment.pictures,
        )
        self._storage.sync_segments((records,))
        return replace(segment.entry, records=records)


def _check_index(index: str, dim: int, metric: str) -> None:
    if index != "Flat":
        from reid.gallery.approximate import check_factory

        check_factory(index, dim, metric)


def _check_float16(vectors: NDArray[np.float32]) -> None:
    largest = np.abs(vectors).max(axis=1)
    if (bad := largest > np.finfo(np.float16).max).any():
        rows = np.flatnonzero(bad)
        raise ValueError(
            f"features reach {largest.max():g}, which is too large for this gallery's float16 (at "
            f"most 65504), in {len(rows)} rows, the first {rows[0]}. Scale them, or make a gallery "
            "with dtype='float32'. Nothing was added."
        )
