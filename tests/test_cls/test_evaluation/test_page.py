from __future__ import annotations

from html.parser import HTMLParser

from cls.evaluation.page import page, write_page
from cls.evaluation.seeds import aggregate


class Checked(HTMLParser):
    """Tags must nest; collects texts and the addresses of what is loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in {"meta", "img", "br"}:
            self.open.append(tag)
        self.sources += [str(v) for k, v in attrs if k in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_page_is_whole_escaped_and_self_contained(make_result, tmp_path) -> None:
    rows = [make_result(0, name="<i>evil</i>", warnings=["<script>alert(1)</script>"])]
    rows.append(make_result(1))
    rows.append(aggregate([make_result(0), make_result(1)]))
    path = write_page(
        tmp_path / "new" / "report.html",
        rows,
        "a <title>",
        mistakes={("<i>evil</i>", "art"): b"png"},
        curves=b"png",
        paper=True,
        note="cmd --x '&'",
    )
    parser = Checked()
    text = path.read_text(encoding="utf-8")
    parser.feed(text)
    parser.close()
    assert not parser.open and "<script" not in text and "<i>evil" not in text
    for words in (
        *(
            "<i>evil</i>",
            "dog <b>&",
            "warning: <script>alert(1)</script>",
            "a <title>",
            "bin (mean",
        ),
        *(
            "65.00 (-10.00)",
            "59.99 (-15.74)",
            "Most frequent confusions",
            "Most confident mistakes",
        ),
        *("art/a/x.png", "cmd --x '&'"),
    ):
        assert any(words in t for t in parser.texts), words
    assert "somebody" not in text  # the last parts of a path are enough
    assert len(parser.sources) == 4 + 2 and all(s.startswith("data:image/") for s in parser.sources)


def test_a_page_of_less(make_result) -> None:
    row = make_result(0, source=None)
    for domain in row.domains.values():
        domain.shifts, domain.shift_words, domain.worst = {}, {}, []
    text = page([row], "x")
    assert "appearance" not in text and "Training" not in text and "mistakes" not in text
