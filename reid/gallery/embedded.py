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

import errno
import os
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid.gallery.approximate import ApproximateIndex, IndexReport, check_factory
from reid.gallery.columns import RecordColumns
from reid.gallery.errors import DamagedGalleryError, UndecidedWriteError
from reid.gallery.inspection import inspect
from reid.gallery.manifest import BuiltIndex, Manifest, Segment
from reid.gallery.merging import merge_start
from reid.gallery.repair import RepairReport, repair
from reid.gallery.scan import scan, scan_range
from reid.gallery.searching import Mask, search
from reid.gallery.segment import Batch, OpenSegment, SegmentRows, Source, write_records
from reid.gallery.snapshot import Snapshot, load
from reid.gallery.storage import (
    OWN_NAMES,
    GalleryStorage,
    damaged,
    logger,
    new_stem,
    successor,
)
from reid.gallery.store import DTYPES, METRICS, Found, Rows, StoreInfo
from reid.gallery.table import LiveRecords
from reid.gallery.tombstones import make_ranges, range_ids
from reid.gallery.where import Record, RowFilter

SEGMENT_ROWS = 1 << 18  # at most, so that a change of records rewrites few
_MERGED_ROWS = 1 << 16
_MERGED_BYTES = 64 << 20
_RELOAD_ATTEMPTS = 5
_BUILD_ATTEMPTS = 3
_SHOWN_CAMERAS = 1000
_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "Free some space"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "Get leave to write there"),
}


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
        _refuse_occupied(storage)
        with _saying(f"No gallery could be made at {storage.root}"):
            storage.make_folders()
            with storage.lock(lock_timeout):
                _refuse_occupied(storage)
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
        return cls(storage, _load_newest(storage, manifest, None), lock_timeout)

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
        return snapshot.take(_rows_of(snapshot, ids))

    def thumbnail(self, row_id: int) -> bytes | None:
        snapshot = self._snapshot
        return snapshot.thumbnail(int(_rows_of(snapshot, [row_id])[0]))

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
            given = _new_ids(manifest, len(vectors), ids)
            batch = Batch(RecordColumns.encode(given, records), vectors, thumbnails)
            segments = self._add_segments(snapshot, batch)
            self._commit(
                snapshot, successor(manifest, segments=segments, next_id=int(given[-1]) + 1)
            )
        return given.tolist()  # type: ignore[no-any-return]

    def remove(self, ids: Sequence[int]) -> int:
        wanted = np.unique(np.array(sorted(set(ids)), np.int64))
        if not len(wanted):
            return 0
        with self._writing() as snapshot:
            _known_rows(snapshot, wanted, "removed")
            manifest = snapshot.manifest
            ranges = make_ranges(np.concatenate([range_ids(snapshot.tombstones), wanted]))
            file = self._storage.write_tombstones(manifest.generation + 1, ranges)
            removed = manifest.removed_rows + len(wanted)
            self._commit(snapshot, successor(manifest, tombstones=file, removed_rows=removed))
        return len(wanted)

    def update(self, records: Mapping[int, Record]) -> int:
        if not records:
            return 0
        with self._writing() as snapshot:
            manifest = snapshot.manifest
            ids = np.array(sorted(records), np.int64)
            rows = _known_rows(snapshot, ids, "changed")
            segments: list[Segment] = []
            start = 0
            for segment in snapshot.segments:
                inside = rows - start
                here = (inside >= 0) & (inside < len(segment))
                start += len(segment)
                changed = {
                    row: records[row_id]
                    for row, row_id in zip(inside[here].tolist(), ids[here].tolist(), strict=True)
                }
                segments.append(self._rewritten(manifest, segment, changed))
            self._commit(snapshot, successor(manifest, segments=tuple(segments)))
        return len(records)

    def compact(self) -> None:
        with self._writing() as snapshot:
            manifest = snapshot.manifest
            least = -(-manifest.live_rows // SEGMENT_ROWS)
            if not manifest.removed_rows and len(manifest.segments) <= least:
                return
            segments = [
                self._write(manifest, sources) for sources in _packed(snapshot, SEGMENT_ROWS)
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
    ) -> IndexReport | None:
        """See :meth:`reid.gallery.Gallery.build_index`; ``'Flat'`` drops the index there is.

        It is built over the rows of now while others may read and write: rows added since are
        scanned beside it. Where a :meth:`compact` came between, it is built again.
        """
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
        for _ in range(_RELOAD_ATTEMPTS):
            manifest = self._read_manifest()
            sentences = inspect(self._storage, manifest).sentences
            if not sentences:
                return
            if self._read_manifest() == manifest:  # else files went with a change meanwhile
                break
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
            raise _gone(self._storage.root) from None
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
        self._current = _load_newest(self._storage, manifest, snapshot)
        return True

    @contextmanager
    def _writing(self) -> Iterator[Snapshot]:
        """Hold the lock, stand on the newest state, and say what an error means."""
        root = self._storage.root
        _ = self._snapshot
        with (
            self._writer,
            _saying(f"The gallery {root} could not be changed and is as it was before"),
        ):
            if not root.is_dir():
                raise _gone(root)
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


def _load_newest(
    storage: GalleryStorage, manifest: Manifest, previous: Snapshot | None
) -> Snapshot:
    """Load a state; the next one if another process compacted its files away meanwhile."""
    for _ in range(_RELOAD_ATTEMPTS):
        try:
            return load(storage, manifest, previous)
        except DamagedGalleryError:
            newer = storage.read_manifest()
            if newer == manifest:
                raise
            manifest = newer
    return load(storage, manifest, previous)


def _packed(snapshot: Snapshot, most: int) -> Iterator[list[SegmentRows]]:
    """The rows that were not removed, in runs of at most ``most`` rows."""
    run: list[SegmentRows] = []
    room = most
    for number, segment in enumerate(snapshot.segments):
        rows = snapshot.live_numbers(number)
        while len(rows):
            run.append(segment.rows(rows[:room]))
            rows, room = rows[room:], room - len(rows[:room])
            if not room:
                yield run
                run, room = [], most
    if run:
        yield run


def _gone(root: Path) -> FileNotFoundError:
    return FileNotFoundError(
        f"The gallery {root} is not there any more: its folder was deleted, moved or unmounted. "
        "Searches go on with what is in memory; put the folder back, or open the gallery where it "
        "is now."
    )


@contextmanager
def _saying(what: str) -> Iterator[None]:
    """Put ``what`` in front of an OSError of the disk, keeping its type and errno."""
    try:
        yield
    except (FileExistsError, FileNotFoundError, UndecidedWriteError):
        raise  # these have a message of their own
    except OSError as error:
        reason = f"{what}: {error.strerror or error}"
        remedy = _REMEDIES.get(error.errno or 0, "See to the disk")
        raise type(error)(error.errno, f"{reason}. {remedy}, then try again") from error


def _refuse_occupied(storage: GalleryStorage) -> None:
    root = storage.root
    if storage.manifest_path.exists():
        raise FileExistsError(
            f"There is a gallery at {root} already. Open it with Gallery.open(path), or choose "
            "another path."
        )
    if root.exists() and (
        not root.is_dir() or any(child.name not in OWN_NAMES for child in root.iterdir())
    ):
        raise FileExistsError(f"{root} holds other files. Choose a new or empty folder.")


def _check_index(index: str, dim: int, metric: str) -> None:
    if index != "Flat":
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


def _new_ids(manifest: Manifest, count: int, ids: NDArray[np.int64] | None) -> NDArray[np.int64]:
    if ids is None:
        return np.arange(manifest.next_id, manifest.next_id + count)
    ids = np.asarray(ids, np.int64)
    if ids.shape != (count,):
        raise ValueError(f"add needs one id per feature; got {ids.shape} for {count} features.")
    if (np.diff(ids) <= 0).any() or ids[0] < manifest.next_id:
        raise ValueError(
            f"ids must ascend, and begin at {manifest.next_id} or above, the next free one; got "
            f"{ids[:5].tolist()}{' ...' if count > 5 else ''}. Nothing was added."
        )
    return ids


def _rows_of(snapshot: Snapshot, ids: Sequence[int]) -> NDArray[np.int64]:
    """Row numbers; KeyError for an id that is not there."""
    inside = [row_id if 0 <= row_id < 2**63 else -1 for row_id in ids]
    rows = snapshot.table.rows_of(np.array(inside, np.int64))
    if (missing := np.flatnonzero(rows < 0)).size:
        raise KeyError(ids[int(missing[0])])
    return rows


def _known_rows(snapshot: Snapshot, ids: NDArray[np.int64], done: str) -> NDArray[np.int64]:
    """Row numbers; ValueError names ids that are not there."""
    rows = snapshot.table.rows_of(ids)
    if len(unknown := ids[rows < 0]):
        from reid.gallery.gallery import unknown_ids

        raise unknown_ids(unknown.tolist(), len(ids), done)
    return rows
