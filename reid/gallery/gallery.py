"""The gallery: features and records in, ranked hits out."""

import errno
import os
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from reid.gallery.errors import DamagedGalleryError, UndecidedWriteError
from reid.gallery.exact_index import METRICS, ExactIndex
from reid.gallery.features import check_features
from reid.gallery.manifest import Manifest, Segment, live_mask, tombstone_ids, tombstone_ranges
from reid.gallery.records import LiveRecords, Record, RecordTable, Where, check_records
from reid.gallery.storage import GalleryStorage, successor

INDEXES = ("Flat",)
_OWN_NAMES = {"lock", "segments", "manifest.json.tmp"}  # what a crash within create may leave
_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "Free some space"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "Get leave to write there"),
}
_RELOAD_ATTEMPTS = 5

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Hit:
    """One row found by a search.

    Attributes:
        id: the row's id, as :meth:`Gallery.add` returned it.
        score: higher is better: the cosine similarity in [-1, 1], or minus the Euclidean distance.
        distance: lower is better: 1 - cosine similarity, or the (unsquared) Euclidean distance.
        record: the row's record, a copy.
    """

    id: int
    score: float
    distance: float
    record: Record


class Gallery:
    """Feature vectors with records, durable on disk and searched exactly.

    Make one with :meth:`create` or :meth:`open`::

        gallery = Gallery.create("campus", dim=2048)
        ids = gallery.add(features, [dict(image=path, pid=7, camera=2), ...])
        hits = gallery.search(query_features, k=10, exclude_cameras=query_cameras)

    Ids count up from 0 in the order of adding; they are never reused and survive :meth:`compact`.

    On disk it is a folder of segments, one per :meth:`add`, and one manifest (see
    ``reid/gallery/storage.py``). Any number of processes may read while one writes: writers take
    turns by a file lock, a reader sees the gallery as it was when it opened it, or last called
    :meth:`refresh`. Within a process the methods may be called from several threads. Do not fork
    after a search: FAISS hangs in the child.
    """

    def __init__(self, storage: GalleryStorage, manifest: Manifest, lock_timeout: float) -> None:
        self._storage = storage
        self._manifest = manifest
        self._lock_timeout = lock_timeout
        self._writer = threading.Lock()  # one add, remove or compact at a time
        self._mutex = threading.RLock()  # guards what is in memory; no search waits for an fsync
        self._table = RecordTable()
        self._table_segments: tuple[str, ...] = ()
        self._index: ExactIndex | None = None
        self._index_segments: tuple[str, ...] = ()

    # -- making and opening -------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        dim: int,
        index: str = "Flat",
        metric: str = "cosine",
        *,
        model: str | None = None,
        lock_timeout: float = 10.0,
    ) -> "Gallery":
        """Make an empty gallery in a new (or empty) folder.

        Args:
            path: the folder; parents are made as needed.
            dim: length of a feature vector.
            index: ``'Flat'``, the exact index.
            metric: ``'cosine'`` (vectors are stored at unit length) or ``'euclidean'``.
            model: fingerprint of the model whose features go in, any text. Features said to come
                from another one are refused later, instead of giving meaningless neighbours.
            lock_timeout: seconds to wait for another writer.

        Raises:
            FileExistsError: the folder already holds a gallery or other files.
            ValueError: an argument is out of range; the message lists what is supported.
        """
        if isinstance(dim, bool) or not isinstance(dim, int | np.integer) or dim < 1:
            raise ValueError(f"dim must be an int of at least 1, the feature length; got {dim!r}.")
        _check_choice("index", index, INDEXES)
        _check_choice("metric", metric, METRICS)
        if model is not None and not isinstance(model, str):
            raise ValueError(f"model must be a text, the model's fingerprint; got {model!r}.")
        storage = GalleryStorage(Path(path))
        manifest = Manifest(uuid.uuid4().hex, int(dim), metric, index, model)
        _refuse_occupied(storage)
        with _saying(f"No gallery could be made at {storage.root}"):
            storage.make_folders()
            with storage.lock(lock_timeout):
                _refuse_occupied(storage)
                storage.clean(None)
                storage.commit(None, manifest)
        return cls(storage, manifest, lock_timeout)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        dim: int | None = None,
        model: str | None = None,
        lock_timeout: float = 10.0,
    ) -> "Gallery":
        """Open an existing gallery; sizes are checked now, rows are read at their first use.

        Args:
            path: the gallery's folder; it may be read-only if nothing is to be added.
            dim: refuse a gallery of another dimension.
            model: refuse a gallery filled by a model of another fingerprint.
            lock_timeout: seconds to wait for another writer.

        Raises:
            FileNotFoundError: there is no gallery.
            DamagedGalleryError: files are missing or cut short; the message names them.
            ValueError: another dimension or model than asked for.
        """
        storage = GalleryStorage(Path(path))
        gallery = cls(storage, storage.read_manifest(), lock_timeout)
        manifest = gallery._manifest
        if manifest.index not in INDEXES or manifest.metric not in METRICS:
            raise ValueError(
                f"The gallery {storage.root} has index {manifest.index!r} and metric "
                f"{manifest.metric!r}; this program reads {', '.join(INDEXES)} with "
                f"{' or '.join(METRICS)}. Open it with the program that made it."
            )
        if dim is not None and dim != manifest.dim:
            raise ValueError(
                f"The gallery {storage.root} holds dimension {manifest.dim}, not {dim}. Open it "
                "with the model that filled it, or create another gallery."
            )
        gallery._check_model(model)
        gallery._reading(storage.check_sizes)
        return gallery

    # -- what it is ---------------------------------------------------------------------------

    def __len__(self) -> int:
        """Number of rows, removed ones not counted."""
        return self._manifest.live_rows

    def __repr__(self) -> str:
        return (
            f"Gallery({str(self.path)!r}, {len(self)} rows, dim={self.dim}, index={self.index!r}, "
            f"metric={self.metric!r}, model={self.model!r})"
        )

    @property
    def path(self) -> Path:
        return self._storage.root

    @property
    def dim(self) -> int:
        return self._manifest.dim

    @property
    def index(self) -> str:
        return self._manifest.index

    @property
    def metric(self) -> str:
        return self._manifest.metric

    @property
    def model(self) -> str | None:
        """Fingerprint of the model whose features the gallery holds, or None if unknown."""
        return self._manifest.model

    @property
    def records(self) -> Mapping[int, Record]:
        """The rows' records by id, in id order; a read-only view as of now."""
        with self._mutex:
            manifest, table = self._reading(lambda manifest: (manifest, self._table_of(manifest)))
            return LiveRecords(table, live_mask(table.ids, manifest.tombstones))

    # -- changing -----------------------------------------------------------------------------

    def add(
        self, features: Any, records: Iterable[Mapping[str, Any]], *, model: str | None = None
    ) -> list[int]:
        """Append rows; when this returns they survive a kill and a power cut.

        The order on disk: (1) both segment files are written to temporary names, fsynced, renamed,
        and their folder fsynced; (2) the new manifest is written to a temporary name, fsynced, and
        renamed over the old one: this is the commit; (3) the gallery's folder is fsynced. A crash
        before (2) leaves files that the manifest does not name; the next writer deletes them. If
        this raises, disk full included, the gallery is what it was before.

        The cost is that of the batch, plus an entry per segment in the manifest, which is
        written anew: add in batches, and :meth:`compact` after very many small ones.

        Args:
            features: (N, dim), floating; normalised here when the metric is cosine.
            records: N dicts of JSON values with any of ``image``, ``pid``, ``camera``, ``time``
                and free fields.
            model: fingerprint of the model that made the features.

        Returns:
            the N new ids, ascending.

        Raises:
            ValueError: features or records are not acceptable; nothing is written.
            GalleryLockedError: another writer did not finish in time.
            OSError: the disk refused (for instance it is full).
            UndecidedWriteError: the disk failed at step (3), and again when that was being undone.
        """
        self._check_model(model)
        vectors = check_features(features, self.dim, self.metric, "features")
        checked = check_records(records)
        if len(checked) != len(vectors):
            raise ValueError(
                f"add needs one record per feature; got {len(vectors)} features and "
                f"{len(checked)} records."
            )
        if not checked:
            return []
        with self._writing() as manifest:
            ids = list(range(manifest.next_id, manifest.next_id + len(checked)))
            block = (vectors, list(zip(ids, checked, strict=True)))
            segment = self._storage.write_segment(
                manifest.generation + 1, len(ids), self.dim, [block]
            )
            self._commit(
                manifest,
                segments=(*manifest.segments, segment),
                next_id=manifest.next_id + len(ids),
            )
        return ids

    def remove(self, ids: Iterable[int]) -> int:
        """Remove rows: they are marked in the manifest, :meth:`compact` frees their space.

        Returns:
            the number of rows removed.

        Raises:
            ValueError: an id was never given or is already removed; nothing is removed then.
        """
        wanted = {_as_id(row_id) for row_id in ids}
        if not wanted:
            return 0
        with self._writing() as manifest:
            live = self.records
            unknown = sorted(row_id for row_id in wanted if row_id not in live)
            if unknown:
                shown = ", ".join(map(str, unknown[:10])) + (", ..." if len(unknown) > 10 else "")
                raise ValueError(
                    f"{len(unknown)} of {len(wanted)} ids are not in the gallery (never given, or "
                    f"removed before): {shown}. Nothing was removed."
                )
            buried = wanted.union(tombstone_ids(manifest.tombstones))
            self._commit(manifest, tombstones=tombstone_ranges(buried))
        return len(wanted)

    def compact(self) -> None:
        """Rewrite the gallery as one segment without the removed rows; ids stay what they are.

        Needs room on disk for the new segment beside the old ones. As durable as :meth:`add`.
        """
        with self._writing() as manifest:
            if len(manifest.segments) < 2 and not manifest.tombstones:
                return
            with self._mutex:
                live = live_mask(self._table_of(manifest).ids, manifest.tombstones)
            segments: tuple[Segment, ...] = ()
            if rows := int(live.sum()):
                blocks = self._storage.live_blocks(manifest, live)
                generation = manifest.generation + 1
                segments = (self._storage.write_segment(generation, rows, self.dim, blocks),)
            self._commit(manifest, segments=segments, tombstones=())
            self._storage.clean(self._manifest)

    # -- asking -------------------------------------------------------------------------------

    def search(
        self,
        features: Any,
        k: int,
        *,
        exclude_cameras: Sequence[Any] | None = None,
        where: Where | None = None,
        model: str | None = None,
    ) -> list[list[Hit]]:
        """The k nearest rows of each query: exact, best first, equal scores by ascending id.

        Args:
            features: (Q, dim) query features, floating.
            k: hits per query; fewer come back where fewer rows pass the filters.
            exclude_cameras: one camera per query whose rows that query must not see, None for no
                exclusion. Rows without a camera are never excluded.
            where: rows that all queries may see: a function record -> bool, or a dict of
                field -> value, or list of values of which one must match; a field that a record
                does not have matches None. Dicts are fast, functions are called once a row.
            model: fingerprint of the model that made the features.

        Returns:
            Q lists of at most k hits.

        Raises:
            ValueError: an argument is not acceptable, for instance features of another dimension
                or model, or not finite.
        """
        self._check_model(model)
        if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
            raise ValueError(f"k must be an int of at least 1, the hits per query; got {k!r}.")
        queries = check_features(features, self.dim, self.metric, "query features")
        cameras = _check_cameras(exclude_cameras, len(queries))
        with self._mutex:
            manifest, table, index = self._reading(
                lambda manifest: (manifest, self._table_of(manifest), self._index_of(manifest))
            )
            live = live_mask(table.ids, manifest.tombstones)
            keep = table.where_mask(where, live)
            hits: list[list[Hit]] = [[] for _ in range(len(queries))]
            for group, group_keep in table.camera_masks(cameras, keep):
                scores, rows = index.search(queries[group], int(k), group_keep)
                for query, query_scores, query_rows in zip(group, scores, rows, strict=True):
                    hits[query] = self._hits(table, query_scores, query_rows)
            return hits

    def verify(self) -> None:
        """Read every file and compare it with its sha256.

        Raises:
            DamagedGalleryError: naming every damaged file.
        """
        with self._mutex:
            self._reading(self._storage.verify)

    def refresh(self) -> bool:
        """See what other processes have written since; returns whether anything changed."""
        with self._mutex:
            return self._refresh()

    # -- parts --------------------------------------------------------------------------------

    def _hits(
        self, table: RecordTable, scores: NDArray[np.float64], rows: NDArray[np.int64]
    ) -> list[Hit]:
        cosine = self.metric == "cosine"
        if cosine:
            scores = np.clip(scores, -1.0, 1.0)  # unit vectors in float32 overshoot by 1e-7
        distances = 1.0 - scores if cosine else -scores
        found = zip(
            table.ids[rows].tolist(), scores.tolist(), distances.tolist(), rows, strict=True
        )
        return [
            Hit(row_id, score + 0.0, distance + 0.0, dict(table.records[row]))  # + 0.0: no -0.0
            for row_id, score, distance, row in found
        ]

    def _check_model(self, model: str | None) -> None:
        if model is not None and self.model is not None and model != self.model:
            raise ValueError(
                f"The gallery {self.path} holds features of model {self.model!r}; these are of "
                f"model {model!r}, and features of two models cannot be compared. Use the "
                "gallery's model, or extract the features anew into another gallery."
            )

    def _read_manifest(self) -> Manifest:
        manifest = self._storage.read_manifest()
        if manifest.uid != self._manifest.uid:
            raise ValueError(
                f"The gallery {self.path} was replaced by another one since it was opened. Open it "
                "again with Gallery.open."
            )
        return manifest

    def _refresh(self) -> bool:
        manifest = self._read_manifest()
        if manifest.generation <= self._manifest.generation:  # never behind our own last commit
            return False
        self._manifest = manifest
        return True

    @contextmanager
    def _writing(self) -> Iterator[Manifest]:
        """Hold the lock, stand on the newest manifest, and say what an OSError means."""
        intact = f"The gallery {self.path} could not be changed and is as it was before"
        with self._writer, _saying(intact), self._storage.lock(self._lock_timeout):
            with self._mutex:
                self._manifest = self._read_manifest()
            self._storage.make_folders()  # an empty folder is lost by some ways of copying
            self._storage.clean(self._manifest)
            yield self._manifest

    def _commit(self, manifest: Manifest, **changes: Any) -> None:
        new = successor(manifest, **changes)
        self._storage.commit(manifest, new)
        with self._mutex:
            self._manifest = new

    def _reading(self, read: Callable[[Manifest], T]) -> T:
        """``read(manifest)``; again if another process compacted the files away under it."""
        for _ in range(_RELOAD_ATTEMPTS):
            try:
                return read(self._manifest)
            except (FileNotFoundError, DamagedGalleryError):
                if not self._refresh():
                    raise
        return read(self._manifest)

    def _table_of(self, manifest: Manifest) -> RecordTable:
        """The records of all segments of the manifest; those not seen before are read now."""
        names = tuple(segment.name for segment in manifest.segments)
        if names[: len(self._table_segments)] != self._table_segments:
            self._table, self._table_segments = RecordTable(), ()
        for segment in manifest.segments[len(self._table_segments) :]:
            self._table.extend(*self._storage.records(segment))
            self._table_segments += (segment.name,)
        return self._table

    def _index_of(self, manifest: Manifest) -> ExactIndex:
        """The same for the vectors."""
        names = tuple(segment.name for segment in manifest.segments)
        if self._index is None or names[: len(self._index_segments)] != self._index_segments:
            self._index, self._index_segments = ExactIndex(self.dim, self.metric), ()
        for segment in manifest.segments[len(self._index_segments) :]:
            self._index.add(self._storage.vectors(segment, self.dim))
            self._index_segments += (segment.name,)
        return self._index


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
        not root.is_dir() or any(child.name not in _OWN_NAMES for child in root.iterdir())
    ):
        raise FileExistsError(f"{root} holds other files. Choose a new or empty folder.")


def _check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(
            f"{name} {value!r} is not supported; supported today: {', '.join(map(repr, choices))}."
        )


def _check_cameras(cameras: Sequence[Any] | None, queries: int) -> Sequence[Any]:
    if cameras is None:
        return [None] * queries
    if isinstance(cameras, str | bytes) or not hasattr(cameras, "__len__"):
        raise ValueError(
            f"exclude_cameras must be a list with one camera (or None) per query; got {cameras!r}."
        )
    if len(cameras) != queries:
        raise ValueError(
            f"exclude_cameras must hold one camera (or None) per query; got {len(cameras)} for "
            f"{queries} queries."
        )
    return cameras


def _as_id(row_id: Any) -> int:
    if isinstance(row_id, bool) or not isinstance(row_id, int | np.integer):
        raise ValueError(f"ids must be ints as returned by add; got {row_id!r}.")
    return int(row_id)
