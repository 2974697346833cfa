from __future__ import annotations

import io
import math

import numpy as np
import pytest
from rich.console import Console

from cls.evaluation.metric import ClassificationMetric
from cls.evaluation.report import (
    appearance_table,
    certainty_table,
    class_table,
    confusion_table,
    header,
    leave_one_out,
    notes,
    result_table,
    summary_table,
)
from cls.evaluation.results import DomainResult
from cls.evaluation.seeds import aggregate


def printed(table: object, width: int = 160) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, highlight=False).print(table, soft_wrap=True)
    return stream.getvalue()


def test_results_with_their_average_and_their_protocol(make_result) -> None:
    rows = [make_result(0, name="bin_s0/[red]epoch_30"), make_result(1)]
    rows.append(aggregate(rows))
    text = printed(result_table(rows, "toy [bold]"))
    assert "toy [bold] (percent)" in text and "bin_s0/[red]epoch_30" in text
    for word in (
        *("(source)", "(target)", "mean", "75.00", " ± ", "bin (mean of 2)"),
        "art: art val (every tenth), 20 images, 3 classes, Resize 112x112, float32, data art0123",
        *("bin_s1/epoch_30: seed 1, epoch 30, recipe 01234567, weights 111111111111",),
    ):
        assert word in text, (word, text)
    assert "warning" not in text and "top-5" not in text


def test_numbers_are_never_cut_on_a_narrow_terminal(make_result) -> None:
    rows = [make_result(0, name="a" * 70)]
    rows[0].domains["a-domain-of-a-long-name"] = rows[0].domains["art"]
    for table in (result_table(rows, "x"), appearance_table(rows, "art", paper=True)):
        text = printed(table, width=40)
        assert "…" not in text and "75.00" in text
    assert "45.49" in text and "-30.24" in text


def test_what_a_reader_must_not_overlook(make_result) -> None:
    rows = [make_result(0, warnings=["chosen on art"]), make_result(1)]
    rows[1].domains["art"].data["fingerprint"] = "other"
    rows[1].domains["photo"].rules["inference"] = "flipped"
    rows[1].domains["photo"].not_finite = 2
    lines = notes(rows)
    assert "not comparable on art: tested on different data" in lines
    assert "not comparable on photo: tested in different ways" in lines
    assert "warning: chosen on art" in lines
    assert any("logits of 2 images were not finite; they count as wrong" in line for line in lines)
    unknown = make_result(0, seed=None, epoch=None, recipe="", weights="")
    assert any(line.endswith("nothing known of its training") for line in notes([unknown]))


def test_sources_and_targets_are_marked(make_result) -> None:
    rows = [make_result(0), make_result(1)]
    assert header("art", rows) == "art (source)" and header("photo", rows) == "photo (target)"
    alone = [make_result(0, source=None)]
    assert header("art", alone) == "art" and "target" not in printed(result_table(alone, "x"))


def test_leave_one_out(make_result) -> None:
    """Each row has another target: cells say which, and their mean stands below."""
    rows = []
    for seed, target in enumerate(("photo", "sketch")):
        row = make_result(seed, name=f"to-{target}")
        row.domains[target] = row.domains.pop("photo")
        rows.append(row)
    text = printed(result_table(rows, "x"))
    values = [row.value(t, "top-1") for row, t in zip(rows, ("photo", "sketch"), strict=True)]
    assert leave_one_out(rows)[0] == ("top-1", "photo, sketch", pytest.approx(np.mean(values)))
    mean = f"{100 * np.mean(values):.2f}"
    assert f"mean over targets photo, sketch, one left out in each row: top-1 {mean}" in text
    assert leave_one_out(rows[:1]) == leave_one_out([make_result(0), make_result(1)]) == []
    mixed = printed(result_table([make_result(0), make_result(1, source="photo")], "x"))
    assert "(target)" in mixed


def test_appearance(make_result) -> None:
    rows = [make_result(0), make_result(1)]
    rows.append(aggregate(rows))
    text = printed(appearance_table(rows, "art", paper=True))
    for word in (
        *("RGB+50", "std x1.5", "Monet", "65.00", "-10.00", "0.00", "ResNet-50 IBN-b (paper)"),
        *("59.99", "-15.74", "RGB+50: 50 added", "pixels may leave", "100 minus the errors"),
    ):
        assert word in text, (word, text)
    assert "paper" not in printed(appearance_table(rows, "art")).replace("as in the paper", "")
    rows[0].domains["art"].shifts["RGB+50"]["top-1"] = 0.80
    assert "+5.00" in printed(appearance_table(rows[:1], "art"))
    rows[0].domains["art"].shift_words["RGB+50"] = "50 added, clipped to 0..255"
    assert "pixels may leave" not in printed(appearance_table(rows[:1], "art"))


def test_classes(make_result) -> None:
    rows = [make_result(0), make_result(1)]
    text = printed(class_table([*rows, aggregate(rows)], "photo"))
    assert "dog <b>&" in text and "17" in text and "88.9" in text and "emu" in text
    assert "mean" in text and "worst" not in text
    assert printed(certainty_table(rows)).count("1.250") == 4
    confusions = printed(confusion_table(rows[0], "art"))
    assert "cat" in confusions and "25.0" in confusions


def test_of_many_classes_the_worst_and_the_best_are_shown(make_result) -> None:
    row = make_result(0)
    classes = [f"class {number:03d}" for number in range(100)]
    art = row.domains["art"]
    art.classes, art.counts = classes, [10] * 100
    art.accuracy = [number / 100 for number in range(100)]
    art.confusion = []
    text = printed(class_table([row], "art"))
    assert "20 worst and best of 100" in text
    assert "class 019" in text and "class 080" in text and "class 050" not in text


def test_summary_of_a_training() -> None:
    import torch

    metric = ClassificationMetric()
    metric.dataset_meta = {"name": "toy", "split": "val", "classes": list("abcdefg")}
    batch = {"label": torch.arange(7), "index": torch.arange(7), "path": [""] * 7}
    metric.process(batch, list(torch.eye(7)))
    values = metric.evaluate(7)
    text = printed(summary_table({"toy": values}, {"toy": [metric.details]}, "after 3 epochs"))
    for word in ("after 3 epochs (percent)", "top-5", "100.00", "toy: toy val, 7 images"):
        assert word in text
    assert "nothing" in printed(summary_table({"toy": values}, {"toy": [{}]}, "nothing"))


def test_a_missing_number_is_a_dash(make_result) -> None:
    row = make_result(0)
    row.domains["art"].metrics["top-1"] = math.nan
    row.domains["art"].extras = {}
    text = printed(result_table([row], "x")) + printed(certainty_table([row]))
    assert " - " in text
    assert isinstance(row.domains["art"], DomainResult)
