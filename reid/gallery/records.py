"""Records in memory: what a record may be, and which rows a filter keeps.

A record is a dict of JSON values. Four fields have a meaning: ``image`` (path or URL, str), ``pid``
and ``camera`` (int or str) and ``time`` (number or str); all may be absent or None, and any other
field is free.
"""

import json
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Record: TypeAlias = dict[str, Any]
Where: TypeAlias = Callable[[Record], object] | Mapping[str, Any]

_FIELD_TYPES: dict[str, tuple[type, ...]] = {
    "image": (str,),
    "pid": (int, str),
    "camera": (int, str),
    "time": (int, float, str),
}


def check_records(records: Iterable[Mapping[str, Any]]) -> list[Record]:
    """Validated copies, exactly as they will read back from disk (numpy scalars become numbers).

    Raises:
        ValueError: something is not a dict of JSON values; names the record and the field.
    """
    if isinstance(records, Mapping | str | bytes):
        raise ValueError(f"records must be a list of dicts, one per feature; got {type(records)}.")
    return [_check_record(record, row) for row, record in enumerate(records)]


def record_key(value: Any) -> Hashable:
    """What two field values must share to be equal: 1 == 1.0, but True, 1 and '1' differ."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool):
        return (bool, value)
    if value is None or isinstance(value, int | float | str):
        return value
    return (list, json.dumps(value, sort_keys=True))


class RecordTable:
    """Ids and records of all rows, in row order, with a filter column per field asked for."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self._ids: list[NDArray[np.int64]] = []
        self._columns: dict[str, _Column] = {}

    def __len__(self) -> int:
        return len(self.records)

    @property
    def ids(self) -> NDArray[np.int64]:
        """(rows,) int64, ascending."""
        if len(self._ids) != 1:
            self._ids = [np.concatenate([np.empty(0, np.int64), *self._ids])]
        return self._ids[0]

    def extend(self, ids: NDArray[np.int64], records: Sequence[Record]) -> None:
        self._ids.append(ids)
        self.records.extend(records)

    def where_mask(self, where: Where | None, live: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """``live`` (rows,) bool, narrowed to the rows that ``where`` keeps."""
        if where is None:
            return live
        if isinstance(where, Mapping):
            mask = live.copy()
            for field, wanted in where.items():
                mask &= self._column(field).isin(_alternatives(field, wanted))
            return mask
        if not callable(where):
            raise ValueError(
                "where must be a function record -> bool, or a dict of field -> value (or list of "
                f"values); got {type(where).__name__}."
            )
        mask = live.copy()
        for row in np.flatnonzero(live).tolist():
            try:
                mask[row] = bool(where(dict(self.records[row])))
            except Exception as error:
                raise ValueError(
                    f"where failed with {error!r} on the record of id {self.ids[row]}: "
                    f"{self.records[row]}. Records need not have every field: use record.get(...)."
                ) from error
        return mask

    def camera_masks(
        self, cameras: Sequence[Any], mask: NDArray[np.bool_]
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.bool_]]]:
        """Groups of queries that exclude the same camera: (query numbers, (rows,) bool to search).

        Rows without a camera are never excluded: nobody knows that they are of that camera.
        """
        column = self._column("camera")
        codes = np.asarray(
            [self._camera_code(column, camera) for camera in cameras], dtype=np.int64
        )
        for code in np.unique(codes).tolist():
            keep = mask if code < 0 else mask & (column.codes != code)
            yield np.flatnonzero(codes == code), keep

    def _camera_code(self, column: "_Column", camera: Any) -> int:
        """The camera's code, or -1 where there is nothing to exclude."""
        if isinstance(camera, np.generic):
            camera = camera.item()
        if camera is None:
            return -1
        if isinstance(camera, bool) or not isinstance(camera, int | str):
            raise ValueError(
                "exclude_cameras must hold one camera (int or str) or None per query; got "
                f"{camera!r}."
            )
        code = column.code_of.get(record_key(camera))
        if code is None:
            # '3' for 3 would silently exclude nothing, and inflate every score measured so.
            twins = [key for key in column.code_of if key is not None and str(key) == str(camera)]
            if twins:
                raise ValueError(
                    f"exclude_cameras holds {camera!r} ({type(camera).__name__}), but the gallery "
                    f"knows this camera as {twins[0]!r} ({type(twins[0]).__name__}). Use one type."
                )
            return -1
        return code

    def _column(self, field: str) -> "_Column":
        column = self._columns.setdefault(field, _Column(field))
        column.catch_up(self.records)
        return column


class LiveRecords(Mapping[int, Record]):
    """Read-only view id -> record of the rows that were not removed."""

    def __init__(self, table: RecordTable, live: NDArray[np.bool_]) -> None:
        self._table, self._live = table, live
        self._ids = table.ids

    def __len__(self) -> int:
        return int(self._live.sum())

    def __iter__(self) -> Iterator[int]:
        return iter(self._ids[self._live].tolist())

    def __getitem__(self, row_id: int) -> Record:
        row = int(np.searchsorted(self._ids, row_id))
        if row == len(self._ids) or self._ids[row] != row_id or not self._live[row]:
            raise KeyError(row_id)
        return dict(self._table.records[row])


class _Column:
    """One field of all rows as small integers: a filter is then one numpy comparison."""

    def __init__(self, field: str) -> None:
        self.field = field
        self.code_of: dict[Hashable, int] = {}
        self.codes: NDArray[np.int32] = np.empty(0, dtype=np.int32)

    def catch_up(self, records: Sequence[Record]) -> None:
        """Encode the records that came since the last call."""
        done = len(self.codes)
        if done == len(records):
            return
        new = (record_key(records[row].get(self.field)) for row in range(done, len(records)))
        codes = [self.code_of.setdefault(key, len(self.code_of)) for key in new]
        self.codes = np.concatenate([self.codes, np.asarray(codes, dtype=np.int32)])

    def isin(self, keys: Iterable[Hashable]) -> NDArray[np.bool_]:
        wanted = [code for key in keys if (code := self.code_of.get(key)) is not None]
        return np.isin(self.codes, np.asarray(wanted, dtype=np.int32))


def _alternatives(field: object, wanted: Any) -> list[Hashable]:
    if not isinstance(field, str):
        raise ValueError(f"where must have field names (str) as keys; got {field!r}.")
    if isinstance(wanted, np.ndarray):
        wanted = wanted.tolist()
    values = wanted if isinstance(wanted, list | tuple | set | frozenset | range) else [wanted]
    try:
        return [record_key(value) for value in values]
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"where[{field!r}] must be a JSON value or a list of such values ({error}); for "
            "anything else pass a function record -> bool."
        ) from error


def _check_record(record: Any, row: int) -> Record:
    if not isinstance(record, Mapping):
        raise ValueError(f"record {row} must be a dict; got {type(record).__name__}.")
    plain = {}
    for key, value in record.items():
        if not isinstance(key, str):
            raise ValueError(f"record {row}: field names must be str; got {key!r}.")
        plain[key] = _plain(value, f"record {row}, field {key!r}")
    for field, types in _FIELD_TYPES.items():
        value = plain.get(field)
        if value is not None and (isinstance(value, bool) or not isinstance(value, types)):
            expected = " or ".join(kind.__name__ for kind in types)
            raise ValueError(
                f"record {row}, field {field!r}: expected {expected} (or None), got {value!r}."
            )
    return plain


def _plain(value: Any, place: str) -> Any:
    """The value as JSON would give it back: tuples become lists, numpy scalars numbers."""
    try:
        text = json.dumps(value, allow_nan=False, default=_numpy_scalar)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{place}: not a JSON value ({error}). Records are kept as JSON: use str, int, finite "
            "float, bool, None, and lists and dicts of these (a path as str(path), a date as "
            ".isoformat())."
        ) from error
    _check_keys(value, place)
    return json.loads(text)


def _numpy_scalar(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} object")


def _check_keys(value: Any, place: str) -> None:
    """Refuse the key 1, which JSON would turn into '1' in silence."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValueError(f"{place}: field names must be str; got {key!r}.")
            _check_keys(item, place)
    elif isinstance(value, list | tuple):
        for item in value:
            _check_keys(item, place)
