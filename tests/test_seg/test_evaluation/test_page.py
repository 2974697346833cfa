from __future__ import annotations

import base64
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

pytest.importorskip("mmseg")

from seg.evaluation.metric import Picture
from seg.evaluation.page import page, write_page
from seg.evaluation.seeds import aggregate

VOID = {"meta", "img", "br"}


class Checked(HTMLParser):
    """Tags must nest; collects texts and the addresses of what is loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.sources += [str(v) for k, v in attrs if k in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def picture(why: str = "sample") -> Picture:
    image = cv2.imencode(".jpg", np.full((20, 40, 3), 120, np.uint8))[1].tobytes()
    labels = cv2.imencode(".png", np.zeros((20, 40), np.uint8))[1].tobytes()
    return Picture("/home/somebody/data/val/a/<script>.png", why, 0.25, image, labels, labels)


def test_the_page_is_whole_escaped_and_self_contained(make_result, tmp_path) -> None:
    rows = [make_result(0, name="<i>evil</i>", warnings=["<script>alert(1)</script>"])]
    rows.append(make_result(1))
    shown = {("<i>evil</i>", "city"): [picture(), picture("worst")]}
    path = write_page(tmp_path / "new" / "report.html", rows, "a <title>", shown, "cmd --x '&'")
    text = path.read_text(encoding="utf-8")
    parser = Checked()
    parser.feed(text)
    parser.close()
    assert not parser.open
    assert "<script" not in text and "<i>evil" not in text and "<b>&" not in text
    for words in ("<i>evil</i>", "car <b>&", "warning: <script>alert(1)</script>", "a <title>"):
        assert any(words in t for t in parser.texts), words
    assert "somebody" not in text  # the last parts of a path are enough
    assert parser.sources and all(s.startswith("data:image/") for s in parser.sources)
    assert "prefers-color-scheme: dark" in text and "width=device-width" in text
    jpegs = [s for s in parser.sources if s.startswith("data:image/jpeg")]
    assert len(jpegs) == 2
    data = base64.b64decode(jpegs[0].partition(",")[2])
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) is not None


def test_rows_of_seeds_and_of_different_protocols(make_result) -> None:
    rows = [make_result(0), make_result(1)]
    text = page([*rows, aggregate(rows)], "toy")
    assert "± " in text and "(n=2)" in text and text.count("<h2>run_s") == 4
    rows[1].protocol = {"name": "rein-512", "deviations": [], "text": "rein-512"}
    text = page(rows, "toy")
    assert re.search(r"class=alarm>not comparable: the rows follow different protocols", text)
    assert "rein-512 [2]" in text


def test_only_aggregates(make_result) -> None:
    parser = Checked()
    parser.feed(page([aggregate([make_result(0), make_result(1)])], "toy"))
    assert not parser.open
