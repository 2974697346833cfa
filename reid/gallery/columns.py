"""Records of one segment as columns: compact in memory, Parquet on disk, quick to filter.

A field is kept as int64, float64, bool or text where all its values are exactly of that one type,
and as JSON text otherwise, so that every record reads back as it was: numbers beyond int64, lists,
1 and True and '1' side by side, file names that are not UTF-8. A record without the field has null.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from reid.gallery.where import Condition, Record, value_key

_PREFIX = "record."
_FIELD, _KIND = b"field", b"kind"  # metadata of a column: the field's name as JSON, and _JSON or ""
_JSON = b"json"
_TYPES = {int: pa.int64(), float: pa.float64(), bool: pa.bool_(), str: pa.large_string()}
_INT64 = range(-(2**63), 2**63)


class Column:
    """The values of one field; null where a record has none."""

    def __init__(self, array: pa.Array, is_json: bool) -> None:
        self.array, self.is_json = array, is_json

    @classmethod
    def encode(cls, values: Sequence[Any]) -> "Column":
        """JSON values, None for null."""
        kinds = {type(value) for value in values}
        kinds.discard(type(None))
        if len(kinds) == 1 and (kind := _TYPES.get(kinds.pop())) is not None:
            try:
                return cls(pa.array(values, kind), False)
            except (OverflowError, UnicodeEncodeError, pa.ArrowInvalid):
                pass  # an int beyond int64, or a text that is not UTF-8
        texts = [None if value is None else _dump(value) for value in values]
        return cls(pa.array(texts, pa.large_string()), True)

    @classmethod
    def concatenate(cls, columns: Sequence["Column | int"]) -> "Column":
        """One after another; a number stands for so many nulls."""
        kinds = {(c.array.type, c.is_json) for c in columns if isinstance(c, Column)}
        if len(kinds) != 1:
            return cls.encode([value for c in columns for value in _values_of(c)])
        ((kind, is_json),) = kinds
        arrays = [pa.nulls(c, kind) if isinstance(c, int) else c.array for c in columns]
        return cls(pa.concat_arrays(arrays), is_json)

    def __len__(self) -> int:
        return len(self.array)

    @property
    def empty(self) -> bool:
        return bool(self.array.null_count == len(self.array))

    def take(self, rows: NDArray[np.int64]) -> "Column":
        return Column(self.array.take(pa.array(rows)), self.is_json)

    def value(self, row: int) -> Any:
        """That of one row."""
        return self._decode([self.array[row].as_py()])[0]

    def values(self) -> list[Any]:
        """As they were given."""
        return self._decode(self.array.to_pylist())

    def counts(self, rows: NDArray[np.bool_] | None = None) -> list[tuple[Any, int]]:
        """Distinct values, null not among them, and how many of ``rows`` (all) have each."""
        array = self.array if rows is None else self.array.filter(pa.array(rows))
        found = pc.value_counts(array.drop_null())
        values = self._decode(found.field("values").to_pylist())
        return list(zip(values, found.field("counts").to_pylist(), strict=True))

    def mask(self, condition: Condition) -> NDArray[np.bool_]:
        """(n,) bool: what ``condition.holds`` says of every record, found column-wise."""
        null = condition.holds({})
        if pa.types.is_integer(self.array.type) or pa.types.is_floating(self.array.type):
            values, valid = self._numbers
            mask = _number_mask(values, condition)
            return mask if valid is None else np.where(valid, mask, null)
        codes, distinct = self._coded
        if self.array.type == pa.large_string() and not self.is_json:
            mask = _text_mask(distinct, condition)
        else:
            decoded = self._decode(distinct.to_pylist())
            mask = np.array([condition.holds({condition.field: v}) for v in decoded], np.bool_)
        return np.append(mask, null)[codes]

    @cached_property
    def _numbers(self) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
        """The values with 0 for null, and (n,) where they are none; None for everywhere."""
        if not self.array.null_count:
            return self.array.to_numpy(), None
        zero = 0 if pa.types.is_integer(self.array.type) else 0.0
        values = self.array.fill_null(zero).to_numpy(zero_copy_only=False)
        return values, self.array.is_valid().to_numpy(zero_copy_only=False)

    @cached_property
    def _coded(self) -> tuple[NDArray[np.int32], pa.Array]:
        """(n,) the number of every row's value among the distinct ones; of null, the last's + 1."""
        coded = self.array.dictionary_encode()
        codes = coded.indices.fill_null(len(coded.dictionary))
        return codes.to_numpy(zero_copy_only=False), coded.dictionary

    def _decode(self, values: list[Any]) -> list[Any]:
        if not self.is_json:
            return values
        return [None if text is None else json.loads(text) for text in values]


class RecordColumns:
    """Ids and records of n rows; never changed once made.

    Attributes:
        ids: (n,) int64, ascending.
        columns: by field; every field has a value in at least one row.
    """

    def __init__(self, ids: NDArray[np.int64], columns: Mapping[str, Column]) -> None:
        self.ids = ids
        self.columns = {field: column for field, column in columns.items() if not column.empty}

    @classmethod
    def encode(cls, ids: NDArray[np.int64], records: Sequence[Record]) -> "RecordColumns":
        fields = dict.fromkeys(field for record in records for field in record)
        return cls(ids, {f: Column.encode([r.get(f) for r in records]) for f in fields})

    @classmethod
    def concatenate(cls, parts: Sequence["RecordColumns"]) -> "RecordColumns":
        if len(parts) == 1:
            return parts[0]
        ids = np.concatenate([np.empty(0, np.int64), *(part.ids for part in parts)])
        fields = dict.fromkeys(field for part in parts for field in part.columns)
        columns = {
            field: Column.concatenate([part.columns.get(field, len(part)) for part in parts])
            for field in fields
        }
        return cls(ids, columns)

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: NDArray[np.int64]) -> "RecordColumns":
        """The rows of these numbers (m,), in their order."""
        return RecordColumns(
            self.ids[rows], {field: column.take(rows) for field, column in self.columns.items()}
        )

    def record(self, row: int) -> Record:
        """One row as a dict."""
        found = ((field, column.value(row)) for field, column in self.columns.items())
        return {field: value for field, value in found if value is not None}

    def records(self) -> list[Record]:
        """All rows as dicts, of which nobody else holds a part."""
        return make_records(len(self), {f: column.values() for f, column in self.columns.items()})

    def with_records(self, changed: Mapping[int, Record]) -> "RecordColumns":
        """The same rows with the whole records of some, by row number, replaced."""
        rows = np.fromiter(changed, dtype=np.int64, count=len(changed))
        columns = {}
        for field in dict.fromkeys([*self.columns, *(f for r in changed.values() for f in r)]):
            column = self.columns.get(field)
            new = [record.get(field) for record in changed.values()]
            if column is not None and _same(column.take(rows).values(), new):
                columns[field] = column
                continue
            values = [None] * len(self) if column is None else column.values()
            for row, value in zip(changed, new, strict=True):
                values[row] = value
            columns[field] = Column.encode(values)
        return RecordColumns(self.ids, columns)

    def mask(self, condition: Condition) -> NDArray[np.bool_]:
        """(n,) bool: for which rows the condition holds."""
        column = self.columns.get(condition.field)
        if column is None:
            return np.full(len(self), condition.holds({}))
        return column.mask(condition)


def make_records(rows: int, values: Mapping[str, Sequence[Any]]) -> list[Record]:
    """Columns of ``rows`` values, None for null -> dicts without the fields that are null."""
    if not values:
        return [{} for _ in range(rows)]
    fields = list(values)
    return [
        {f: value for f, value in zip(fields, row, strict=True) if value is not None}
        for row in zip(*values.values(), strict=True)
    ]


def encode_parquet(records: RecordColumns, numbers: Mapping[str, NDArray[Any]]) -> memoryview:
    """A Parquet file: ``id``, the further columns ``numbers``, and ``record.<field>`` per field."""
    arrays = [pa.array(records.ids), *(pa.array(column) for column in numbers.values())]
    fields = [
        pa.field(name, array.type, nullable=False)
        for name, array in zip(["id", *numbers], arrays, strict=True)
    ]
    for number, (name, column) in enumerate(records.columns.items()):
        arrays.append(column.array)
        metadata = {_FIELD: json.dumps(name), _KIND: _JSON if column.is_json else b""}
        title = _PREFIX + name.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
        if title in {field.name for field in fields}:  # two names that only escapes tell apart
            title += f"#{number}"
        fields.append(pa.field(title, column.array.type, metadata=metadata))
    table = pa.Table.from_arrays(arrays, schema=pa.schema(fields))
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", row_group_size=max(1, table.num_rows))
    return memoryview(sink.getvalue())


def decode_parquet(data: bytes) -> tuple[RecordColumns, dict[str, NDArray[Any]]]:
    """The inverse of :func:`encode_parquet`; ValueError for any other file."""
    try:
        table = pq.read_table(pa.BufferReader(data))
        numbers, columns = {}, {}
        for field, chunks in zip(table.schema, table.columns, strict=True):
            array = chunks.combine_chunks()
            if isinstance(array, pa.ChunkedArray):  # of no chunk, or of more than fits one
                array = pa.concat_arrays(array.chunks) if array.chunks else pa.nulls(0, field.type)
            if field.metadata and _FIELD in field.metadata:
                name = json.loads(field.metadata[_FIELD])
                columns[name] = Column(array, field.metadata.get(_KIND) == _JSON)
            else:
                numbers[field.name] = array.to_numpy(zero_copy_only=not array.null_count)
        ids = numbers.pop("id")
    except (pa.ArrowException, OSError, KeyError, TypeError) as error:
        raise ValueError(f"no readable records ({error!r})") from error
    if ids.dtype != np.int64 or (np.diff(ids) <= 0).any():
        raise ValueError("ids are not ascending int64")
    if unlike := [f for f, c in columns.items() if c.array.type not in _TYPES.values()]:
        raise ValueError(f"field {unlike[0]!r} is of no known type")
    return RecordColumns(ids, columns), numbers


# -- filters --------------------------------------------------------------------------------------


def _number_mask(values: NDArray[Any], condition: Condition) -> NDArray[np.bool_]:
    """For int64 or float64 ``values``, comparing as Python does: exactly, whatever the size."""
    whole = values.dtype.kind == "i"
    if condition.operator in ("in", "nin"):
        wanted = [_exactly(value, whole) for value in condition.values]
        found = np.isin(values, np.array([v for v in wanted if v is not None], values.dtype))
        return found if condition.operator == "in" else ~found
    bound = condition.values[0]
    if isinstance(bound, str):
        return np.zeros(len(values), np.bool_)
    below = condition.operator in ("lt", "lte")
    edge = (_whole_edge if whole else _float_edge)(bound, below, condition.operator)
    if edge is None:  # no number of this type can be on the near side of the bound
        return np.zeros(len(values), np.bool_)
    return values <= edge if below else values >= edge


def _exactly(value: Any, whole: bool) -> Any:
    """``value`` as an int64 or as a float that equals it; None where there is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = int(value) if whole else float(value)
    except OverflowError:
        return None
    return number if number == value and (not whole or number in _INT64) else None


def _whole_edge(bound: float, below: bool, operator: str) -> int | None:
    """The last int64 that fulfils ``operator`` against the bound; None where none does."""
    if operator == "lt":
        edge = math.ceil(bound) - 1
    elif operator == "gt":
        edge = math.floor(bound) + 1
    else:
        edge = math.floor(bound) if below else math.ceil(bound)
    if edge in _INT64:
        return edge
    return (_INT64[-1] if below else _INT64[0]) if (edge > 0) == below else None


def _float_edge(bound: float, below: bool, operator: str) -> float | None:
    """The last float that fulfils ``operator`` against the bound."""
    try:
        edge = float(bound)
    except OverflowError:
        edge = math.inf if bound > 0 else -math.inf
    outside = edge > bound if below else edge < bound  # rounded over the bound
    if outside or (operator in ("lt", "gt") and edge == bound):
        edge = math.nextafter(edge, -math.inf if below else math.inf)
    return edge


def _text_mask(values: pa.Array, condition: Condition) -> NDArray[np.bool_]:
    """For distinct texts; UTF-8 sorts by bytes as Python's texts do by code points."""
    texts = values.cast(pa.large_binary())
    wanted = [v.encode("utf-8", "surrogatepass") for v in condition.values if isinstance(v, str)]
    if condition.operator in ("in", "nin"):
        found = pc.is_in(texts, value_set=pa.array(wanted, pa.large_binary()))
        mask: NDArray[np.bool_] = found.to_numpy(zero_copy_only=False)
        return mask if condition.operator == "in" else ~mask
    if not wanted:
        return np.zeros(len(values), np.bool_)
    compare = {"lt": pc.less, "lte": pc.less_equal, "gt": pc.greater, "gte": pc.greater_equal}
    bound = pa.scalar(wanted[0], pa.large_binary())
    return compare[condition.operator](texts, bound).to_numpy(zero_copy_only=False)  # type: ignore[no-any-return]


# -- parts ----------------------------------------------------------------------------------------


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))  # in ASCII, surrogates and all


def _values_of(column: "Column | int") -> Iterable[Any]:
    return [None] * column if isinstance(column, int) else column.values()


def _same(old: Sequence[Any], new: Sequence[Any]) -> bool:
    """Whether the values are the same to the last bit and type, not only equal."""
    return all(
        type(a) is type(b) and (a is b or (value_key(a) == value_key(b) and _dump(a) == _dump(b)))
        for a, b in zip(old, new, strict=True)
    )
