from __future__ import annotations

import csv
import runpy
import sys
from pathlib import Path

import pytest

from .conftest import forget_runs

TOOL = Path(__file__).resolve().parents[2] / "tools" / "benchmark" / "reid_training.py"
SMALL = ("--models", "resnet18", "--size", "32x16", "--batch", "3x2", "--workers", "0")


@pytest.fixture
def run(monkeypatch, tmp_path, world):
    """``run(*arguments)`` -> the rows of the file that the tool writes."""

    def benchmark(*arguments: str) -> list[dict[str, str]]:
        table = tmp_path / "results" / "table.csv"
        data = ("--data", str(world / "noon"), "--csv", str(table))
        monkeypatch.setattr(sys, "argv", [str(TOOL), *SMALL, *data, *arguments])
        monkeypatch.chdir(TOOL.parents[2])  # the configs' names are relative
        runpy.run_path(str(TOOL))["main"]()
        with table.open(newline="") as file:
            return list(csv.DictReader(file))

    yield benchmark
    forget_runs()


def test_data_then_training(run) -> None:
    """Both parts in one file, from two runs; what one measures again replaces the old rows."""
    for _ in range(2):
        rows = run("--skip-training", "--count", "6", "--turns", "1")
    sides = ["reidseg", "cache bytes", "cache resized", "batches augmented", "plain torch"]
    assert [row["side"].rpartition(", ")[2] for row in rows] == sides
    for row in rows:
        assert row["part"] == "data" and float(row["total_us"]) > 0
        parts = [float(row[f"{part}_us"] or 0) for part in ("read", "transforms", "collate")]
        assert all(value > 0 for value in parts) or row["side"] == "plain torch"
    assert float(rows[3]["batches_us"]) > 0 == float(rows[0]["batches_us"])

    side = "reidseg, cache resized, batches augmented"
    options = ("--iterations", "3", "--warmup", "1", "--turns", "1", "--sides", side)
    trained = run("--skip-data", *options)
    assert trained[:5] == rows
    assert [row["side"] for row in trained[5:]] == ["bare step", side, "plain torch, batch norms"]
    for row in trained[5:]:
        speed = 6 / float(row["s_per_iteration"])
        assert row["case"] == "ResNet-18-IBN-a 32x16, 3 x 2"
        assert float(row["images_per_s"]) == pytest.approx(speed, rel=0.01)
    for key in ("against_bare_step", "cpu_against_bare_step", "peak_mb"):
        assert float(trained[6][key]) > 0


@pytest.mark.parametrize(
    "arguments", [("--turns", "0"), ("--iterations", "4", "--warmup", "4"), ("--batch", "16")]
)
def test_wrong_arguments(run, arguments) -> None:
    with pytest.raises((ValueError, SystemExit)):
        run(*arguments)
