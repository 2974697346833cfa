"""JSON values of clients: what is harmless passes unchanged, the rest is refused with a reason."""

from __future__ import annotations

import pytest

from reid.service.plain_json import check_plain


@pytest.mark.parametrize(
    "value", [None, True, 1, -(2**63), 1.5, "ü", "😀", [], {}, {"a": [1, {"b": None}]}]
)
def test_harmless(value) -> None:
    assert check_plain(value) is value


def nested(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (nested(7), "levels"),
        (nested(5000), "levels"),
        (list(range(1000)), "1000 values"),
        ({str(i): i for i in range(501)}, "1000 values"),
        ("x" * 4097, "4096 characters"),
        ({"x" * 4097: 1}, "4096 characters"),
        ("\ud800", "cannot be stored"),
        ({"\udfff": 1}, "cannot be stored"),
        ("a\0b", "cannot be stored"),
        (float("nan"), "finite"),
        ([float("-inf")], "finite"),
        (2**63, "64 bits"),
        (10**400, "64 bits"),
    ],
)
def test_refused(value, reason) -> None:
    with pytest.raises(ValueError, match=reason):
        check_plain(value)


def test_limits_are_inclusive() -> None:
    check_plain(nested(6))
    check_plain(list(range(999)))
    check_plain("x" * 4096)
