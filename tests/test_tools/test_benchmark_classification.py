from __future__ import annotations

import csv
import runpy
import sys
from pathlib import Path

import cv2
import pytest

from ..test_imaging.conftest import picture

TOOL = Path(__file__).resolve().parents[2] / "tools" / "benchmark" / "classification.py"


def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *arguments: str) -> list[dict[str, str]]:
    """The rows that the tool writes."""
    table = tmp_path / "results" / "table.csv"
    monkeypatch.setattr(sys, "argv", [str(TOOL), *arguments, "--csv", str(table)])
    runpy.run_path(str(TOOL))["main"]()
    with table.open() as file:
        return list(csv.DictReader(file))


def test_data_pipeline(monkeypatch, tmp_path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(5):
        cv2.imwrite(str(photos / f"{i}.jpg"), picture(i, (60, 90)))
    arguments = ["--skip-training", "--images", str(photos), "--count", "3", "--turns", "1"]
    rows = run(monkeypatch, tmp_path, *arguments, "--batch", "2", "--workers", "0")
    sides = ["plain torch", "plain torch, v2 on tensors", "reidseg"]
    assert [(row["case"], row["side"]) for row in rows] == [
        (case, side) for case in ("photos of photos", "array 32x32") for side in sides
    ]
    for row in rows:
        assert float(row["images_per_s"]) > 0 and float(row["cpu_ratio"]) > 0
    assert float(rows[2]["difference"]) < 1  # grey level: the same pictures
    assert float(rows[5]["difference"]) == 0


def test_training_step(monkeypatch, tmp_path) -> None:
    arguments = ["--skip-data", "--turns", "1", "--batch", "2", "--size", "32"]
    rows = run(monkeypatch, tmp_path, *arguments, "--dtypes", "float32")
    assert [row["side"] for row in rows] == ["plain torch", "reidseg"] * 2
    for row in rows[1::2]:
        assert float(row["difference"]) < 1e-4  # the same loss: the same network


def test_wrong_arguments(monkeypatch, tmp_path) -> None:
    with pytest.raises(ValueError, match="--turns: expected 1 or more, got 0"):
        run(monkeypatch, tmp_path, "--turns", "0")
    with pytest.raises(ValueError, match="no image in"):
        run(monkeypatch, tmp_path, "--skip-training", "--images", str(tmp_path))
