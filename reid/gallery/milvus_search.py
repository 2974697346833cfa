"""Searching a collection of Milvus, with the answers of a gallery in a folder."""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reid.gallery.milvus_connection import LIMIT, Connection
from reid.gallery.milvus_filter import conjunction, expression, has_field, listed, order_key
from reid.gallery.milvus_rows import BLOCK_BYTES, parts, search_parameters
from reid.gallery.store import Found, StoreInfo
from reid.gallery.where import (
    KNOWN_FIELDS,
    Condition,
    Record,
    RowFilter,
    unknown_field,
    unlike_camera,
)

_FEW_IDS = 64  # left out after the search; more make an expression of their own
_EMPTY = np.empty(0, np.int64), np.empty(0)

Answer = list[tuple[NDArray[np.int64], NDArray[np.float64]] | None]
"""By query: ids and scores, the best first; None where Milvus cannot say."""
Walk = Callable[[str, Sequence[str]], Iterator[list[dict[str, Any]]]]
"""(expression, columns) -> rows by ascending id, in blocks."""


class _Filter(NamedTuple):
    """Rows that a query may see: an expression, and what must hold besides."""

    expression: str
    conditions: tuple[Condition, ...]
    function: Callable[[Record], object] | None

    @property
    def whole(self) -> bool:
        """Whether the expression says it all."""
        return not self.conditions and self.function is None

    def narrowed(self, expression: str) -> "_Filter":
        return self._replace(expression=conjunction([self.expression, expression]))


@dataclass
class _Seen:
    """Rows that a search brought, by id."""

    records: dict[int, str]
    vectors: dict[int, NDArray[np.float32]]

    def found_records(self, ids: NDArray[np.int64]) -> list[Record]:
        return [json.loads(self.records[row_id]) for row_id in ids.tolist()]

    def found_vectors(self, ids: NDArray[np.int64], dim: int) -> NDArray[np.float32]:
        vectors = [self.vectors[row_id] for row_id in ids.tolist()]
        return np.array(vectors, np.float32).reshape(len(ids), dim)


class MilvusSearch:
    """The searches of one gallery.

    Args:
        walk: reads rows. fields: names all fields that any record has.
    """

    def __init__(
        self,
        connection: Connection,
        info: StoreInfo,
        walk: Walk,
        fields: Callable[[], Sequence[str]],
    ) -> None:
        self._milvus, self._info = connection, info
        self._name = connection.address.collection
        self._walk, self._fields = walk, fields
        self._seen_fields: set[str] = set()

    def best(self, queries: NDArray[np.float32], k: int, rows: RowFilter, exact: bool) -> Found:
        """As :meth:`reid.gallery.store.Store.search`."""
        approximate = self._info.index != "Flat"

        def ask(part: NDArray[np.float32], most: int, filter_: _Filter, allowed: int) -> Answer:
            if approximate and not exact:
                return self._ask(part, min(most, allowed), filter_.expression, seen)
            if approximate:
                return [None] * len(part)
            return self._best(part, most, filter_.expression, allowed, seen)

        seen = _Seen({}, {})
        return self._found(queries, k, None, rows, ask, seen, approximate and not exact)

    def reaching(
        self, queries: NDArray[np.float32], min_score: float, rows: RowFilter, limit: int | None
    ) -> Found:
        def ask(part: NDArray[np.float32], most: int, filter_: _Filter, allowed: int) -> Answer:
            if self._info.index != "Flat":
                return [None] * len(part)
            return self._reaching(part, min_score, most, filter_.expression, allowed, seen)

        seen = _Seen({}, {})
        return self._found(queries, limit, min_score, rows, ask, seen, False)

    def _found(
        self,
        queries: NDArray[np.float32],
        most: int | None,
        lowest: float | None,
        rows: RowFilter,
        ask: Callable[[NDArray[np.float32], int, _Filter, int], Answer],
        seen: _Seen,
        approximate: bool,
    ) -> Found:
        """What ``ask`` finds, query by query; a scan where it leaves a query open (None)."""
        ids: list[NDArray[np.int64]] = [np.empty(0, np.int64)] * len(queries)
        scores: list[NDArray[np.float64]] = [np.empty(0)] * len(queries)
        allowed = np.zeros(len(queries), np.int64)
        asked_index = False
        for group, filter_, hidden in self._groups(rows, len(queries)):
            out = [
                frozenset[int]() if hidden or rows.exclude_ids is None else rows.exclude_ids[query]
                for query in group
            ]
            out = self._among(out, filter_)
            more = max(map(len, out), default=0)
            answers: Answer = [None] * len(group)
            count = 0
            if filter_.whole:
                count = self._milvus.count(self._name, filter_.expression)
                wanted = count if most is None else min(count, most + more)
                if wanted:
                    answers = ask(queries[group], wanted, filter_, count)
                    asked_index |= any(answer is not None for answer in answers)
                else:
                    answers = [_EMPTY] * len(group)
            opened = [number for number, answer in enumerate(answers) if answer is None]
            if opened:
                wanted_or_all = None if most is None else most + more
                part = queries[[group[number] for number in opened]]
                count, scanned = self._scan(part, wanted_or_all, lowest, filter_, seen)
                for number, answer in zip(opened, scanned, strict=True):
                    answers[number] = answer
            for query, hidden_ids, answer in zip(group, out, answers, strict=True):
                assert answer is not None
                theirs, values = answer
                shown = ~np.isin(theirs, np.array(sorted(hidden_ids), np.int64))
                ids[query], scores[query] = theirs[shown][:most], values[shown][:most]
                allowed[query] = count - len(hidden_ids)
        return Found(
            ids,
            scores,
            allowed,
            exact=not (approximate and asked_index),
            recall=None,
            records=seen.found_records,
            vectors=lambda wanted: seen.found_vectors(wanted, self._info.dim),
        )

    def passing(self, rows: RowFilter) -> NDArray[np.int64]:
        """As :meth:`reid.gallery.store.Store.ids`."""
        self._check_fields(rows)
        filter_ = self._base(rows)
        columns = [] if filter_.whole else ["record"]
        ids = [
            row["id"]
            for block in self._walk(filter_.expression, columns)
            for row in block
            if filter_.whole or self._holds(row, filter_)
        ]
        return np.array(ids, np.int64)

    def _base(self, rows: RowFilter) -> _Filter:
        """What all queries may see."""
        expressed, left = expression(rows.conditions)
        return _Filter(expressed, left, rows.function)

    def _groups(self, rows: RowFilter, count: int) -> Iterator[tuple[list[int], _Filter, bool]]:
        """Numbers of queries, what these may see, and whether their excluded ids are in that."""
        base = self._base(rows)
        self._check_fields(rows)
        groups: dict[Any, list[int]] = defaultdict(list)
        for query in range(count):
            camera = None if rows.exclude_cameras is None else rows.exclude_cameras[query]
            out = frozenset[int]() if rows.exclude_ids is None else rows.exclude_ids[query]
            groups[camera, out if len(out) > _FEW_IDS else None].append(query)
        self._check_cameras({camera for camera, _ in groups if camera is not None})
        for (camera, out), group in groups.items():
            filter_ = base
            if camera is not None:
                filter_ = filter_.narrowed(f'camera != "{order_key(camera)}"')
            if out is not None:
                known = [row_id for row_id in sorted(out) if 0 <= row_id < 2**63]
                filter_ = filter_.narrowed(f"id not in {known}")
            yield group, filter_, out is not None

    def _check_fields(self, rows: RowFilter) -> None:
        for field in rows.fields:
            if field in KNOWN_FIELDS or field in self._seen_fields:
                continue
            if self._any(has_field(field)):
                self._seen_fields.add(field)  # asked for once: every reading waits for a tick
            elif self._any(""):
                raise unknown_field(field, self._fields())

    def _check_cameras(self, cameras: set[int | str]) -> None:
        """Refuse a camera that the gallery knows as another type only."""
        twins: dict[int | str, int | str] = {}
        for camera in cameras:
            if isinstance(camera, int):
                twins[camera] = str(camera)
            elif re.fullmatch(r"-?[0-9]{1,300}", camera) and str(int(camera)) == camera:
                twins[camera] = int(camera)
        if not self._any(listed("camera", [order_key(twin) for twin in twins.values()])):
            return
        for camera, twin in twins.items():
            known, other = (listed("camera", [order_key(one)]) for one in (camera, twin))
            error = unlike_camera(camera, [twin])
            if error is not None and self._any(other) and not self._any(known):
                raise error

    def _any(self, filter_: str) -> bool:
        return bool(self._milvus.query(self._name, filter_ or "id >= 0", ["id"], limit=1))

    def _among(self, out: list[frozenset[int]], filter_: _Filter) -> list[frozenset[int]]:
        """Of some ids by query, those of rows that the filter allows."""
        asked = sorted({row_id for ids in out for row_id in ids if 0 <= row_id < 2**63})
        there: set[int] = set()
        for part in parts(asked, LIMIT // 4):
            text = conjunction([filter_.expression, f"id in {list(part)}"])
            for row in self._milvus.query(self._name, text, ["id", "record"]):
                if filter_.whole or self._holds(row, filter_):
                    there.add(row["id"])
        return [ids & there for ids in out]

    def _best(
        self,
        queries: NDArray[np.float32],
        k: int,
        filter_: str,
        allowed: int,
        seen: _Seen,
    ) -> Answer:
        """The k best by an exact index; None for queries that need more than Milvus gives."""
        answers: Answer = [None] * len(queries)
        waiting, wanted = list(range(len(queries))), min(allowed, k + 8 + k // 8)
        while waiting and wanted <= LIMIT:
            bounds: list[float] = []
            asked = self._ask(queries[waiting], wanted, filter_, seen, bounds)
            unsure = []
            for query, answer, bound in zip(waiting, asked, bounds, strict=True):
                assert answer is not None
                ids, scores = answer
                everything = len(ids) < wanted or wanted >= allowed
                if everything or scores[k - 1] > bound:
                    answers[query] = ids[:k], scores[:k]
                else:
                    unsure.append(query)
            waiting, wanted = unsure, min(allowed, 4 * wanted) if unsure else wanted
        return answers

    def _reaching(
        self,
        queries: NDArray[np.float32],
        lowest: float,
        most: int,
        filter_: str,
        allowed: int,
        seen: _Seen,
    ) -> Answer:
        """All that reach a score, at most ``most``; None for queries that need more."""
        answers: Answer = [None] * len(queries)
        waiting, k = list(range(len(queries))), min(most, 256)
        while waiting:
            part = self._best(queries[waiting], k, filter_, allowed, seen)
            unsure = []
            for query, answer in zip(waiting, part, strict=True):
                if answer is None:
                    continue
                ids, scores = answer
                if len(ids) < k or k >= most or scores[-1] < lowest:
                    answers[query] = ids[scores >= lowest], scores[scores >= lowest]
                else:
                    unsure.append(query)
            waiting, k = unsure, min(most, 8 * k)
        return answers

    def _ask(
        self,
        queries: NDArray[np.float32],
        wanted: int,
        filter_: str,
        seen: _Seen,
        bounds: list[float] | None = None,
    ) -> Answer:
        """What Milvus finds, scored and ordered anew; ``bounds``: what no other row can exceed."""
        answers: Answer = []
        step = max(1, BLOCK_BYTES // (wanted * (4 * self._info.dim + 256)))
        parameters = search_parameters(self._info.index, wanted)
        for start in range(0, len(queries), step):
            part = queries[start : start + step]
            wanted = min(wanted, LIMIT)
            hits = self._milvus.search(self._name, part, wanted, filter_, parameters)
            for query, found in zip(part, hits, strict=True):
                for hit in found:
                    if hit["id"] not in seen.vectors:
                        entity = hit["entity"]
                        seen.records[hit["id"]] = entity["record"]
                        seen.vectors[hit["id"]] = np.array(entity["vector"], np.float32)
                ids = np.array([hit["id"] for hit in found], np.int64)
                vectors = seen.found_vectors(ids, self._info.dim)
                answers.append(_ordered(ids, _scores(query, vectors, self._info.metric)))
                if bounds is not None:
                    last = float(found[-1]["distance"]) if len(found) else -np.inf
                    bounds.append(_bound(query, last, self._info.metric))
        return answers

    def _scan(
        self,
        queries: NDArray[np.float32],
        most: int | None,
        lowest: float | None,
        filter_: _Filter,
        seen: _Seen,
    ) -> tuple[int, Answer]:
        """The rows that pass the filter are read and compared here; how many, and the best."""
        from reid.gallery.scan import scan_range

        ids = [np.empty(0, np.int64)] * len(queries)
        scores = [np.empty(0)] * len(queries)
        count, metric = 0, self._info.metric
        for block in self._walk(filter_.expression, ["vector", "record"]):
            rows = [row for row in block if filter_.whole or self._holds(row, filter_)]
            count += len(rows)
            if not rows:
                continue
            theirs = np.array([row["id"] for row in rows], np.int64)
            vectors = np.array([row["vector"] for row in rows], np.float32)
            bound = -np.inf if lowest is None else lowest
            numbers, values = scan_range([vectors], queries, bound, metric, None, most)
            kept: set[int] = set()
            for query, (found, their_scores) in enumerate(zip(numbers, values, strict=True)):
                together = np.concatenate([ids[query], theirs[found]])
                ids[query], scores[query] = _ordered(
                    together, np.concatenate([scores[query], their_scores])
                )
                ids[query], scores[query] = ids[query][:most], scores[query][:most]
                kept.update(theirs[found].tolist())
            for row, vector in zip(rows, vectors, strict=True):
                if row["id"] in kept:
                    seen.records[row["id"]], seen.vectors[row["id"]] = row["record"], vector
        return count, list(zip(ids, scores, strict=True))

    def _holds(self, row: Mapping[str, Any], filter_: _Filter) -> bool:
        """Whether what the expression does not say holds for a row."""
        record = json.loads(row["record"])
        if not all(condition.holds(record) for condition in filter_.conditions):
            return False
        if filter_.function is None:
            return True
        try:
            return bool(filter_.function(dict(record)))
        except Exception as error:
            raise ValueError(
                f"where failed with {error!r} on the record of id {row['id']}: {record}. Records "
                "need not have every field: use record.get(...)."
            ) from error


def _scores(
    query: NDArray[np.float32], vectors: NDArray[np.float32], metric: str
) -> NDArray[np.float64]:
    """Of one query and some vectors, (N,), as every gallery computes them."""
    import torch

    from reid.gallery.scores import exact_scores

    ours = torch.from_numpy(np.ascontiguousarray(query))[None].expand(len(vectors), -1)
    scores: NDArray[np.float64] = exact_scores(ours, torch.from_numpy(vectors), metric).numpy()
    return scores


def _bound(query: NDArray[np.float32], last: float, metric: str) -> float:
    """The highest true score of a row that Milvus puts after one with the value ``last``.

    Its value, an inner product or a squared distance of ``dim`` terms in float32 by whatever order
    of summation, is off by no more than (dim + 8) u times the terms' sizes (compare
    :func:`reid.gallery.scores.screening_margins`), here taken fourfold.
    """
    unit = 4 * (len(query) + 8) * 2.0**-24
    length = float(np.linalg.norm(query.astype(np.float64)))
    if metric == "cosine":  # all vectors are of unit length
        return last + 1.01 * unit * length
    reach = 2 * length + abs(last) ** 0.5  # no longer vector can be nearer
    return -float(max(0.0, last - unit * reach * reach) ** 0.5)


def _ordered(
    ids: NDArray[np.int64], scores: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    order = np.lexsort((ids, -scores))
    return ids[order], scores[order]
