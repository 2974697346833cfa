from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reid.gallery.where import make_filter
from reid.gallery.where_text import parse_fields, parse_where


def keeps(where: dict[str, Any], record: dict[str, Any]) -> bool:
    return all(c.holds(record) for c in make_filter(where, None, None, 0).conditions)


@pytest.mark.parametrize(
    ("texts", "where"),
    [
        ([], {}),
        (["camera=3"], {"camera": 3}),
        (["camera==3"], {"camera": 3}),
        (["camera=1,2"], {"camera": [1, 2]}),
        ([" camera = 1 , 2 "], {"camera": [1, 2]}),
        (["camera!=3"], {"camera": {"$ne": 3}}),
        (["camera!=1,2"], {"camera": {"$nin": [1, 2]}}),
        (["camera!=1", "camera!=2"], {"camera": {"$nin": [1, 2]}}),
        (["time>=43200", "time<50400"], {"time": {"$gte": 43200, "$lt": 50400}}),
        (["time>1.5", "time<=2e3"], {"time": {"$gt": 1.5, "$lte": 2000.0}}),
        (["pid!=-1"], {"pid": {"$ne": -1}}),
        (["pid=null"], {"pid": None}),
        (["pid!=null"], {"pid": {"$ne": None}}),
        (["checked=true,false"], {"checked": [True, False]}),
        (["pid=001"], {"pid": "001"}),
        (['pid="7"'], {"pid": "7"}),
        (["pid='7',8"], {"pid": ["7", 8]}),
        (['gate="left, rear",north'], {"gate": ["left, rear", "north"]}),
        (['gate=""'], {"gate": ""}),
        (['gate="a=b"'], {"gate": "a=b"}),
        (["gate=north entrance"], {"gate": "north entrance"}),
        (["time>=2024-05-01T10:00"], {"time": {"$gte": "2024-05-01T10:00"}}),
        (["Kamera links=Ä"], {"Kamera links": "Ä"}),
        (['{"time": {"$gte": 5}}'], {"time": {"$gte": 5}}),
        (['{"camera": [1, 2], "pid": {"$ne": null}}'], {"camera": [1, 2], "pid": {"$ne": None}}),
        (['{"time": {"$gte": 5}}', "time<9"], {"time": {"$gte": 5, "$lt": 9}}),
        (['{"box": {"x": 1}}'], {"box": [{"x": 1}]}),
        (["camera=1,2", "camera!=2"], {"camera": {"$in": [1, 2], "$ne": 2}}),
    ],
)
def test_reads_what_a_person_means(texts: list[str], where: dict[str, Any]) -> None:
    assert parse_where(texts) == where


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["person.jpg"], "no field and operator"),
        ([""], "no field and operator"),
        (["=3"], "no field and operator"),
        (["camera="], "a value is missing"),
        (["camera=1,"], "a value is missing"),
        (["time>1,2"], "takes one value"),
        (["time>null"], "needs a number or a text"),
        (["time>true"], "needs a number or a text"),
        (['gate="north'], "quotes"),
        (['gate=no"r"th'], "quotes"),
        (["camera=1 and time>5"], "a text of its own"),
        (["camera=1", "camera=2"], "camera=1,2"),
        (["time>1", "time>2"], "second condition"),
        (['{"camera": 1'], "begins like JSON"),
        (['{"camera": {"$near": 1}}'], "no operator"),
        (['{"time": {"$in": 1}}'], "needs a list"),
        (['{"time": NaN}'], "JSON value"),
    ],
)
def test_says_what_is_wrong(texts: list[str], said: str) -> None:
    with pytest.raises(ValueError, match="where") as caught:
        parse_where(texts)
    assert said in str(caught.value)


def test_values_are_written_as_the_gallery_has_them() -> None:
    held = {"camera": ["1", "2", None], "pid": [1, "1", 2], "time": ["10", "20"], "n": [1.0]}
    held["odd"] = ["null", "true", True]
    asked = []

    def known(field: str) -> list[Any]:
        asked.append(field)
        return held.get(field, [])

    assert parse_where(["camera=1,3"], known) == {"camera": ["1", 3]}
    assert parse_where(["camera!=2"], known) == {"camera": {"$ne": "2"}}
    assert parse_where(["pid=1"], known) == {"pid": [1, "1"]}  # both are called so
    assert parse_where(['pid="1"'], known) == {"pid": "1"}
    assert parse_where(["time>=15"], known) == {"time": {"$gte": "15"}}
    assert parse_where(["n=1", "n<5"], known) == {"n": {"$in": [1], "$lt": 5}}
    assert parse_where(["odd=null"], known) == {"odd": None}
    assert parse_where(["odd=true"], known) == {"odd": ["true", True]}
    assert parse_where(["gate=1"], known) == {"gate": 1}
    asked.clear()
    parse_where(['camera="1"', '{"pid": 1}'], known)
    assert not asked  # nothing is read that is not needed


values = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**6), 10**6), st.text('ab01, =<>"-.é', max_size=4)
)


@given(wanted=values, other=values)
def test_what_is_written_is_what_is_found(wanted: Any, other: Any) -> None:
    """Equality, against the plain meaning of the values; any value can be written."""
    text = f"'{wanted}'" if isinstance(wanted, str) else json.dumps(wanted)
    same = (type(wanted), wanted) == (type(other), other)
    assert keeps(parse_where([f"f={text}"]), {"f": other}) is same
    assert keeps(parse_where([f"f!={text}"]), {"f": other}) is not same


@given(bound=st.integers(-50, 50), value=st.one_of(st.integers(-50, 50), st.none(), st.text()))
def test_order(bound: int, value: Any) -> None:
    number = isinstance(value, int)
    assert keeps(parse_where([f"f>={bound}"]), {"f": value}) is (number and value >= bound)
    assert keeps(parse_where([f"f<{bound}"]), {"f": value}) is (number and value < bound)


@given(st.lists(st.text(max_size=12), max_size=3))
def test_any_text_is_read_or_refused(texts: list[str]) -> None:
    try:
        where = parse_where(texts)
    except ValueError as error:
        assert "where" in str(error)
    else:
        make_filter(where, None, None, 0)


def test_fields_to_set() -> None:
    held = {"camera": ["1", None], "pid": [1, "x"], "time": [None]}

    def known(field: str) -> list[Any]:
        return held.get(field, [])

    assert parse_fields([]) == {}
    texts = ["camera=4", "pid=7", "time=12.5", 'gate="a, b"', "note=null", "ok=true"]
    wanted = {"pid": 7, "time": 12.5, "gate": "a, b", "note": None, "ok": True}
    assert parse_fields(texts) == {"camera": 4, **wanted}
    assert parse_fields(texts, known) == {"camera": "4", **wanted}
    assert parse_fields(["camera=null"], known) == {"camera": None}
    for wrong in ("pid", "pid=1,2", "pid>1", "pid!=1", "=1", "pid=", "pid==1"):
        with pytest.raises(ValueError, match=r"pid|'=1'"):
            parse_fields([wrong])
    with pytest.raises(ValueError, match="twice"):
        parse_fields(["pid=1", "pid=2"])
