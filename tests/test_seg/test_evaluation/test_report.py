from __future__ import annotations

import io

import cv2
import numpy as np
import pytest

pytest.importorskip("mmseg")

from rich.console import Console

from engine.spread import percent
from seg.evaluation.report import (
    class_table,
    confusion_picture,
    metric_table,
    notes,
    result_table,
)
from seg.evaluation.seeds import aggregate


def printed(table: object) -> str:
    stream = io.StringIO()
    Console(file=stream, width=160).print(table, soft_wrap=True)
    return stream.getvalue()


def test_the_main_table(make_result) -> None:
    rows = [make_result(0), make_result(1)]
    text = printed(result_table([*rows, aggregate(rows)], "toy [red]"))
    assert "toy [red]: mIoU (percent)" in text
    for word in ("game (source)", "city", "gap to source", "run_s0/iter_10", "± ", "(n=2)"):
        assert word in text
    assert percent(rows[0].gap()) in text
    assert "protocol: none" in text and "not comparable" not in text
    assert "mean over 2 of 3 classes" in text and "1,234 images" in text
    assert "mean of targets" not in text  # of one target
    rows[0].domains["town"] = rows[0].domains["city"]
    assert "mean of targets" in printed(result_table(rows, "toy"))


def test_rows_of_different_protocols_say_so(make_result) -> None:
    rows = [
        make_result(0),
        make_result(1, protocol={"name": "rein-512", "deviations": [], "text": "rein-512"}),
        make_result(
            2,
            protocol={
                "name": "rein-512",
                "deviations": ["x"],
                "text": "rein-512 with 1 deviation: x",
            },
        ),
    ]
    text = printed(result_table(rows, "toy"))
    assert "none [1]" in text and "rein-512 [2]" in text and "rein-512 [3]" in text
    assert "protocol [3]: rein-512 with 1 deviation: x" in text
    assert "not comparable: the rows follow different protocols" in text


def test_rows_of_different_data_rules_and_classes_say_so(make_result) -> None:
    rows = [make_result(0), make_result(1, warnings=["chosen on city"])]
    city = rows[1].domains["city"]
    city.data["fingerprint"] = "other"
    city.rules["boundary"] = "within 0.02"
    city.evaluated_classes = [0]
    rows[1].domains["town"] = make_result(3).domains["city"]
    lines = notes(rows)
    for line in (
        "not comparable on city: tested on different data",
        "not comparable on city: evaluated by different rules",
        "not comparable on city: their means are over different classes",
        "not comparable in their means: over different sets of targets",
        "warning: chosen on city",
    ):
        assert line in lines
    assert "-" in printed(result_table(rows, "toy"))


def test_classes_and_metrics(make_result) -> None:
    rows = [make_result(0), make_result(1)]
    text = printed(class_table([*rows, aggregate(rows)], "city"))
    assert "(train)" in text and "classes in brackets" in text and "car <b>&" in text
    assert percent(rows[0].domains["city"].iou[0]) in text
    assert percent(rows[1].value("city", "mIoU")) in text.splitlines()[-2]
    assert "(train)" not in printed(class_table(rows, "game"))
    assert printed(class_table(rows, "village"))
    assert "pixel accuracy" in printed(metric_table(rows))


def test_the_confusion_picture_is_a_picture(make_result) -> None:
    data = confusion_picture(make_result(0).domains["city"], "a $_{title}$ of " + "words " * 30)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert data[:4] == b"\x89PNG" and image.shape[0] > 200
