from __future__ import annotations

import csv


def test_extraction_and_bare_forward_are_compared(world, tool, tmp_path) -> None:
    code, out, err = tool(
        "benchmark/feature_extraction", "--networks", "resnet18", "--images", 4, "--turns", 1,
        "--batch-size", 2, "--data", world / "noon", "--csv", tmp_path / "t.csv",
    )  # fmt: skip
    assert code == 0 and "images/s" in out, err
    with (tmp_path / "t.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    works = ["bare forward", "extraction, 0 workers", "extraction, 1 workers"]
    assert [row["work"] for row in rows] == works
    assert rows[0]["of bare"] == "100.0%"
    assert all(float(row["images/s"]) > 0 and float(row["CPU s"]) > 0 for row in rows)
