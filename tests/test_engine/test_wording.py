from __future__ import annotations

from engine.wording import as_file_name, counted, distinct, printable, some


def test_counted_and_some() -> None:
    assert counted(1, "image") == "1 image"
    assert counted(0, "image") == "0 images"
    assert counted(1234, "query") == "1,234 queries"
    assert some("abc") == "a, b, c"
    assert some(map(str, range(1007))) == "0, 1, 2, 3, 4, and 1,002 more"


def test_distinct() -> None:
    assert distinct(["a", "b", "a", "a"]) == ["a", "b", "a (2)", "a (3)"]


def test_as_file_name() -> None:
    assert as_file_name("run/epoch 3 on ärt-1.5") == "run_epoch_3_on_ärt-1.5"
    assert as_file_name("../x ") == ".._x"


def test_printable() -> None:
    assert printable("中庭 é-1.jpg") == "中庭 é-1.jpg"
    assert printable("\x1b]0;a\x07\n\udcff") == r"\x1b]0;a\x07\n\udcff"
