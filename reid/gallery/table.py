"""The records of a whole gallery, segment by segment: filters to masks, row numbers to records."""

from collections.abc import Callable, ItemsView, Iterator, Mapping, Sequence, ValuesView
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid.gallery.columns import RecordColumns, make_records
from reid.gallery.where import (
    KNOWN_FIELDS,
    Condition,
    Record,
    RowFilter,
    unknown_field,
    unlike_camera,
    value_key,
)

_BLOCK = 4096  # rows made into dicts at a time


class RecordTable:
    """Immutable; row number = position in the concatenation of the segments.

    Args:
        segments: by ascending id.
        live: by segment, (n,) bool, the rows that were not removed; None where all are live.
    """

    def __init__(
        self, segments: Sequence[RecordColumns], live: Sequence[NDArray[np.bool_] | None]
    ) -> None:
        self._segments, self._live = list(segments), list(live)
        sizes = [0, *(len(segment) for segment in segments)]
        self._starts = np.cumsum(sizes, dtype=np.int64)  # and the number of all rows

    def __len__(self) -> int:
        """All rows, removed ones counted."""
        return int(self._starts[-1])

    @cached_property
    def ids(self) -> NDArray[np.int64]:
        """(rows,) int64, ascending."""
        return _join([segment.ids for segment in self._segments], np.int64)

    @cached_property
    def live(self) -> NDArray[np.bool_] | None:
        """(rows,) bool, the rows that were not removed; None where all are live."""
        if all(live is None for live in self._live):
            return None
        pairs = zip(self._segments, self._live, strict=True)
        parts = [np.ones(len(s), np.bool_) if live is None else live for s, live in pairs]
        return _join(parts, np.bool_)

    @cached_property
    def live_rows(self) -> NDArray[np.int64]:
        """(m,) the numbers of the rows that were not removed."""
        return np.arange(len(self)) if self.live is None else np.flatnonzero(self.live)

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """The fields that any live row has, sorted."""
        found = set()
        for segment, live in zip(self._segments, self._live, strict=True):
            for field, column in segment.columns.items():
                if field not in found and (live is None or column.counts(live)):
                    found.add(field)
        return tuple(sorted(found))

    def rows_of(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """(n,) ids -> (n,) row numbers; -1 for an id that is not there or was removed."""
        if not len(self):
            return np.full(len(ids), -1, np.int64)
        rows = np.minimum(np.searchsorted(self.ids, ids), len(self) - 1)
        there = self.ids[rows] == ids
        if self.live is not None:
            there &= self.live[rows]
        return np.where(there, rows, -1)

    def record(self, row: int) -> Record:
        """The record of one row: a copy."""
        number = int(np.searchsorted(self._starts, row, "right")) - 1
        return self._segments[number].record(row - int(self._starts[number]))

    def records(self, rows: NDArray[np.int64]) -> list[Record]:
        """The records of rows, in any order: copies."""
        return make_records(len(rows), self.values(self._all_fields, rows))

    def values(self, fields: Sequence[str], rows: NDArray[np.int64]) -> dict[str, list[Any]]:
        """Fields of rows, in any order; None where a record has none."""
        order, parts = self._by_segment(rows)
        found: dict[str, list[Any]] = {field: [] for field in fields}
        for segment, inside in parts:
            whole = len(inside) == len(segment) and bool((np.diff(inside) > 0).all())
            for field, values in found.items():
                column = segment.columns.get(field)
                if column is None:
                    values.extend([None] * len(inside))
                else:
                    values.extend((column if whole else column.take(inside)).values())
        if order is None:
            return found
        back = np.empty(len(order), np.int64)
        back[order] = np.arange(len(order))
        places = back.tolist()
        return {field: [values[i] for i in places] for field, values in found.items()}

    def counts(self, field: str) -> list[tuple[Any, int]]:
        """The distinct values of a field among live rows, and the number of rows of each."""
        totals: dict[Any, tuple[Any, int]] = {}
        for segment, live in zip(self._segments, self._live, strict=True):
            if (column := segment.columns.get(field)) is not None:
                for value, count in column.counts(live):
                    first, total = totals.get(value_key(value), (value, 0))
                    totals[value_key(value)] = (first, total + count)
        return list(totals.values())

    # -- filters ------------------------------------------------------------------------------

    def keep(self, rows: RowFilter) -> NDArray[np.bool_] | None:
        """(rows,) bool: live, and allowed by the conditions and the function; None for all rows.

        Raises:
            ValueError: a field that no record has, or the function failed.
        """
        mask = self.live
        if len(self.live_rows):
            for field in rows.fields:
                if field not in self.fields and field not in KNOWN_FIELDS:
                    raise unknown_field(field, self.fields)
        for condition in rows.conditions:
            mask = self._and(mask, condition)
        if rows.function is None:
            return mask
        chosen = np.arange(len(self)) if mask is None else np.flatnonzero(mask)
        allowed = np.zeros(len(self), np.bool_)
        allowed[chosen] = np.fromiter(self._asked(rows.function, chosen), np.bool_, len(chosen))
        return allowed

    def without_camera(
        self, camera: int | str, mask: NDArray[np.bool_] | None
    ) -> NDArray[np.bool_]:
        """``mask`` without the rows of a camera; ones without a camera stay.

        Raises:
            ValueError: the camera is known as another type.
        """
        others = self._and(None, Condition("camera", "nin", (camera,)))
        if others.all() and (
            error := unlike_camera(camera, (value for value, _ in self.counts("camera")))
        ):
            raise error
        return others if mask is None else others & mask

    def _and(self, mask: NDArray[np.bool_] | None, condition: Condition) -> NDArray[np.bool_]:
        holds = _join([segment.mask(condition) for segment in self._segments], np.bool_)
        return holds if mask is None else holds & mask

    def _asked(
        self, function: Callable[[Record], object], rows: NDArray[np.int64]
    ) -> Iterator[bool]:
        for start in range(0, len(rows), _BLOCK):
            block = rows[start : start + _BLOCK]
            for row, record in zip(block.tolist(), self.records(block), strict=True):
                try:
                    yield bool(function(dict(record)))
                except Exception as error:
                    raise ValueError(
                        f"where failed with {error!r} on the record of id {self.ids[row]}: "
                        f"{record}. Records need not have every field: use record.get(...)."
                    ) from error

    # -- parts --------------------------------------------------------------------------------

    @cached_property
    def _all_fields(self) -> list[str]:
        return list(dict.fromkeys(f for segment in self._segments for f in segment.columns))

    def _by_segment(
        self, rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64] | None, list[tuple[RecordColumns, NDArray[np.int64]]]]:
        """The order that sorts ``rows`` by segment (None: they are), and each one's part of them.

        Row numbers of the parts count within the segment.
        """
        numbers = np.searchsorted(self._starts, rows, "right") - 1
        order = None
        if (np.diff(numbers) < 0).any():
            order = np.argsort(numbers, kind="stable")
            rows, numbers = rows[order], numbers[order]
        present, firsts = np.unique(numbers, return_index=True)
        bounds = [*firsts.tolist(), len(rows)]
        return order, [
            (self._segments[number], rows[bounds[i] : bounds[i + 1]] - self._starts[number])
            for i, number in enumerate(present.tolist())
        ]


class LiveRecords(Mapping[int, Record]):
    """Read-only view id -> record of the rows that were not removed, in id order."""

    def __init__(self, table: RecordTable) -> None:
        self._table = table

    def __len__(self) -> int:
        return len(self._table.live_rows)

    def __iter__(self) -> Iterator[int]:
        return iter(self._table.ids[self._table.live_rows].tolist())

    def __contains__(self, row_id: object) -> bool:
        return self._row(row_id) >= 0

    def __getitem__(self, row_id: int) -> Record:
        row = self._row(row_id)
        if row < 0:
            raise KeyError(row_id)
        return self._table.record(row)

    def items(self) -> ItemsView[int, Record]:
        return _Items(self)

    def values(self) -> ValuesView[Record]:
        return _Values(self)

    def blocks(self) -> Iterator[tuple[list[int], list[Record]]]:
        """Ids and records of all rows, many at a time."""
        for start in range(0, len(self), _BLOCK):
            rows = self._table.live_rows[start : start + _BLOCK]
            yield self._table.ids[rows].tolist(), self._table.records(rows)

    def _row(self, row_id: object) -> int:
        if isinstance(row_id, bool) or not isinstance(row_id, int | np.integer):
            return -1
        if not 0 <= row_id < 2**63:
            return -1
        return int(self._table.rows_of(np.array([row_id], np.int64))[0])


class _Items(ItemsView[int, Record]):
    """Iterates by blocks, which is many times as fast as row by row."""

    _mapping: LiveRecords

    def __iter__(self) -> Iterator[tuple[int, Record]]:
        for ids, records in self._mapping.blocks():
            yield from zip(ids, records, strict=True)


class _Values(ValuesView[Record]):
    _mapping: LiveRecords

    def __iter__(self) -> Iterator[Record]:
        for _, records in self._mapping.blocks():
            yield from records


def _join(parts: Sequence[NDArray[Any]], dtype: Any) -> NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, dtype), *parts])
