"""Records in columns: they read back as they were, and filters mean what their plain text says."""

import json

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reid.gallery.columns import RecordColumns, decode_parquet, encode_parquet
from reid.gallery.records import check_changes, check_records
from reid.gallery.table import LiveRecords, RecordTable
from reid.gallery.where import Condition, RowFilter, make_filter

NUMBERS = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([0.5, 1.0, -0.0, 2.0**53, 1e300, -1e-300]),
    st.sampled_from([2**53, 2**53 + 1, -(2**63), 2**63 - 1, 2**63, 10**30]),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
)
TEXTS = st.one_of(
    st.sampled_from(["", "a", "ab", "1", "é", "\U0001f600", "\udcff", "\ufffd"]), st.text()
)
VALUES = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
DEEP = st.recursive(
    VALUES, lambda v: st.lists(v, max_size=3) | st.dictionaries(TEXTS, v, max_size=2)
)
FIELDS = st.sampled_from(["a", "b", "c.d", "", "é", "\udcff", "\\udcff", "a#1"])
ONE_KIND = [st.none() | kind for kind in (st.integers(-5, 5), NUMBERS, TEXTS, st.booleans())]
RECORDS = st.lists(st.dictionaries(FIELDS, DEEP, max_size=4), max_size=8)
COLUMN = st.one_of(*[st.lists(kind, max_size=12) for kind in [*ONE_KIND, VALUES, DEEP]])


def table_of(*parts, live=None):
    """A table of several segments of checked records, with ids 10, 11, ..."""
    segments, first = [], 10
    for part in parts:
        segments.append(RecordColumns.encode(np.arange(first, first + len(part)), part))
        first += len(part)
    return RecordTable(segments, live or [None] * len(segments))


def rows_to(count):
    return np.arange(count, dtype=np.int64)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(RECORDS)
@example([{"\udcff": 1, "\\udcff": 2}])
@example([{"a": 2**63 - 1}, {"a": -(2**63)}])
@example([{"a": 1}, {"a": True}, {"a": 1.0}, {"a": "1"}, {"a": -0.0}])
def test_records_read_back_exactly(records):
    checked = check_records(records)
    columns = RecordColumns.encode(rows_to(len(checked)) + 7, checked)
    crc32 = np.arange(len(checked), dtype=np.uint32)
    again, numbers = decode_parquet(bytes(encode_parquet(columns, {"crc32": crc32})))
    for found in (columns, again):
        assert list(map(repr_sorted, found.records())) == list(map(repr_sorted, checked))
    np.testing.assert_array_equal(again.ids, columns.ids)
    np.testing.assert_array_equal(numbers["crc32"], crc32)


def repr_sorted(record):
    """Tells 1 from True and 1.0, 0.0 from -0.0, and nothing by the order of fields."""
    return sorted((name, repr(value)) for name, value in record.items())


@settings(max_examples=60, deadline=None, derandomize=True)
@given(RECORDS, RECORDS, st.randoms(use_true_random=False))
def test_segments_concatenate_take_and_change(first, second, random):
    parts = [check_records(first), check_records(second)]
    together = [*parts[0], *parts[1]]
    table = table_of(*parts)
    segments = table._segments
    joined = RecordColumns.concatenate(segments)
    assert list(map(repr_sorted, joined.records())) == list(map(repr_sorted, together))
    order = list(range(len(together)))
    random.shuffle(order)
    order = order[: len(order) // 2 + 1]
    wanted = [repr_sorted(together[row]) for row in order]
    rows = np.array(order, np.int64)
    assert list(map(repr_sorted, table.records(rows))) == wanted
    assert list(map(repr_sorted, joined.take(rows).records())) == wanted
    changed = {row: together[-1 - row] for row in order[:3]}
    after = joined.with_records(changed)
    expected = [changed.get(row, record) for row, record in enumerate(together)]
    assert list(map(repr_sorted, after.records())) == list(map(repr_sorted, expected))
    assert set(after.columns) == {name for record in expected for name in record}


OPERATORS = st.sampled_from(["in", "nin", "lt", "lte", "gt", "gte"])


@settings(max_examples=400, deadline=None, derandomize=True)
@given(COLUMN, COLUMN, OPERATORS, st.lists(VALUES, max_size=3), NUMBERS | TEXTS)
@example([2**53 + 1], [], "gt", [], float(2**53))
@example([2.0**53], [], "lt", [], 2**53 + 1)
@example([2**63 - 1], [], "lte", [], 10**30)
@example([-(2**63)], [], "gt", [], -(10**30))
@example([1e308], [], "lt", [], 10**400 // 10**80)
@example([5e-324, 0.0], [], "gt", [], 0)
@example(["\ufffd", "\U0001f600"], [], "lt", [], "\udcff")
@example([1], ["1"], "in", [1.0, True], 0)
def test_conditions_mean_what_holds_says(first, second, operator, values, bound):
    parts = [check_records([{"field": value} for value in part]) for part in (first, second)]
    wanted = tuple(values) if operator in ("in", "nin") else (bound,)
    condition = Condition("field", operator, wanted)
    expected = [condition.holds(record) for part in parts for record in part]
    segments = table_of(*parts)._segments
    assert [bool(b) for segment in segments for b in segment.mask(condition)] == expected


def test_filters_of_a_table(monkeypatch):
    records = [{"pid": row % 3, "camera": row % 2} if row % 5 else {"pid": 7} for row in range(20)]
    live = np.ones(12, np.bool_)
    live[[2, 3]] = False
    table = table_of(records[:8], records[8:], live=[None, live])
    there = [row not in (10, 11) for row in range(20)]
    assert table.live.tolist() == there
    assert table_of(records).keep(RowFilter()) is None
    for where, holds in (
        ({"pid": [0, 7]}, lambda r: r["pid"] in (0, 7)),
        ({"camera": None}, lambda r: "camera" not in r),
        (lambda r: r["pid"] == 1, lambda r: r["pid"] == 1),
    ):
        keep = table.keep(make_filter(where, None, None, 1))
        expected = [holds(record) and alive for record, alive in zip(records, there, strict=True)]
        assert keep.tolist() == expected
    others = table.without_camera(1, keep)
    assert others.tolist() == [
        a and r.get("camera") != 1 for a, r in zip(expected, records, strict=True)
    ]
    with pytest.raises(ValueError, match="knows this camera as 1 "):
        table.without_camera("1", None)
    assert table.without_camera(9, None).all()


def test_functions_are_called_once_for_each_live_row(monkeypatch):
    monkeypatch.setattr("reid.gallery.table._BLOCK", 3)
    live = np.array([True, False, True, True, True])
    table = table_of([{"n": n} for n in range(5)], [{"n": 5}], live=[live, None])
    seen = []
    table.keep(RowFilter(function=lambda record: seen.append(record["n"])))
    assert seen == [0, 2, 3, 4, 5]
    with pytest.raises(ValueError, match=r"ZeroDivisionError.* on the record of id 12: {'n': 2}"):
        table.keep(RowFilter(function=lambda record: 1 / (record["n"] - 2)))


def test_fields_are_those_of_live_rows():
    live = np.array([True, False])
    table = table_of([{"a": 1}, {"b": 2}], [{"c": [1]}], live=[live, None])
    assert table.fields == ("a", "c")
    with pytest.raises(ValueError, match="names the field 'b', which no record"):
        table.keep(make_filter({"b": 2}, None, None, 1))
    table.keep(make_filter({"image": "a"}, None, None, 1))  # always known
    nothing = table_of([])
    assert nothing.keep(make_filter({"b": 2}, None, None, 1)).tolist() == []


def test_ids_values_and_counts():
    table = table_of([{"camera": 1}, {"camera": "1"}], [{"camera": 1}, {"camera": 2}, {}])
    assert table.ids.tolist() == [10, 11, 12, 13, 14]
    assert table.rows_of(np.array([14, 9, 10, 15])).tolist() == [4, -1, 0, -1]
    assert table.values(["camera", "x"], np.array([4, 0, 1, 3])) == {
        "camera": [None, 1, "1", 2],
        "x": [None] * 4,
    }
    assert sorted(table.counts("camera"), key=repr) == [("1", 1), (1, 2), (2, 1)]
    view = LiveRecords(table)
    assert list(view.items())[1] == (11, {"camera": "1"})
    assert [row in view for row in (10, np.int64(10), True, "10", 9, 2**80)] == [True] * 2 + [
        False
    ] * 4
    empty = table_of()
    assert (len(empty), empty.rows_of(np.array([1])).tolist()) == (0, [-1])
    assert empty.records(rows_to(0)) == [] and list(LiveRecords(empty)) == []


def test_columns_of_one_type_are_kept_as_that_type():
    records = [{"i": 1, "f": 1.5, "b": True, "s": "é", "m": 1}, {"i": 2, "m": 1.5}, {"j": [1]}]
    columns = RecordColumns.encode(rows_to(3), records).columns
    kinds = {field: str(column.array.type) for field, column in columns.items()}
    assert kinds == {
        "i": "int64",
        "f": "double",
        "b": "bool",
        "s": "large_string",
        "m": "large_string",
        "j": "large_string",
    }
    assert columns["m"].array.to_pylist() == ["1", "1.5", None]


def test_a_file_that_is_none_is_a_value_error():
    columns = RecordColumns.encode(np.array([3, 4]), [{}, {}])
    good = bytes(encode_parquet(columns, {}))
    for data in (b"", b"PAR1", good[:-9], good[: len(good) // 2]):
        with pytest.raises(ValueError, match="no readable records"):
            decode_parquet(data)
    backwards = RecordColumns(np.array([4, 3]), {})
    with pytest.raises(ValueError, match="not ascending"):
        decode_parquet(bytes(encode_parquet(backwards, {})))


def test_checked_records():
    assert check_records([{"a": None, "b": np.float32(0.5), "c": (1, None)}]) == [
        {"b": 0.5, "c": [1, None]}
    ]
    assert check_changes({3: {"a": None, "b": np.int8(2)}}) == {3: {"a": None, "b": 2}}
    surrogates = check_records([{"\ud83d\ude00": "\ud83d\ude00"}])  # as JSON reads them
    assert surrogates == [{"\U0001f600": "\U0001f600"}]
    assert json.loads(json.dumps(surrogates)) == surrogates
    for bad, message in (({"a": float("inf")}, "record 0, field 'a'"), ({"time": True}, "'time'")):
        with pytest.raises(ValueError, match=message):
            check_records([bad])
