"""The gallery as a collection of Milvus: for more rows than one machine holds, and many writers.

Answers are those of a gallery in a folder. Milvus picks the rows that may be among the best, with
some to spare; their scores are then computed here in float64 from the vectors as they are stored
(:mod:`reid.gallery.scores`), and more rows are asked for until the error of Milvus's float32 scores
cannot matter. What its expressions cannot say (a function as filter), what is beyond its limit of
16,384 rows an answer, and exact search in a collection with an approximate index are answered by
reading the allowed rows through this client: exact, but as slow as that.

Every call asks for ``Strong`` consistency: what any client was told to be written is seen.

- Ids are reserved by claims in a second collection, ``NAME_reidseg``: any number of clients may add
  at a time, and no id is ever given twice.
- Milvus has no transactions. A call sends its rows in parts; if a part fails, what went before is
  taken back. A client that dies, or loses the server, between two parts leaves some of the rows of
  that call. Rows are durable when the server has them in its log, as it is configured.
- Two clients that change one row at the same time: the later one wins, and may undo the other's.
- :meth:`MilvusStore.blocks` walks by ids: rows added meanwhile are left out, but rows removed or
  changed meanwhile may be seen as they were or as they are.
- A record as JSON, and a thumbnail as base64, are limited to 65,535 characters each.
- A file of milvus-lite belongs to the first process that opens it, until it closes it.
"""

import json
import random
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reid.gallery.address import parse_address
from reid.gallery.errors import DamagedGalleryError, GalleryLockedError
from reid.gallery.milvus_connection import LIMIT, Connection
from reid.gallery.milvus_filter import COLUMNS, conjunction, listed
from reid.gallery.milvus_rows import (
    BLOCK_BYTES,
    FORMAT,
    META_FIELDS,
    gallery_fields,
    index_type,
    is_sound,
    meta_name,
    meta_row,
    new_row,
    parts,
    picture_of,
    read_info,
    record_columns,
)
from reid.gallery.milvus_search import MilvusSearch
from reid.gallery.records import changed
from reid.gallery.store import Found, Rows, StoreInfo
from reid.gallery.where import Record, RowFilter, unknown_ids

_CLAIM_ATTEMPTS = 50
_COPYING = "copying"


class _Meta(NamedTuple):
    """What the second collection says."""

    claims: dict[str, int]
    """By claim, the first id that it leaves to others: the highest is the next id."""
    stamp: str
    """Of the last write."""
    copying: bool
    """Whether rows come that bring their ids."""

    @property
    def next_id(self) -> int:
        return max(self.claims.values(), default=0)


class MilvusStore:
    """A :class:`reid.gallery.store.Store` in a collection of Milvus; see the module's text."""

    def __init__(self, connection: Connection, info: StoreInfo) -> None:
        self._milvus = connection
        self._name = connection.address.collection
        self._info = info
        self._claims: dict[str, int] = {}
        self._writer = threading.Lock()
        self._stamp = self._read_meta().stamp
        self._search = MilvusSearch(connection, info, self._walk, self.fields)

    # -- making and opening -------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        address: str,
        dim: int,
        index: str = "Flat",
        metric: str = "cosine",
        dtype: str = "float32",
        model: str | None = None,
    ) -> "MilvusStore":
        """Make an empty gallery: a new collection, and one for what is known about it.

        Args:
            index: ``'Flat'``, exact; or ``'IVF1024,Flat'`` or ``'HNSW32'``, approximate, whose
                recall nobody has measured.

        Raises:
            FileExistsError: there is such a collection already.
            ValueError: an argument that cannot be had in Milvus.
            OSError: the server is not reached, or refuses.
            ImportError: pymilvus (or milvus-lite) is not installed.
        """
        parsed = parse_address(address)
        metric_type = {"cosine": "IP", "euclidean": "L2"}[metric]
        kind, build = index_type(index)
        if dtype != "float32":
            raise ValueError(
                f"dtype {dtype!r} cannot be had in Milvus; vectors are kept as float32 there. "
                "Vectors of a float16 gallery fit exactly: create(..., dtype='float32')."
            )
        if not 1 <= dim <= 32768:
            raise ValueError(f"dim must be 1..32,768 in Milvus; got {dim}.")
        connection = Connection(parsed)
        name = parsed.collection
        try:
            if connection.has(name):
                raise FileExistsError(
                    f"There is a collection at {parsed.text} already. Open it with Gallery.open, "
                    "or choose another name."
                )
            info = StoreInfo(parsed.text, dim, metric, index, dtype, model)
            if connection.has(meta_name(name)):  # of a gallery that was dropped, or half made
                connection.drop(meta_name(name))
            connection.create(meta_name(name), META_FIELDS, ("FLAT", {}, "L2"))
            about = {"format": FORMAT, **asdict(info)}
            del about["location"]
            connection.upsert(meta_name(name), [meta_row("gallery", json.dumps(about))])
            connection.create(name, gallery_fields(dim), (kind, build, metric_type))
        except BaseException:
            connection.close()
            raise
        return cls(connection, info)

    @classmethod
    def open(cls, address: str) -> "MilvusStore":
        """Open a gallery.

        Raises:
            FileNotFoundError: there is no such collection.
            ValueError: a collection that is no gallery, or of another version.
            OSError, ImportError: as in :meth:`create`.
        """
        parsed = parse_address(address)
        connection = Connection(parsed)
        try:
            info = read_info(connection)
            connection.load(meta_name(parsed.collection))
            connection.load(parsed.collection)
        except BaseException:
            connection.close()
            raise
        return cls(connection, info)

    def close(self) -> None:
        """Give back the connection; the file of milvus-lite, too, when nobody here has it open."""
        self._milvus.close()

    # -- what it is ---------------------------------------------------------------------------

    @property
    def info(self) -> StoreInfo:
        return self._info

    def __len__(self) -> int:
        return self._milvus.count(self._name, "")

    def __repr__(self) -> str:
        return f"MilvusStore({self._info.location!r})"

    @property
    def records(self) -> Mapping[int, Record]:
        """A view that asks the server for every record, as of then; walking it goes in blocks."""
        return _Records(self)

    def fields(self) -> tuple[str, ...]:
        """Reads all records."""
        found: set[str] = set()
        for rows in self._walk("", ["record"]):
            for row in rows:
                found.update(json.loads(row["record"]))
        return tuple(sorted(found))

    def columns(self, fields: Sequence[str]) -> dict[str, list[Any]]:
        """Reads all records."""
        columns: dict[str, list[Any]] = {field: [] for field in fields}
        for rows in self._walk("", ["record"]):
            for row in rows:
                record = json.loads(row["record"])
                for field, values in columns.items():
                    values.append(record.get(field))
        return columns

    def stats(self) -> dict[str, Any]:
        rows, given = len(self), self._read_meta().next_id
        return {
            "rows": rows,
            "removed": given - rows,  # ids given to rows that are not there
            "next_id": given,
            "kind": "milvus-lite" if self._milvus.address.lite else "milvus",
            "server_version": self._milvus.version(),
            "index": self._info.index,
        }

    def refresh(self) -> bool:
        """Nothing to do, for every call sees the newest; whether any client wrote since."""
        before, self._stamp = self._stamp, self._read_meta().stamp
        return self._stamp != before

    # -- changing -----------------------------------------------------------------------------

    def add(
        self,
        vectors: NDArray[np.float32],
        records: Sequence[Record],
        thumbnails: Sequence[bytes | None] | None = None,
        ids: NDArray[np.int64] | None = None,
    ) -> list[int]:
        pictures = [None] * len(records) if thumbnails is None else thumbnails
        triples = zip(vectors, records, pictures, strict=True)
        rows = [new_row(number, *triple) for number, triple in enumerate(triples)]
        with self._writer:
            given = self._reserve(len(rows)) if ids is None else self._begin_copy(ids)
            numbers: list[int] = given.tolist()
            for row, row_id in zip(rows, numbers, strict=True):
                row["id"] = row_id
            try:
                self._send(rows, [])
            except OSError:
                if ids is not None:
                    self._milvus.delete(meta_name(self._name), _any_of([_COPYING]))
                raise
            if ids is not None:
                self._end_copy(numbers[-1] + 1)
            self._leave_stamp()
        return numbers

    def remove(self, ids: Sequence[int]) -> int:
        with self._writer:
            self._fetch(ids, ["id"], "removed")
            for part in parts(ids, LIMIT // 4):
                self._milvus.delete(self._name, f"id in {list(part)}")
            self._leave_stamp()
        return len(ids)

    def update(self, changes: Mapping[int, Record]) -> int:
        with self._writer:
            columns = ["id", "vector", "record", "thumbnail", "fields", "keys", *COLUMNS]
            old = self._fetch(list(changes), columns, "changed")
            rows = []
            for number, (row_id, change) in enumerate(changes.items()):
                record = changed(json.loads(old[row_id]["record"]), change)
                rows.append({**old[row_id], **record_columns(number, record)})
            self._send(rows, list(old.values()))
            self._leave_stamp()
        return len(rows)

    def build_index(self, factory: str | None, **_: Any) -> Any:
        raise ValueError(
            f"{self._info.location} is indexed by the server, as it was created: make another "
            "collection, Gallery.create(address, dim, index='HNSW32'), and copy the rows into it."
        )

    def compact(self) -> None:
        """Ask the server to rewrite what has many removed rows, which it does when it likes."""
        self._milvus.compact(self._name)

    def verify(self) -> None:
        """Read all rows: what can be seen from outside is looked at, not the server's own files.

        Raises:
            DamagedGalleryError: rows without a vector that is right, records that cannot be read,
                keys that are not those of their record, or other numbers of rows than counted.
        """
        count, faults, walked = len(self), list[str](), 0
        columns = ["vector", "record", "fields", "keys", *COLUMNS]
        for rows in self._walk("", columns):
            walked += len(rows)
            vectors = np.array([row["vector"] for row in rows], np.float32)
            lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
            wrong = ~np.isfinite(lengths)
            if self._info.metric == "cosine":
                wrong |= np.abs(lengths - 1) > 1e-3
            faults += [f"id {rows[i]['id']}: vector" for i in np.flatnonzero(wrong).tolist()]
            faults += [f"id {row['id']}: record" for row in rows if not is_sound(row)]
        if walked != count:
            faults.append(f"{count} rows are counted, but {walked} are there")
        if faults:
            shown = "; ".join(faults[:20]) + ("; ..." if len(faults) > 20 else "")
            raise DamagedGalleryError(
                f"The gallery {self._info.location} is damaged, or was changed meanwhile "
                f"({len(faults)} faults): {shown}."
            )

    # -- asking -------------------------------------------------------------------------------

    def search(self, queries: NDArray[np.float32], k: int, rows: RowFilter, exact: bool) -> Found:
        return self._search.best(queries, k, rows, exact)

    def search_range(
        self, queries: NDArray[np.float32], min_score: float, rows: RowFilter, limit: int | None
    ) -> Found:
        return self._search.reaching(queries, min_score, rows, limit)

    def vectors(self, ids: Sequence[int]) -> NDArray[np.float32]:
        rows = self._fetch(ids, ["id", "vector"], None)
        vectors = [rows[row_id]["vector"] for row_id in ids]
        return np.array(vectors, np.float32).reshape(len(ids), self._info.dim)

    def records_of(self, ids: Sequence[int]) -> list[Record]:
        found = self._fetch(ids, ["id", "record"], None)
        return [json.loads(found[row_id]["record"]) for row_id in ids]

    def ids(self, rows: RowFilter) -> NDArray[np.int64]:
        return self._search.passing(rows)

    def pictured(self, ids: Sequence[int]) -> list[bool]:
        found: set[int] = set()
        for part in parts([row_id for row_id in ids if 0 <= row_id < 2**63], LIMIT // 4):
            text = f'id in {list(part)} and thumbnail != ""'
            found.update(row["id"] for row in self._milvus.query(self._name, text, ["id"]))
        return [row_id in found for row_id in ids]

    def thumbnail(self, row_id: int) -> bytes | None:
        return picture_of(self._fetch([row_id], ["id", "thumbnail"], None)[row_id])

    def blocks(self, rows: int = 4096) -> Iterator[Rows]:
        walk = self._walk("", ["vector", "record", "thumbnail"])
        for block in (part for found in walk for part in parts(found, rows)):
            yield Rows(
                np.array([row["id"] for row in block], np.int64),
                np.array([row["vector"] for row in block], np.float32),
                [json.loads(row["record"]) for row in block],
                [picture_of(row) for row in block],
            )

    # -- rows -----------------------------------------------------------------------------------

    def _walk(self, filter_: str, columns: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
        """Rows by ascending id, a range of ids at a time: Milvus's own iterator may not end."""
        step = BLOCK_BYTES // (4 * self._info.dim + 1024)
        step = min(max(step, 256), 4096)
        for start in range(0, self._read_meta().next_id, step):
            text = conjunction([filter_, f"id >= {start} and id < {start + step}"])
            found = self._milvus.query(self._name, text, ["id", *columns])
            if found:
                yield sorted(found, key=lambda row: int(row["id"]))

    def _fetch(
        self, ids: Sequence[int], columns: Sequence[str], done: str | None
    ) -> dict[int, dict[str, Any]]:
        """Rows by id; an error where one is not there: KeyError, or, with ``done``, ValueError."""
        found: dict[int, dict[str, Any]] = {}
        step = min(LIMIT // 4, max(256, BLOCK_BYTES // (4 * self._info.dim)))
        for part in parts([row_id for row_id in ids if 0 <= row_id < 2**63], step):
            for row in self._milvus.query(self._name, f"id in {list(part)}", columns):
                found[row["id"]] = row
        unknown = [row_id for row_id in ids if row_id not in found]
        if unknown and done is None:
            raise KeyError(unknown[0])
        if unknown and done is not None:
            raise unknown_ids(unknown, len(ids), done)
        return found

    def _send(self, rows: Sequence[dict[str, Any]], old: Sequence[dict[str, Any]]) -> None:
        """Write rows; if a part fails, ``old`` ones are put back, and those without one deleted."""
        step = max(1, BLOCK_BYTES // (4 * self._info.dim + 2048))
        begun = 0
        try:
            for start in range(0, len(rows), step):
                begun = start + step
                self._milvus.upsert(self._name, rows[start:begun])
        except Exception as error:
            earlier = {row["id"]: row for row in old}
            ids = [row["id"] for row in rows[:begun]]
            try:
                for part in parts([i for i in ids if i not in earlier], LIMIT // 4):
                    self._milvus.delete(self._name, f"id in {list(part)}")
                for same in parts([earlier[i] for i in ids if i in earlier], step):
                    self._milvus.upsert(self._name, list(same))
            except OSError:
                raise OSError(
                    f"{error} Nor could the rows be taken back that were written before: some of "
                    f"the ids {ids[0]}..{ids[-1]} may be there. Look at them when the server "
                    "answers again."
                ) from error
            raise

    # -- what is known about the gallery --------------------------------------------------------

    def _read_meta(self) -> _Meta:
        rows = self._milvus.query(meta_name(self._name), 'key != ""', ["key", "value"])
        values = {row["key"]: row["value"] for row in rows}
        claims = {key: int(value) for key, value in values.items() if key.startswith("ids-")}
        return _Meta(claims, values.get("stamp", ""), _COPYING in values)

    def _leave_stamp(self) -> None:
        self._stamp = uuid.uuid4().hex
        self._milvus.upsert(meta_name(self._name), [meta_row("stamp", self._stamp)])

    def _reserve(self, count: int) -> NDArray[np.int64]:
        """Ids that no other client gets.

        A claim is written first and looked for others afterwards: of two clients that claim at the
        same time at least one sees the other's claim. Whoever sees one gives up its own and tries
        again above that, so that two never go on with the same ids. The highest claim always stays.
        """
        meta = meta_name(self._name)
        known = self._claims
        for attempt in range(_CLAIM_ATTEMPTS):
            if attempt or not known:
                known = self._read_meta().claims
            first = max(known.values(), default=0)
            key = f"ids-{uuid.uuid4().hex}"
            self._milvus.upsert(meta, [meta_row(key, str(first + count))])
            seen = self._read_meta()
            if set(seen.claims) - set(known) == {key} and not seen.copying:
                if known:
                    self._milvus.delete(meta, _any_of(known))
                self._claims = {key: first + count}
                return np.arange(first, first + count)
            self._milvus.delete(meta, _any_of([key]))
            if seen.copying:
                raise GalleryLockedError(
                    f"A copy into {self._info.location} goes on, or was broken off. Wait for it, "
                    "or do it again: copy_gallery goes on where it was."
                )
            time.sleep(random.uniform(0, 0.02 * (attempt + 1)))
        raise GalleryLockedError(
            f"Other clients add to {self._info.location} all the time: no ids could be reserved in "
            f"{_CLAIM_ATTEMPTS} attempts. Add larger batches, or from fewer clients."
        )

    def _begin_copy(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows that bring their ids: others' adds are refused until these are there.

        The claim on the ids comes after the rows, so that a copy that was broken off can be done
        again.
        """
        meta = meta_name(self._name)
        known = self._read_meta().claims
        self._check_ids(ids, max(known.values(), default=0))
        self._milvus.upsert(meta, [meta_row(_COPYING, str(int(ids[0])))])
        claims = self._read_meta().claims
        if set(claims) - set(known):
            self._milvus.delete(meta, _any_of([_COPYING]))
            raise GalleryLockedError(
                f"Another client adds to {self._info.location}; copy into it when nobody does."
            )
        self._claims = claims
        return ids

    def _end_copy(self, stop: int) -> None:
        meta = meta_name(self._name)
        key = f"ids-{uuid.uuid4().hex}"
        self._milvus.upsert(meta, [meta_row(key, str(stop))])
        self._milvus.delete(meta, _any_of([*self._claims, _COPYING]))
        self._claims = {key: stop}

    def _check_ids(self, ids: NDArray[np.int64], first: int) -> None:
        if ids[0] < first or np.any(np.diff(ids) <= 0):
            raise ValueError(
                f"ids must ascend, and be at least {first}: all below were given before in "
                f"{self._info.location}. Copy into an empty gallery."
            )


class _Records(Mapping[int, Record]):
    """Asks for single records, or for blocks where one walks; keeps what it walked over."""

    def __init__(self, store: MilvusStore) -> None:
        self._store = store
        self._read: dict[int, str] = {}  # dict(view) first takes all ids, then asks for each

    def __len__(self) -> int:
        return len(self._store)

    def __iter__(self) -> Iterator[int]:
        for rows in self._store._walk("", ["record"]):
            texts = {int(row["id"]): row["record"] for row in rows}
            self._read.update(texts)
            yield from texts

    def __getitem__(self, row_id: int) -> Record:
        text = self._read.get(row_id)
        if text is None:
            text = self._store._fetch([row_id], ["id", "record"], None)[row_id]["record"]
        record: Record = json.loads(text)
        return record


def _any_of(keys: Sequence[str] | Mapping[str, Any]) -> str:
    return listed("key", list(keys))
