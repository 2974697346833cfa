"""The gallery: features and records in, ranked hits out."""

import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reid.gallery.address import is_address
from reid.gallery.features import check_features
from reid.gallery.hits import Hit, SearchResult
from reid.gallery.records import check_changes, check_records, is_picture
from reid.gallery.store import DTYPES, METRICS, Found, Rows, Store
from reid.gallery.where import (
    Record,
    RowFilter,
    Where,
    as_id,
    as_ids,
    make_filter,
    unknown_field,
    value_key,
)

if TYPE_CHECKING:
    from reid.gallery.repair import RepairReport

_POOLS = ("mean", "best")
_GROUPED_FIRST = 4  # rows asked for at first for each group


class Gallery:
    """Feature vectors with records, durable and searched exactly.

    Make one with :meth:`create` or :meth:`open`::

        gallery = Gallery.create("campus", dim=2048)
        ids = gallery.add(features, [dict(image=path, pid=7, camera=2), ...])
        hits = gallery.search(query_features, k=10, exclude_cameras=query_cameras)

    Ids count up from 0 in the order of adding; they are never reused and survive :meth:`compact`.

    A path is a folder on this machine (:mod:`reid.gallery.embedded` says how it is kept, and what
    survives what). ``milvus://HOST:PORT/COLLECTION`` is a collection of a Milvus server, and
    ``milvus-lite:FILE.db/COLLECTION`` one of Milvus's own file (:mod:`reid.gallery.milvus`), with
    the same methods and, for exact search and filters, the same answers.

    Of a folder any number of processes may read while one writes: writers take turns by a file
    lock, a reader sees the gallery as it was when it opened it, or last called :meth:`refresh`, or
    last changed it. Within a process the methods may be called from several threads, and no search
    waits for a write. Do not fork after a search: native threads do not survive it and the child
    hangs; use spawn or forkserver.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    # -- making and opening -------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        dim: int,
        index: str = "Flat",
        metric: str = "cosine",
        *,
        dtype: str = "float32",
        model: str | None = None,
        lock_timeout: float = 10.0,
    ) -> "Gallery":
        """Make an empty gallery in a new (or empty) folder, or a new collection.

        Args:
            path: the folder, whose parents are made as needed, or an address.
            dim: length of a feature vector.
            index: ``'Flat'``, exact search; or a FAISS factory string such as
                ``'IVF1024,Flat'`` or ``'HNSW32,SQfp16'``, an approximate index that
                :meth:`build_index` makes and whose recall it measures. Until then search is exact.
            metric: ``'cosine'`` (vectors are stored at unit length) or ``'euclidean'``.
            dtype: ``'float32'``, or ``'float16'``: half the disk and memory, and searched faster
                where memory is the limit; scores differ by about 1e-4 from those of float32.
            model: fingerprint of the model whose features go in, any text. Features said to come
                from another one are refused later, instead of giving meaningless neighbours.
            lock_timeout: seconds to wait for another writer.

        Raises:
            FileExistsError: there is a gallery, or other files, already.
            ValueError: an argument is out of range; the message lists what is supported.
        """
        if isinstance(dim, bool) or not isinstance(dim, int | np.integer) or dim < 1:
            raise ValueError(f"dim must be an int of at least 1, the feature length; got {dim!r}.")
        _check_choice("metric", metric, METRICS)
        _check_choice("dtype", dtype, DTYPES)
        if model is not None and not isinstance(model, str):
            raise ValueError(f"model must be a text, the model's fingerprint; got {model!r}.")
        if is_address(path):
            from reid.gallery.milvus import MilvusStore

            return cls(MilvusStore.create(str(path), int(dim), index, metric, dtype, model))
        from reid.gallery.embedded import EmbeddedStore

        store = EmbeddedStore.create(
            Path(path), int(dim), index, metric, dtype, model, lock_timeout=lock_timeout
        )
        return cls(store)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        dim: int | None = None,
        model: str | None = None,
        lock_timeout: float = 10.0,
    ) -> "Gallery":
        """Open an existing gallery; vectors of a folder are mapped into memory, not read.

        Args:
            path: the gallery's folder, which may be read-only if nothing is to be added; or an
                address.
            dim: refuse a gallery of another dimension.
            model: refuse a gallery filled by a model of another fingerprint.
            lock_timeout: seconds to wait for another writer.

        Raises:
            FileNotFoundError: there is no gallery.
            DamagedGalleryError: files are missing or cut short; the message names them.
            ValueError: another dimension or model than asked for.
        """
        store: Store
        if is_address(path):
            from reid.gallery.milvus import MilvusStore

            store = MilvusStore.open(str(path))
        else:
            from reid.gallery.embedded import EmbeddedStore

            store = EmbeddedStore.open(Path(path), lock_timeout=lock_timeout)
        gallery = cls(store)
        if dim is not None and dim != gallery.dim:
            raise ValueError(
                f"The gallery {gallery.location} holds dimension {gallery.dim}, not {dim}. Use the "
                f"model that filled it, or create another one: Gallery.create(path, {dim})."
            )
        gallery._check_model(model)
        return gallery

    def close(self) -> None:
        """Give back files and connections; also at the end of ``with Gallery.open(...) as g``."""
        self._store.close()

    def __enter__(self) -> "Gallery":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- what it is ---------------------------------------------------------------------------

    def __len__(self) -> int:
        """Number of rows, removed ones not counted."""
        return len(self._store)

    def __repr__(self) -> str:
        return (
            f"Gallery({self.location!r}, {len(self)} rows, dim={self.dim}, index={self.index!r}, "
            f"metric={self.metric!r}, dtype={self.dtype!r}, model={self.model!r})"
        )

    @property
    def store(self) -> Store:
        """Where the rows are; for what only one kind of place can do."""
        return self._store

    @property
    def location(self) -> str:
        """The folder or address that it was opened by."""
        return self._store.info.location

    @property
    def path(self) -> Path:
        """The folder of a gallery on this machine."""
        return Path(self._store.info.location)

    @property
    def dim(self) -> int:
        return self._store.info.dim

    @property
    def index(self) -> str:
        return self._store.info.index

    @property
    def metric(self) -> str:
        return self._store.info.metric

    @property
    def dtype(self) -> str:
        return self._store.info.dtype

    @property
    def model(self) -> str | None:
        """Fingerprint of the model whose features the gallery holds, or None if unknown."""
        return self._store.info.model

    @property
    def records(self) -> Mapping[int, Record]:
        """The rows' records by id, in id order; a read-only view as of now."""
        return self._store.records

    def records_of(self, ids: Iterable[int]) -> list[Record]:
        """The records of some rows, at once; KeyError for an id that is not in the gallery."""
        return self._store.records_of(as_ids(ids))

    def fields(self) -> tuple[str, ...]:
        """The names of all fields that any record has, sorted: what ``where`` may name."""
        return self._store.fields()

    def ids(self, where: Where | None = None) -> list[int]:
        """The ids of all rows that ``where`` lets pass (see :meth:`search`), ascending."""
        return self._store.ids(make_filter(where, None, None, 0)).tolist()  # type: ignore[no-any-return]

    def columns(self, *fields: str) -> dict[str, list[Any]]:
        """The values of some fields of all rows, in id order; None where a record has none."""
        return self._store.columns(fields)

    def stats(self) -> dict[str, Any]:
        """Rows, removed rows, bytes on disk and more: JSON values by name."""
        return self._store.stats()

    # -- changing -----------------------------------------------------------------------------

    def add(
        self,
        features: Any,
        records: Iterable[Mapping[str, Any]],
        *,
        thumbnails: Sequence[bytes | None] | None = None,
        model: str | None = None,
    ) -> list[int]:
        """Append rows; when this returns they survive a kill and, in a folder, a power cut.

        The cost is that of the batch, whatever the gallery holds. If this raises, disk full
        included, the gallery is what it was before.

        Args:
            features: (N, dim), floating; normalised here when the metric is cosine.
            records: N dicts of JSON values with any of ``image``, ``pid``, ``camera``, ``time``
                and free fields. A field that is None is the same as one that is not there.
            thumbnails: N small encoded images (JPEG, PNG or WebP) to be kept with the rows.
            model: fingerprint of the model that made the features.

        Returns:
            the N new ids, ascending.

        Raises:
            ValueError: features or records are not acceptable; nothing is written.
            GalleryLockedError: another writer did not finish in time.
            OSError: the disk refused (for instance it is full), or the server is not reached.
            UndecidedWriteError: the disk failed at the very last step, and again when that was
                being undone.
        """
        self._check_model(model)
        vectors = check_features(features, self.dim, self.metric, "features")
        checked = check_records(records)
        if len(checked) != len(vectors):
            raise ValueError(
                f"add needs one record per feature; got {len(vectors)} features and "
                f"{len(checked)} records."
            )
        if thumbnails is not None:
            thumbnails = _check_thumbnails(thumbnails, len(vectors))
        return self._store.add(vectors, checked, thumbnails) if checked else []

    def remove(self, ids: Iterable[int]) -> int:
        """Remove rows, all or none: they are marked, :meth:`compact` frees their space.

        Returns:
            the number of rows removed.

        Raises:
            ValueError: an id was never given or is already removed; nothing is removed then.
        """
        wanted = sorted(set(as_ids(ids)))
        return self._store.remove(wanted) if wanted else 0

    def update(self, changes: Mapping[int, Mapping[str, Any]]) -> int:
        """Change fields of records, all or none; the vectors stay.

        Args:
            changes: by id, the fields to set; a field set to None goes away, others stay.

        Returns:
            the number of rows named.

        Raises:
            ValueError: an id is not in the gallery, or a value is no JSON value; nothing is
                changed then.
        """
        checked = check_changes({as_id(row_id): change for row_id, change in changes.items()})
        return self._store.update(checked) if checked else 0

    def compact(self) -> None:
        """Rewrite the gallery without the removed rows; ids stay what they are.

        Needs room on disk for the new files beside the old ones. As durable as :meth:`add`.
        """
        self._store.compact()

    def build_index(
        self,
        factory: str | None = None,
        *,
        recall: float = 0.99,
        k: int = 10,
        queries: Any = None,
        seed: int = 0,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> Any:
        """Make the approximate index, measure it, and search with it from now on.

        Args:
            factory: FAISS factory string, by default :attr:`index`; ``'Flat'`` drops the index.
            recall: share of the true ``k`` nearest that it is to find: the cheapest setting that
                does so on ``queries`` is taken, and what was measured is kept and reported.
            k: of that recall.
            queries: (Q, dim) features to measure with, such as will be asked; by default a sample
                of the gallery's own rows, each hidden from itself.
            seed: of that sample.
            progress: called with (stage, done, total).

        Returns:
            a :class:`reid.gallery.tuning.IndexReport`: settings, their recall and times, the
            chosen one; None where the index was dropped.

        Raises:
            ValueError: an index that could not be searched exactly within filters (the message says
                which can), or a place that keeps an index of its own.
        """
        if queries is not None:
            queries = check_features(queries, self.dim, self.metric, "queries")
        return self._store.build_index(
            factory, recall=recall, k=k, queries=queries, seed=seed, progress=progress
        )

    def verify(self) -> None:
        """Read everything and compare it with its checksums.

        Raises:
            DamagedGalleryError: naming all that is damaged; :meth:`repair` saves what can be saved.
        """
        self._store.verify()

    @classmethod
    def repair(cls, path: str | os.PathLike[str], *, lock_timeout: float = 10.0) -> "RepairReport":
        """Put right a damaged gallery in a folder, also one that does not open.

        Rows that fit their checksums are kept, damaged files are set aside in ``damaged/`` and
        nothing is deleted; the report says what was damaged, what was saved, and which rows are
        lost, with their images where these are known, so that they can be embedded again.

        Raises:
            FileNotFoundError: there is no gallery. DamagedGalleryError: not even its manifest, nor
            the twin of that, can be read. ValueError: an address of a server.
        """
        if is_address(path):
            raise ValueError(f"{path} is kept by a server, which does its own repairs.")
        from reid.gallery.embedded import EmbeddedStore

        return EmbeddedStore.repair(path, lock_timeout=lock_timeout)

    def refresh(self) -> bool:
        """See what other processes have written since; returns whether anything changed."""
        return self._store.refresh()

    # -- asking -------------------------------------------------------------------------------

    def search(
        self,
        features: Any,
        k: int,
        *,
        exclude_cameras: Sequence[Any] | None = None,
        where: Where | None = None,
        exclude_ids: Sequence[Iterable[int]] | None = None,
        min_score: float | None = None,
        group_by: str | None = None,
        rerank: int | None = None,
        expand: int | None = None,
        expand_alpha: float = 0.0,
        exact: bool = False,
        model: str | None = None,
    ) -> SearchResult:
        """The k nearest rows of each query, best first, equal scores by ascending id.

        Exact, but where :meth:`build_index` has made an approximate index; and exact there, too,
        if the filters leave few rows. ``.exact`` and ``.notes`` of what comes back say so.

        Args:
            features: (Q, dim) query features, floating.
            k: hits per query; fewer come back where fewer rows pass the filters.
            exclude_cameras: one camera per query whose rows that query must not see, None for no
                exclusion. Rows without a camera are never excluded.
            where: rows that all queries may see: a dict such as
                ``{"camera": [1, 2], "time": {"$gte": 43200}}`` (:mod:`reid.gallery.where`), or a
                function record -> bool, which is called once a row.
            exclude_ids: for every query the ids that it must not see.
            min_score: hits below this score do not count: a query without any is nobody that the
                gallery knows.
            group_by: a field, usually ``'pid'``: of the rows that share its value only the best
                counts, and k is the number of groups. Rows without the field stand for themselves.
            rerank: order the ``rerank`` best rows anew, by k-reciprocal re-ranking (Zhong et al.,
                CVPR 2017) among themselves, before k are taken; any others follow as they were.
            expand: search again with every query's mean with its ``expand`` best rows (that reach
                ``min_score``): average query expansion, or with ``expand_alpha`` above 0 weighted
                by similarity to that power (alpha-QE). Cosine only.
            exact: do not use the approximate index.
            model: fingerprint of the model that made the features.

        Returns:
            Q lists of at most k hits.

        Raises:
            ValueError: an argument is not acceptable, for instance features of another dimension
                or model, or not finite, or a field in ``where`` that no record has.
        """
        self._check_model(model)
        k = _check_count("k", k, "the hits per query")
        queries = check_features(features, self.dim, self.metric, "query features")
        rows = make_filter(where, exclude_cameras, exclude_ids, len(queries))
        min_score = _check_score(min_score)
        if expand is not None:
            count = _check_count("expand", expand, "the rows that a query takes in")
            queries = self._expand(queries, count, expand_alpha, rows, min_score, exact)
        if rerank is not None or group_by is not None:
            depth = 0 if rerank is None else _check_count("rerank", rerank, "the rows to reorder")
            return self._composed(queries, k, rows, min_score, group_by, depth, exact)
        found = self._store.search(queries, k, rows, exact)
        return self._result(found, k, min_score)

    def search_range(
        self,
        features: Any,
        min_score: float,
        *,
        limit: int | None = None,
        exclude_cameras: Sequence[Any] | None = None,
        where: Where | None = None,
        exclude_ids: Sequence[Iterable[int]] | None = None,
        model: str | None = None,
    ) -> SearchResult:
        """All rows that score at least ``min_score``, exactly; arguments as of :meth:`search`.

        Args:
            limit: at most the so many best; None for all.
        """
        self._check_model(model)
        queries = check_features(features, self.dim, self.metric, "query features")
        rows = make_filter(where, exclude_cameras, exclude_ids, len(queries))
        lowest = _check_score(min_score)
        if lowest is None:
            raise ValueError("search_range needs min_score, the lowest score of a hit; got None.")
        if limit is not None:
            limit = _check_count("limit", limit, "the most hits per query")
        return self._result(self._store.search_range(queries, lowest, rows, limit), None, lowest)

    def search_tracklets(
        self, tracklets: Sequence[Any], k: int, *, pool: str = "mean", **options: Any
    ) -> SearchResult:
        """Search with several images of one person at a time.

        Args:
            tracklets: T arrays (n, dim), each the features of one person, n >= 1.
            k: hits per tracklet.
            pool: ``'mean'``: one query, the mean of the features (each of unit length first, under
                cosine); ``'best'``: a row's score is the best that any of the images gives it.
            options: as of :meth:`search`; ``exclude_cameras`` and ``exclude_ids`` go by tracklet.

        Returns:
            T lists of at most k hits.
        """
        _check_choice("pool", pool, _POOLS)
        if isinstance(tracklets, np.ndarray) and tracklets.ndim == 2:
            raise ValueError(
                "tracklets must be a list of (n, dim) arrays, one a person; got one array. Pass "
                "[array]."
            )
        parts = [check_features(t, self.dim, self.metric, "tracklet features") for t in tracklets]
        if empty := [number for number, part in enumerate(parts) if not len(part)]:
            raise ValueError(f"a tracklet needs at least one image; number {empty[0]} has none.")
        if pool == "mean":
            means = [part.mean(axis=0, dtype=np.float64) for part in parts]
            return self.search(np.array(means).reshape(len(parts), self.dim), k, **options)
        for name in ("rerank", "expand"):
            if options.get(name) is not None:
                raise ValueError(f"{name} goes with pool='mean', not with pool='best'.")
        sizes = [len(part) for part in parts]
        _spread(options, "exclude_cameras", sizes)
        _spread(options, "exclude_ids", sizes)
        # The k best of every image hold the k best of all: each of these is among its own image's.
        images = np.concatenate([*parts, np.empty((0, self.dim), np.float32)])
        found = self.search(images, k, **options)
        return _merge(found, sizes, k, options.get("group_by"))

    def vectors(self, ids: Iterable[int]) -> NDArray[np.float32]:
        """The vectors of rows, (N, dim) float32, as they are kept.

        ``gallery.search(gallery.vectors([7]), k=10, exclude_ids=[[7]])`` finds what is like row 7.

        Raises:
            KeyError: an id is not in the gallery.
        """
        return self._store.vectors(as_ids(ids))

    def thumbnail(self, row_id: int) -> bytes | None:
        """The small encoded image kept with a row, or None; KeyError for an unknown id."""
        return self._store.thumbnail(as_id(row_id))

    def pictured(self, ids: Iterable[int]) -> list[bool]:
        """Whether rows have a small image; False for ids that are not there."""
        return self._store.pictured(as_ids(ids))

    def blocks(self, rows: int = 4096) -> Iterator[Rows]:
        """All rows, a block at a time, by ascending id: a consistent state, as of the first."""
        return self._store.blocks(rows)

    # -- parts --------------------------------------------------------------------------------

    def _check_model(self, model: str | None) -> None:
        if model is not None and self.model is not None and model != self.model:
            raise ValueError(
                f"The gallery {self.location} holds features of model {self.model!r}; these are of "
                f"model {model!r}, and features of two models cannot be compared. Use the "
                "gallery's model, or extract the features anew into another gallery."
            )

    def _expand(
        self,
        queries: NDArray[np.float32],
        count: int,
        alpha: float,
        rows: RowFilter,
        min_score: float | None,
        exact: bool,
    ) -> NDArray[np.float32]:
        """Every query's weighted mean with the best rows it may see, to unit length."""
        if self.metric != "cosine":
            raise ValueError("expand goes with the cosine metric only: leave it out.")
        if not 0 <= alpha < float("inf"):
            raise ValueError(f"expand_alpha must be at least 0 and finite; got {alpha!r}.")
        found = self._store.search(queries, count, rows, exact)
        expanded = queries.astype(np.float64)
        for query, (ids, scores) in enumerate(zip(found.ids, found.scores, strict=True)):
            ids, scores = _reaching(ids, scores, min_score)
            weights = np.clip(scores, 0, None) ** alpha  # (n,); 0 ** 0 is 1
            expanded[query] += weights @ found.vectors(ids).astype(np.float64)
        return check_features(expanded, self.dim, self.metric, "expanded queries")

    def _composed(
        self,
        queries: NDArray[np.float32],
        k: int,
        rows: RowFilter,
        min_score: float | None,
        group_by: str | None,
        rerank: int,
        exact: bool,
    ) -> SearchResult:
        """The best row of each of the k best groups, the ``rerank`` best rows being ordered anew.

        Rows come best first, so the first k groups seen are the k best: more rows are asked for
        until there are so many, or no rows are left (or none that reach ``min_score``).
        """
        hits: list[list[Hit]] = [[] for _ in queries]
        allowed = np.zeros(len(queries), np.int64)
        always_exact, recall = True, None
        waiting = np.arange(len(queries))
        wanted = max(rerank, k if group_by is None else _GROUPED_FIRST * k)
        while len(waiting):
            found = self._store.search(queries[waiting], wanted, rows.of(waiting), exact)
            always_exact, recall = always_exact and found.exact, found.recall or recall
            allowed[waiting] = found.allowed
            unfinished = []
            answers = zip(waiting.tolist(), found.ids, found.scores, strict=True)
            for query, all_ids, all_scores in answers:
                ids, scores = _reaching(all_ids, all_scores, min_score)
                head = ids[:rerank]
                order, distances = _order_anew(queries[query], found.vectors(head))
                ids = np.concatenate([head[order], ids[rerank:]])
                scores = np.concatenate([scores[:rerank][order], scores[rerank:]])
                records = found.records(ids)
                chosen = _first_of_group(records, group_by)[:k]
                ended = len(all_ids) < wanted or len(ids) < len(all_ids)
                if len(chosen) < k and not ended:
                    unfinished.append(query)
                    continue
                hits[query] = self._hits(
                    ids[chosen],
                    scores[chosen],
                    [records[row] for row in chosen],
                    [distances[row] if row < len(distances) else None for row in chosen],
                )
            waiting, wanted = np.asarray(unfinished, np.int64), 4 * wanted
        self._check_group(group_by, hits)
        return SearchResult(hits, exact=always_exact, allowed=allowed, k=k, recall=recall)

    def _check_group(self, field: str | None, hits: Sequence[Sequence[Hit]]) -> None:
        """A field that no record has would group nothing, in silence."""
        shown = [hit.record for part in hits for hit in part]
        if field is None or not shown or any(field in record for record in shown):
            return
        if field not in (fields := self._store.fields()):
            raise unknown_field(field, fields, "group_by")

    def _result(self, found: Found, k: int | None, min_score: float | None) -> SearchResult:
        pairs = [
            _reaching(ids, scores, min_score)
            for ids, scores in zip(found.ids, found.scores, strict=True)
        ]
        # records of all queries at once: far faster than query by query
        together = found.records(
            np.concatenate([np.empty(0, np.int64), *(ids for ids, _ in pairs)])
        )
        hits: list[list[Hit]] = []
        start = 0
        for ids, scores in pairs:
            hits.append(self._hits(ids, scores, together[start : start + len(ids)]))
            start += len(ids)
        return SearchResult(
            hits, exact=found.exact, allowed=found.allowed, k=k, recall=found.recall
        )

    def _hits(
        self,
        ids: NDArray[np.int64],
        scores: NDArray[np.float64],
        records: Sequence[Record],
        reranked: Sequence[float | None] | None = None,
    ) -> list[Hit]:
        cosine = self.metric == "cosine"
        if cosine:
            scores = np.clip(scores, -1.0, 1.0)  # unit vectors in float32 overshoot by 1e-7
        distances = 1.0 - scores if cosine else -scores
        orders = [None] * len(ids) if reranked is None else reranked
        found = zip(
            ids.tolist(),
            (scores + 0.0).tolist(),  # + 0.0: no -0.0
            (distances + 0.0).tolist(),
            records,
            orders,
            strict=True,
        )
        return [Hit(*fields) for fields in found]


def _reaching(
    ids: NDArray[np.int64], scores: NDArray[np.float64], min_score: float | None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    if min_score is None:
        return ids, scores
    near = scores >= min_score
    return ids[near], scores[near]


def _order_anew(
    query: NDArray[np.float32], vectors: NDArray[np.float32]
) -> tuple[NDArray[np.int64], list[float]]:
    """Rows in the order of their re-ranked distances, and these in that order."""
    from reid.evaluation import rerank

    if len(vectors) < 2:  # nothing to compare with
        return np.arange(len(vectors)), []
    k1 = min(20, len(vectors) - 1)
    distances = rerank(query[None], vectors, k1=k1, k2=min(6, k1)).toarray()[0].astype(np.float64)
    order = np.lexsort((np.arange(len(vectors)), distances))
    return order, distances[order].tolist()


def _first_of_group(records: Sequence[Record], field: str | None) -> list[int]:
    """Positions of the first record of each value of ``field``; all that have none, too."""
    if field is None:
        return list(range(len(records)))
    seen: set[Hashable] = set()
    first = []
    for position, record in enumerate(records):
        key = value_key(record.get(field))
        if key is None or key not in seen:
            first.append(position)
            seen.add(key)
    return first


def _spread(options: dict[str, Any], name: str, sizes: Sequence[int]) -> None:
    """An option that goes by tracklet, as one that goes by image."""
    given = options.get(name)
    if given is None:
        return
    if isinstance(given, str | bytes) or not hasattr(given, "__len__") or len(given) != len(sizes):
        raise ValueError(f"{name} must hold one entry per tracklet, {len(sizes)}; got {given!r}.")
    pairs = zip(given, sizes, strict=True)
    options[name] = [value for value, size in pairs for _ in range(size)]


def _merge(found: SearchResult, sizes: Sequence[int], k: int, group_by: str | None) -> SearchResult:
    """Of consecutive queries that stand for one person, the best score of every row."""
    hits: list[list[Hit]] = []
    allowed: list[int] = []
    start = 0
    for size in sizes:
        best: dict[int, Hit] = {}
        for hit in (hit for part in found[start : start + size] for hit in part):
            if hit.id not in best or hit.score > best[hit.id].score:
                best[hit.id] = hit
        ordered = sorted(best.values(), key=lambda hit: (-hit.score, hit.id))
        chosen = _first_of_group([hit.record for hit in ordered], group_by)[:k]
        hits.append([ordered[position] for position in chosen])
        allowed.append(int(found.allowed[start]))
        start += size
    return SearchResult(
        hits, exact=found.exact, allowed=np.array(allowed, np.int64), k=k, recall=found.recall
    )


def _check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(
            f"{name} {value!r} is not supported; supported today: {', '.join(map(repr, choices))}."
        )


def _check_count(name: str, value: object, meaning: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name} must be an int of at least 1, {meaning}; got {value!r}.")
    return int(value)


def _check_score(score: Any) -> float | None:
    if score is None:
        return None
    if isinstance(score, bool) or not isinstance(score, int | float | np.number):
        raise ValueError(f"min_score must be a number, the lowest score of a hit; got {score!r}.")
    if np.isnan(score):
        raise ValueError("min_score must be a number, the lowest score of a hit; got nan.")
    return float(score)


def _check_thumbnails(thumbnails: Any, rows: int) -> list[bytes | None]:
    if isinstance(thumbnails, bytes) or len(thumbnails) != rows:
        raise ValueError(
            f"thumbnails must be a list with one encoded image (or None) per feature; got "
            f"{len(thumbnails)} for {rows} features."
        )
    for row, thumbnail in enumerate(thumbnails):
        if thumbnail is not None and not is_picture(thumbnail):
            raise ValueError(
                f"thumbnail {row} must be the bytes of a JPEG, PNG or WebP file, or None; got "
                f"{type(thumbnail).__name__}."
            )
    return list(thumbnails)
