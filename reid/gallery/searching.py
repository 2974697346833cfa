"""A search of one snapshot: queries that may see the same rows are asked together."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid.gallery.snapshot import Snapshot
from reid.gallery.store import Found
from reid.gallery.where import RowFilter

Mask = NDArray[np.bool_] | None
Ask = Callable[
    [NDArray[np.float32], int, Mask],
    tuple[Sequence[NDArray[np.int64]], Sequence[NDArray[np.float64]], float | None],
]
"""(queries (q, dim), rows to leave out afterwards, mask) -> row numbers, scores, and the measured
recall of the approximate index that chose them, None where every row was compared."""

_FEW_IDS = 64  # left out after the search; more make a mask of their own


def search(
    snapshot: Snapshot, queries: NDArray[np.float32], rows: RowFilter, most: int | None, ask: Ask
) -> Found:
    """What ``ask`` finds for each query under the filter, at most ``most`` rows each.

    A few rows that a query must not see (usually itself) are left out of its own hits afterwards,
    for which ``ask`` is to bring so many more: a mask for each query would be a search for each.
    """
    table = snapshot.table
    count = len(queries)
    found_ids: list[NDArray[np.int64]] = [np.empty(0, np.int64)] * count
    found_scores: list[NDArray[np.float64]] = [np.empty(0)] * count
    allowed = np.zeros(count, np.int64)
    recall = None
    excluded = _excluded(snapshot, rows, count)
    for group, mask, hidden in _groups(snapshot, rows, excluded):
        kept = len(table) if mask is None else int(np.count_nonzero(mask))
        own = [
            np.empty(0, np.int64) if hidden else _within(excluded[query], mask) for query in group
        ]
        allowed[group] = [kept - len(numbers) for numbers in own]
        if not kept:
            continue
        numbers, scores, group_recall = ask(queries[group], max(map(len, own)), mask)
        recall = recall if group_recall is None else group_recall
        for query, out, hits, values in zip(group, own, numbers, scores, strict=True):
            if len(out):
                seen = ~np.isin(hits, out)
                hits, values = hits[seen], values[seen]
            found_ids[query], found_scores[query] = table.ids[hits[:most]], values[:most]
    return Found(
        found_ids,
        found_scores,
        allowed,
        exact=recall is None,
        recall=recall,
        records=lambda ids: table.records(table.rows_of(ids)),
        vectors=lambda ids: snapshot.take(table.rows_of(ids)),
    )


def _excluded(snapshot: Snapshot, rows: RowFilter, count: int) -> list[NDArray[np.int64]]:
    """By query the numbers of the rows that it must not see; ids that are nowhere have none."""
    if rows.exclude_ids is None:
        return [np.empty(0, np.int64)] * count
    found = []
    for ids in rows.exclude_ids:
        fitting = np.array(sorted(row_id for row_id in ids if 0 <= row_id < 2**63), np.int64)
        numbers = snapshot.table.rows_of(fitting)
        found.append(numbers[numbers >= 0])
    return found


def _groups(
    snapshot: Snapshot, rows: RowFilter, excluded: Sequence[NDArray[np.int64]]
) -> Iterator[tuple[list[int], Mask, bool]]:
    """Numbers of queries, the rows that they may see, and whether these lack the excluded ones."""
    keep = snapshot.table.keep(rows)
    by_camera: dict[Any, list[int]] = defaultdict(list)
    for query in range(len(excluded)):
        camera = None if rows.exclude_cameras is None else rows.exclude_cameras[query]
        by_camera[camera].append(query)
    for camera, group in by_camera.items():
        mask = keep if camera is None else snapshot.table.without_camera(camera, keep)
        few = [query for query in group if len(excluded[query]) <= _FEW_IDS]
        if few:
            yield few, mask, False
        many: dict[bytes, list[int]] = defaultdict(list)
        for query in group:
            if len(excluded[query]) > _FEW_IDS:
                many[excluded[query].tobytes()].append(query)
        for same in many.values():
            narrowed = np.ones(len(snapshot.table), np.bool_) if mask is None else mask.copy()
            narrowed[excluded[same[0]]] = False
            yield same, narrowed, True


def _within(numbers: NDArray[np.int64], mask: Mask) -> NDArray[np.int64]:
    return numbers if mask is None else numbers[mask[numbers]]
