"""The load test in small: a real service under several clients and a writer makes no mistake."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("fastapi")

ROOT = Path(__file__).parents[2]


def test_answers_under_load_are_right(tmp_path) -> None:
    table = tmp_path / "t.csv"
    done = subprocess.run(
        [sys.executable, ROOT / "tools/benchmark/gallery_service.py", "--rows", "300",
         "--seconds", "2", "--clients", "4", "--images", "12", "--csv", table],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "all of them right" in done.stdout
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    kinds = ["image", "row", "vector"]
    assert [row["request"] for row in rows] == [*kinds, *kinds, *kinds, "add", "remove"]
    assert all(float(row["p99 ms"]) >= float(row["p50 ms"]) > 0 for row in rows)
