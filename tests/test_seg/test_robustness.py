from __future__ import annotations

import io
import json
import math

import pytest

from seg.corruptions import CORRUPTIONS, insert_steps, robustness_report


def _evaluate(slope: float, calls: list | None = None):
    def evaluate(steps):
        if calls is not None:
            calls.append(steps)
        severity = steps[0]["severity"] if steps else 0
        extra = 0.01 * len(steps[0]["name"]) if steps else 0
        value = 0.6 - slope * severity - extra
        return {"city": {"mIoU": value, "aAcc": 0.9}, "bdd": {"mIoU": value / 2, "aAcc": 0.8}}

    return evaluate


def test_rows_and_means() -> None:
    calls: list = []
    report = robustness_report(
        {"a": _evaluate(0.1, calls)},
        corruptions=["fog", "jpeg"],
        severities=(3, 1),
        progress=False,
    )
    assert calls == [
        [],
        *(
            [dict(type="seg.Corrupt", name=name, severity=severity)]
            for name in ("fog", "jpeg")
            for severity in (1, 3)
        ),
    ]
    assert len(report.rows) == 2 * 5
    assert report.rows[0] == dict(
        model="a",
        domain="city",
        corruption="clean",
        severity=0,
        metrics={"mIoU": 0.6, "aAcc": 0.9},
    )
    assert report.clean("a", "bdd") == 0.3
    assert report.mean("a", "city", "fog") == pytest.approx(0.6 - 0.2 - 0.03)
    summary = report.summary()["a"]["city"]
    assert summary["mean_under_corruption"] == pytest.approx(0.4 - 0.035)
    assert summary["relative"] == pytest.approx(0.365 / 0.6)
    assert math.isnan(report.value("a", "city", "snow", 1))


def test_all_by_default() -> None:
    calls: list = []
    robustness_report({"a": _evaluate(0.1, calls)}, progress=False)
    assert len(calls) == 1 + 5 * len(CORRUPTIONS)


def test_it_continues() -> None:
    saved: list = []
    options = dict(corruptions=["fog"], severities=(1, 2), progress=False)
    with pytest.raises(RuntimeError):
        calls: list = []

        def stops(steps):
            if len(calls) == 2:
                raise RuntimeError("power cut")
            return _evaluate(0.1, calls)(steps)

        robustness_report({"a": stops}, on_rows=lambda rows: saved.append(list(rows)), **options)
    assert [len(rows) for rows in saved] == [2, 4]
    rest: list = []
    report = robustness_report({"a": _evaluate(0.1, rest)}, known=saved[-1], **options)
    assert [steps[0]["severity"] for steps in rest] == [2]
    assert report.rows == robustness_report({"a": _evaluate(0.1)}, **options).rows


def test_table_plot_and_file(tmp_path) -> None:
    from rich.console import Console

    report = robustness_report(
        {"a": _evaluate(0.1), "b": _evaluate(0.05)},
        corruptions=["fog", "jpeg"],
        progress=False,
    )
    console = Console(file=io.StringIO(), width=120)
    console.print(report.table("protocol x, seed 0"))
    text = console.file.getvalue()
    assert "protocol x, seed 0: mIoU under common corruptions (percent)" in text
    assert "a on city: clean 60.0" in text and "b on bdd: clean 30.0" in text
    fog = next(line for line in text.splitlines() if "fog" in line)
    numbers = [cell.strip() for cell in fog.replace("│", " ").split()]
    assert numbers == ["fog", "47.0", "37.0", "27.0", "17.0", "7.0", "27.0", "45.0"]

    paths = report.write(tmp_path / "new", title="x", protocol="rein-512")
    assert [p.name for p in paths] == [
        "robustness.json",
        "robustness_city.png",
        "robustness_bdd.png",
    ]
    content = json.loads(paths[0].read_text())
    assert content["protocol"] == "rein-512" and len(content["rows"]) == 2 * 2 * 11
    assert paths[1].read_bytes()[:4] == b"\x89PNG"
    assert list(figure_labels(report)) == ["a", "b"]


def figure_labels(report) -> list[str]:
    return [text.get_text() for text in report.figure("city").legends[0].get_texts()]


def test_a_zero_baseline_has_no_ratio() -> None:
    report = robustness_report(
        {"a": lambda steps: {"city": {"mIoU": 0.0}}}, corruptions=["fog"], progress=False
    )
    assert math.isnan(report.summary()["a"]["city"]["relative"])


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="at least one model"):
        robustness_report({})
    with pytest.raises(ValueError, match="did you mean fog"):
        robustness_report({"a": _evaluate(0.1)}, corruptions=["fogg"])
    with pytest.raises(ValueError, match=r"some of 1\.\.5"):
        robustness_report({"a": _evaluate(0.1)}, severities=(0,))
    with pytest.raises(ValueError, match="no metric 'mAP' for city; there are mIoU, aAcc"):
        robustness_report({"a": _evaluate(0.1)}, metric="mAP", progress=False)


def test_insert_steps() -> None:
    pipeline = [dict(type="seg.LoadImage"), dict(type="Resize"), dict(type="PackSegInputs")]
    step = dict(type="seg.Corrupt", name="fog", severity=1)
    out = insert_steps(pipeline, [step])
    assert [s["type"] for s in out] == ["seg.LoadImage", "seg.Corrupt", "Resize", "PackSegInputs"]
    assert len(pipeline) == 3 and insert_steps(pipeline, []) == pipeline
    assert insert_steps([dict(type="LoadImageFromFile")], [step])[1] == step
    with pytest.raises(ValueError, match="step that loads the image"):
        insert_steps([dict(type="Resize")], [step])
