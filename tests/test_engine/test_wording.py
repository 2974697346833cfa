from __future__ import annotations

from engine.wording import counted, some


def test_counted_and_some() -> None:
    assert counted(1, "image") == "1 image"
    assert counted(0, "image") == "0 images"
    assert counted(1234, "query") == "1,234 queries"
    assert some("abc") == "a, b, c"
    assert some(map(str, range(1007))) == "0, 1, 2, 3, 4, and 1,002 more"
