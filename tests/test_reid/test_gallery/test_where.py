"""The filter language: what it accepts, what it means, and what it refuses with a remedy."""

import numpy as np
import pytest

from reid.gallery.where import (
    Condition,
    extent,
    make_filter,
    same_order,
    unknown_field,
    unlike_camera,
    value_key,
)

RECORDS = [
    {},
    {"time": 5, "camera": 1, "gate": "north"},
    {"time": 5.0, "camera": "1", "flag": True},
    {"time": "05", "camera": 2, "flag": 1, "tags": ["a", {"b": 1}]},
    {"time": 7, "camera": 3, "flag": "1", "clothes": {"upper": "red"}},
]


def seen(where) -> list[int]:
    conditions = make_filter(where, None, None, 1).conditions
    return [row for row, record in enumerate(RECORDS) if all(c.holds(record) for c in conditions)]


@pytest.mark.parametrize(
    ("where", "rows"),
    [
        (None, [0, 1, 2, 3, 4]),
        ({}, [0, 1, 2, 3, 4]),
        ({"camera": 1}, [1]),
        ({"camera": "1"}, [2]),
        ({"camera": np.int64(1)}, [1]),
        ({"camera": [1, 2]}, [1, 3]),
        ({"camera": {1, 2}}, [1, 3]),
        ({"camera": range(1, 3)}, [1, 3]),
        ({"camera": np.array([1, 2])}, [1, 3]),
        ({"camera": []}, []),
        ({"camera": None}, [0]),
        ({"camera": [None, 3]}, [0, 4]),
        ({"camera": {"$eq": 1}}, [1]),
        ({"camera": {"$ne": 1}}, [0, 2, 3, 4]),
        ({"camera": {"$ne": None}}, [1, 2, 3, 4]),
        ({"camera": {"$in": [1, "1"]}}, [1, 2]),
        ({"camera": {"$nin": [1, 2, None]}}, [2, 4]),
        ({"camera": {"$nin": []}}, [0, 1, 2, 3, 4]),
        ({"time": 5}, [1, 2]),
        ({"time": {"$gte": 5}}, [1, 2, 4]),
        ({"time": {"$gt": 5}}, [4]),
        ({"time": {"$lt": 7}}, [1, 2]),
        ({"time": {"$lte": 7.0}}, [1, 2, 4]),
        ({"time": {"$gte": 5, "$lt": 7}}, [1, 2]),
        ({"time": {"$gte": "0"}}, [3]),
        ({"flag": True}, [2]),
        ({"flag": 1}, [3]),
        ({"flag": 1.0}, [3]),
        ({"flag": "1"}, [4]),
        ({"flag": {"$gte": 0}}, [3]),
        ({"clothes": {"upper": "red"}}, [4]),
        ({"tags": [["a", {"b": 1}]]}, [3]),
        ({"time": 5, "gate": "north"}, [1]),
        ({"gate": {"$gte": "m"}}, [1]),
    ],
)
def test_what_a_condition_means(where, rows):
    assert seen(where) == rows


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("camera", "dict of field -> value.*got str"),
        ({1: 2}, "field names must be str; got 1"),
        ({"pid": object()}, r"where\['pid'\] must be a JSON value"),
        ({"pid": float("nan")}, "JSON value"),
        ({"pid": {"$in": 3}}, r"\$in needs a list of values; got 3"),
        ({"pid": {"$between": [1, 2]}}, r"'\$between' is no operator; there are \$eq"),
        ({"time": {"$lt": None}}, r"\$lt needs a number or a text; got None"),
        ({"time": {"$lt": True}}, r"\$lt needs a number or a text; got True"),
        ({"time": {"$gte": [1]}}, r"\$gte needs a number or a text"),
    ],
)
def test_what_is_refused(where, message):
    with pytest.raises(ValueError, match=message):
        make_filter(where, None, None, 1)


@pytest.mark.parametrize(
    ("cameras", "message"),
    [
        ([1], "one camera .*per query; got 1 for 2 queries"),
        ("c1", "list with one camera"),
        (3, "list with one camera"),
        ([[1], None], r"int or str\) or None per query; got \[1\]"),
        ([True, None], "got True"),
        ([1.5, None], "got 1.5"),
    ],
)
def test_excluded_cameras(cameras, message):
    with pytest.raises(ValueError, match=message):
        make_filter(None, cameras, None, 2)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([[1]], "list of ids per query; got 1 for 2"),
        (3, "list with a list of ids"),
        ([1, 2], "list with a list of ids"),
        ([["a"], []], "ids must be ints"),
        ([[True], []], "ids must be ints"),
    ],
)
def test_excluded_ids(ids, message):
    with pytest.raises(ValueError, match=message):
        make_filter(None, None, ids, 2)


def test_the_filter_of_some_queries():
    rows = make_filter({"pid": 1}, np.array([1, 2, 3]), [[7], [], [8, np.int64(9)]], 3)
    some = rows.of(np.array([2, 0]))
    assert some.conditions == rows.conditions == (Condition("pid", "in", (1,)),)
    assert some.exclude_cameras == (3, 1)
    assert some.exclude_ids == (frozenset({8, 9}), frozenset({7}))
    assert make_filter(None, None, None, 3).of([1]) == make_filter(None, None, None, 1)
    assert make_filter({"a": 1, "b": {"$gt": 1, "$lt": 2}}, None, None, 1).fields == ("a", "b")


def test_keys_and_order():
    assert value_key(1) == value_key(1.0) == value_key(np.float32(1))
    assert len({value_key(value) for value in (True, 1, "1", None, [1], {"a": 1})}) == 6
    assert value_key({"a": 1, "b": 2}) == value_key({"b": 2, "a": 1})
    assert same_order(1, 2.5) and same_order("a", "b")
    assert not any(same_order(value, 1) for value in ("1", None, True, [1]))
    assert not any(same_order(1, bound) for bound in ("1", None, [1]))


def test_extent():
    assert extent([]) is extent([None]) is None
    assert extent([3, None, 1.5, 2]) == (1.5, 3)
    assert extent(["b", None, "a"]) == ("a", "b")
    assert extent(["z", 2, "a", 5]) == (2, 5)


def test_slips_of_the_pen():
    assert "'colour'" in str(unknown_field("colour", ["gate"]))
    assert "Its fields: 'gate', 'image'" in str(unknown_field("colour", ["gate"]))
    assert "'1' (str)" in str(unlike_camera("1", [1, 2]))
    assert unlike_camera(1, [1, 2]) is None and unlike_camera(9, [1, "2"]) is None
