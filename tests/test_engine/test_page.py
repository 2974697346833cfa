from __future__ import annotations

import base64

from engine.page import document, embedded_image, remarks, short_path, table


def test_every_text_is_escaped_and_nothing_is_loaded() -> None:
    shown = table(["model", "a<b"], [["<i>x</i>", "1 & 2"]], text=(1,), last=["mean", "<3"])
    image = embedded_image(b"data", "png", '"quoted"')
    text = document("a <title>", [shown, "", image])
    assert "<i>" not in text and "&lt;i&gt;x" in text and "1 &amp; 2" in text
    assert "<title>a &lt;title&gt;</title>" in text and "&quot;quoted&quot;" in text
    assert f"data:image/png;base64,{base64.b64encode(b'data').decode()}" in text
    assert "<tfoot>" in text and text.count("<td") == 4
    assert text.startswith("<!DOCTYPE html>") and "http" not in text and "\n\n" not in text


def test_a_short_path_is_nobody_s_home() -> None:
    assert short_path("/home/somebody/data/val/a/x.png") == "val/a/x.png"
    assert short_path("x.png") == "x.png"


def test_remarks_that_matter_stand_out() -> None:
    shown = remarks(["<plain>", "warning: <b>", "not comparable on x"])
    assert "<li>&lt;plain&gt;</li>" in shown and shown.count("<li class=alarm>") == 2


def test_a_wide_picture_scrolls() -> None:
    assert embedded_image(b"x", "jpeg", "y", scrolls=True).startswith('<div class="wide"><img')
    assert ".wide > img { max-width: none; }" in document("x", [])
