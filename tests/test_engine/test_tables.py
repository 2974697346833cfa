from __future__ import annotations

import io

from rich.console import Console

from engine.tables import text_table, titled


def printed(shown: object, width: int) -> str:
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(shown, soft_wrap=True)
    return out.getvalue()


def test_numbers_are_whole_and_words_are_folded() -> None:
    table = text_table(["model", "a long head"], [["x" * 50, "12.345 ± 0.678"]])
    text = printed(table, 30)
    assert "12.345 ± 0.678" in text and "…" not in text
    assert "x" * 16 in text and "x" * 50 not in text
    assert "x" * 50 in printed(table, 200)


def test_title_remarks_and_no_markup() -> None:
    table = text_table(["[red]a"], [["[bold]b"]], last=["mean"], spaced=True)
    text = printed(titled("a [title] longer than the table", table, ["[b]below"]), 20)
    lines = text.splitlines()
    assert lines[0] == "a [title] longer than the table" and lines[-1] == "[b]below"
    assert "[red]a" in text and "[bold]b" in text and "mean" in text


def test_rules_between_sections() -> None:
    lines = [[str(number)] for number in range(4)]
    assert printed(text_table(["x"], lines, sections=[2]), 40).count("├") == 1
    assert printed(text_table(["x"], lines, sections=[0, 2]), 40).count("├") == 1
    assert printed(text_table(["x"], []), 40).count("x") == 1
