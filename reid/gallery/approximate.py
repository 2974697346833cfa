"""Approximate search by FAISS, with a recall that was measured.

The index only *proposes* rows: their scores are computed again, exactly, from the stored vectors,
so that a hit scores what the exact scan gives it, and only leaving out the right rows is an error.
How large that error is, is measured when the index is built (:mod:`reid.gallery.tuning`), and where
it was not measured, the scan answers: for filters that keep few rows, for more hits than were
measured, for rows that were added since, and for queries to which the index gives too few rows.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.atomic import replace_file, write_bytes
from reid.gallery import signature
from reid.gallery.factories import Factory, check_factory, make, parse
from reid.gallery.faiss_install import import_faiss
from reid.gallery.scan import scan
from reid.gallery.scores import Segments, score_rows
from reid.gallery.tuning import (
    BEYOND,
    SHARES,
    Answer,
    IndexReport,
    Setting,
    ladder,
    least_effort,
    tune,
)

__all__ = ["ApproximateIndex", "IndexReport", "check_factory"]

INDEX_FILE, DESCRIPTION_FILE = "index.faiss", "index.json"
_QUERIES = 256  # rows of the gallery that are asked for their neighbours
_BLOCK = 1 << 16  # rows added at a time
_PER_LIST = 64  # rows that a list is trained on
_LEAST_SAMPLE = 20_000

Vectors = Sequence[NDArray[Any]]
Progress = Callable[[str, int, int], None]


class ApproximateIndex:
    """A FAISS index over the first ``rows`` rows of a gallery.

    Any number of threads may search; whatever a search needs goes with it, nothing shared changes.
    Do not fork a process that has searched: FAISS's threads do not survive it.
    """

    def __init__(self, index: Any, factory: Factory, metric: str, report: IndexReport) -> None:
        self._index, self._factory, self._metric = index, factory, metric
        self.report = report

    @property
    def rows(self) -> int:
        """It covers the row numbers below; those after are scanned exactly."""
        return self.report.rows

    @property
    def recall(self) -> float:
        """The measured recall at ``report.k``."""
        return self.report.recall

    @property
    def setting(self) -> Setting:
        """What searches use: ``nprobe`` or ``efSearch``, and ``oversampling``."""
        return dict(self.report.setting)

    # -- making -------------------------------------------------------------------------------

    @classmethod
    def build(
        cls,
        segments: Vectors,
        factory: str,
        metric: str,
        *,
        live: NDArray[np.bool_] | None = None,
        recall: float = 0.99,
        k: int = 10,
        queries: NDArray[np.float32] | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> ApproximateIndex:
        """Train on a sample, take in all rows, and tune.

        Args:
            segments: as of :func:`reid.gallery.scan.scan`.
            factory: FAISS's factory string (:mod:`reid.gallery.factories`).
            metric: ``'cosine'`` or ``'euclidean'``.
            live: (rows,) rows that are not removed; None for all. Removed ones are taken in, to
                keep the numbers, and never trained on, measured or found.
            recall: the share of the exact k nearest that shall be found, mean over queries.
            k: hits that recall is measured for.
            queries: (Q, dim) to measure with: real ones, not in the gallery, tell best. None: a
                sample of the rows, each of which is searched for among the others.
            seed: of training and of the sample.
            progress: called with what is being done, how much of it is done, and of how much.

        Raises:
            ValueError: the factory is not supported, or there are too few rows to train it.
        """
        dim = segments[0].shape[1] if len(segments) else 0
        stored = Segments(segments, dim)
        if not 0 < recall <= 1 or k < 1:
            raise ValueError(f"recall must be in (0, 1] and k at least 1; got {recall!r}, {k!r}.")
        if not len(stored) or (live is not None and not live.any()):
            raise ValueError("an index needs rows, and the gallery has none. Add rows first.")
        kind = parse(factory)
        index = make(factory, dim, metric)
        tell = progress or (lambda what, done, total: None)
        rng = np.random.default_rng(seed)
        alive = np.arange(len(stored)) if live is None else np.flatnonzero(live)
        _train(index, kind, stored, alive, rng, seed, tell)
        for start in range(0, len(stored), _BLOCK):
            numbers = np.arange(start, min(start + _BLOCK, len(stored)))
            index.add(stored.take(numbers).astype(np.float32, copy=False))
            tell("add", len(numbers) + start, len(stored))
        report = _measure(
            index, kind, segments, metric, live, alive, (recall, k, queries, seed), rng, tell
        )
        return cls(index, kind, metric, report)

    # -- asking -------------------------------------------------------------------------------

    def search(
        self,
        segments: Vectors,
        queries: NDArray[np.float32],
        k: int,
        metric: str,
        keep: NDArray[np.bool_] | None = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], bool]:
        """As :func:`reid.gallery.scan.scan`, and whether the answer is exact all the same."""
        if metric != self._metric:
            raise ValueError(f"the index is for the metric {self._metric!r}, not {metric!r}.")
        queries = np.ascontiguousarray(queries, np.float32)
        total = sum(map(len, segments))
        if total < self.rows:
            raise ValueError(f"the index covers {self.rows} rows, but there are {total}.")
        covered = keep if keep is None else keep[: self.rows]
        kept = self.rows if covered is None else int(np.count_nonzero(covered))
        effort = self.report.effort(kept / self.rows, k)
        # never fewer than were proposed when recall was measured, however few are wanted
        proposed = max(k, self.report.k) * self.report.setting["oversampling"]
        if effort is None or 4 * proposed > kept or not len(queries):
            return *scan(segments, queries, k, metric, keep), True
        stored = Segments(segments, queries.shape[1])
        setting = _harder(self.setting, self._factory, effort)
        found = propose(
            self._index, self._factory, stored, queries, proposed, metric, covered, setting
        )
        found = found[0][:, :k], found[1][:, :k]
        short = np.any(found[0] < 0, axis=1)
        if short.any():  # the index ended before it had k rows
            found[0][short], found[1][short] = scan(
                segments, queries[short], found[0].shape[1], metric, _only(keep, total, self.rows)
            )
        if total > self.rows:
            rest = None if keep is None else keep[self.rows :]
            rows, scores = scan(_after(segments, self.rows), queries, k, metric, rest)
            found = _merge(found, (rows + self.rows, scores), k)
        return *found, bool(short.all())

    def recall_at(self, k: int) -> float:
        """What was measured for k hits, or the next larger number: 1.0 where the scan answers."""
        return self.report.recall_at(k)

    # -- keeping ------------------------------------------------------------------------------

    def write(self, folder: Path) -> None:
        """Write the index and its description, signed, into a folder that exists."""
        faiss = import_faiss()
        partial = folder / f".{INDEX_FILE}.partial"
        try:
            faiss.write_index(self._index, str(partial))
            description = {
                "metric": self._metric,
                "faiss": faiss.__version__,
                "report": self.report.to_json(),
            }
            text = json.dumps(description, sort_keys=True)
            mark = signature.sign(text.encode(), partial)
            replace_file(partial, folder / INDEX_FILE)
        finally:
            partial.unlink(missing_ok=True)
        content = json.dumps({"signature": mark, "description": description}, indent=2)
        write_bytes(folder / DESCRIPTION_FILE, f"{content}\n".encode())

    @classmethod
    def read(cls, folder: Path) -> ApproximateIndex:
        """Read what :meth:`write` wrote.

        Raises:
            FileNotFoundError: there is no index.
            UntrustedIndexError: another user or machine wrote it, or it has changed since.
        """
        try:
            content = json.loads((folder / DESCRIPTION_FILE).read_bytes())
            text = json.dumps(content["description"], sort_keys=True)
            trusted = signature.fits(content["signature"], text.encode(), folder / INDEX_FILE)
        except (ValueError, TypeError, KeyError):
            trusted = False
        if not trusted:
            raise signature.UntrustedIndexError(
                f"The index in {folder} was not made by this user on this machine, or has changed "
                "since. FAISS index files can run code, so it is not read, and searches are exact. "
                "`gallery.py index` builds it anew from the vectors."
            )
        faiss = import_faiss()
        report = IndexReport.from_json(content["description"]["report"])
        index = faiss.read_index(str(folder / INDEX_FILE), faiss.IO_FLAG_MMAP_IFC)
        return cls(index, parse(report.factory), content["description"]["metric"], report)


# ---------------------------------------------------------------------------------------------


def propose(
    index: Any,
    factory: Factory,
    stored: Segments,
    queries: NDArray[np.float32],
    count: int,
    metric: str,
    keep: NDArray[np.bool_] | None,
    setting: Setting,
) -> Answer:
    """The ``count`` rows that FAISS proposes, by their exact scores; -1 where it has no more."""
    kept = index.ntotal if keep is None else int(np.count_nonzero(keep))
    if not kept:
        return np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0))
    parameters = search_parameters(factory, setting, keep)
    _, rows = index.search(queries, min(count, kept), params=parameters)
    if keep is not None:  # a row that should not be seen would be a leak: never
        rows[~np.where(rows >= 0, keep[rows], True)] = -1
    rows = np.where(_repeated(rows), -1, rows)
    scores = score_rows(stored, queries, rows, metric)
    return _best_first(rows, scores, rows.shape[1])


def search_parameters(factory: Factory, setting: Setting, keep: NDArray[np.bool_] | None) -> Any:
    """What goes with one search: nothing is ever set on an index that others search, too."""
    faiss = import_faiss()
    options: dict[str, Any] = {}
    if keep is not None:
        options["sel"] = faiss.IDSelectorBitmap(np.packbits(keep, bitorder="little"))
    if not factory.lists:
        return faiss.SearchParametersHNSW(efSearch=setting["efSearch"], **options)
    if factory.graph_of_lists:
        effort = max(64, 2 * setting["nprobe"])
        options["quantizer_params"] = faiss.SearchParametersHNSW(efSearch=effort)
    return faiss.SearchParametersIVF(nprobe=setting["nprobe"], **options)


def _harder(setting: Setting, factory: Factory, effort: int) -> Setting:
    """The same with so many times the lists or candidates."""
    if factory.lists:
        return {**setting, "nprobe": min(effort * setting["nprobe"], factory.lists)}
    return {**setting, "efSearch": effort * setting["efSearch"]}


def _train(
    index: Any,
    factory: Factory,
    stored: Segments,
    alive: NDArray[np.int64],
    rng: np.random.Generator,
    seed: int,
    tell: Progress,
) -> None:
    if index.is_trained:
        return
    if len(alive) < factory.lists:
        raise ValueError(
            f"the index {factory.text!r} has {factory.lists} lists and needs as many rows at "
            f"least, better 40 times as many; the gallery has {len(alive)}. Use fewer lists, or "
            "index='Flat', which is exact and for so few rows as fast."
        )
    faiss = import_faiss()
    size = min(len(alive), max(_LEAST_SAMPLE, _PER_LIST * factory.lists))
    sample = np.sort(rng.choice(alive, size, replace=False))
    tell("train", 0, size)
    if factory.lists:
        clustering = faiss.extract_index_ivf(index).cp
        clustering.seed, clustering.min_points_per_centroid = seed, 1
    try:
        index.train(stored.take(sample).astype(np.float32, copy=False))
    except RuntimeError as error:
        reason = str(error).strip().rpartition("Error: ")[2] or "no reason given"
        raise ValueError(
            f"FAISS cannot train the index {factory.text!r} on {size} rows: {reason}"
        ) from error
    tell("train", size, size)


def _measure(
    index: Any,
    factory: Factory,
    segments: Vectors,
    metric: str,
    live: NDArray[np.bool_] | None,
    alive: NDArray[np.int64],
    task: tuple[float, int, NDArray[np.float32] | None, int],
    rng: np.random.Generator,
    tell: Progress,
) -> IndexReport:
    target, k, queries, seed = task
    own: NDArray[np.int64] | None = None
    if queries is None:
        stored = Segments(segments, segments[0].shape[1])
        own = np.sort(rng.choice(alive, min(_QUERIES, len(alive)), replace=False))
        queries = stored.take(own).astype(np.float32)
    queries = np.ascontiguousarray(queries, np.float32)
    stored = Segments(segments, queries.shape[1])
    extra = 0 if own is None else 1  # the row itself, left out afterwards

    def exact(k: int, keep: NDArray[np.bool_] | None) -> Answer:
        return _without(scan(segments, queries, k + extra, metric, keep), own)

    def search(k: int, keep: NDArray[np.bool_] | None, setting: Setting) -> Answer:
        count = k * setting["oversampling"] + extra
        rows, scores = _without(
            propose(index, factory, stored, queries, count, metric, keep, setting), own
        )
        return rows[:, :k], scores[:, :k]

    begin = time.perf_counter()
    truth = exact(k, live)
    exact_ms = 1000 * (time.perf_counter() - begin) / max(1, len(queries))
    flights = ladder(factory, len(stored))
    tried = 0

    def attempt(setting: Setting) -> Answer:
        nonlocal tried
        tell("measure", tried, 0)
        tried += 1
        return search(k, live, setting)

    chosen, table = tune(flights, attempt, truth, k, target)
    enough = min(target, chosen.recall)

    def again(k: int, keep: NDArray[np.bool_] | None) -> tuple[int, float]:
        tell("measure", len(table), 0)

        def harder(effort: int) -> Answer:
            return search(k, keep, _harder(chosen.setting, factory, effort))

        return least_effort(harder, exact(k, keep), k, enough)

    effort_beyond, recall_beyond = again(BEYOND * k, live)
    filters = [(1.0 if live is None else float(np.count_nonzero(live)) / len(stored), 1)]
    for share in SHARES:
        keep = rng.random(len(stored)) < share
        keep = keep if live is None else keep & live
        if not (effort := again(k, keep)[0]):
            break
        filters.append((share * filters[0][0], effort))
    return IndexReport(
        factory=factory.text,
        rows=len(stored),
        k=k,
        queries=len(queries),
        own_queries=own is not None,
        seed=seed,
        target=target,
        reached=chosen.recall >= target,
        setting=chosen.setting,
        recall_at_1=chosen.recall_at_1,
        recall=chosen.recall,
        recall_beyond=recall_beyond,
        effort_beyond=effort_beyond,
        ms=chosen.ms,
        exact_ms=exact_ms,
        filters=tuple(filters),
        table=tuple(table),
    )


def _without(found: Answer, own: NDArray[np.int64] | None) -> Answer:
    """Each query without the row that it is, and one shorter in any case."""
    if own is None or found[0].shape[1] == 0:
        return found
    rows, scores = found
    mine = rows == own[:, None]
    mine[~mine.any(axis=1), -1] = True  # not found: the last one goes
    left = ~mine
    shape = (len(rows), rows.shape[1] - 1)
    return rows[left].reshape(shape), scores[left].reshape(shape)


def _best_first(rows: NDArray[np.int64], scores: NDArray[np.float64], k: int) -> Answer:
    """The k best of (Q, m) proposals; rows below 0 are none, and last."""
    order = np.lexsort((np.where(rows < 0, np.iinfo(np.int64).max, rows), -scores), axis=-1)[:, :k]
    return np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1)


def _merge(first: Answer, second: Answer, k: int) -> Answer:
    rows = np.concatenate([first[0], second[0]], axis=1)
    return _best_first(rows, np.concatenate([first[1], second[1]], axis=1), k)


def _repeated(rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(Q, m) whether a row was proposed before, to the same query."""
    order = np.argsort(rows, axis=1, kind="stable")
    ordered = np.take_along_axis(rows, order, 1)
    again = np.zeros(rows.shape, np.bool_)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    repeated = np.empty_like(again)
    np.put_along_axis(repeated, order, again, 1)
    return repeated


def _only(keep: NDArray[np.bool_] | None, total: int, rows: int) -> NDArray[np.bool_]:
    """The filter over all rows, of which only the first ones count."""
    first = np.arange(total) < rows
    return first if keep is None else first & keep


def _after(segments: Vectors, rows: int) -> list[NDArray[Any]]:
    """What the segments hold after the first ``rows`` rows."""
    left = []
    for segment in segments:
        if rows < len(segment):
            left.append(segment[max(rows, 0) :])
        rows -= len(segment)
    return left
