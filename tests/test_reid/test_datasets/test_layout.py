from pathlib import Path

import pytest

from reid.datasets import recognise_layout


def test_layouts(market: Path, people: Path, tmp_path: Path) -> None:
    assert recognise_layout(market) == "market1501"
    assert recognise_layout(market / "query") == "market1501"
    assert recognise_layout(market / "bounding_box_train") == "market1501"
    assert recognise_layout(market.parent) == "market1501"  # one level up: its parser says so
    assert recognise_layout(people) == "folder"
    (people / "notes.csv").write_text("date,weather\n")
    assert recognise_layout(people) == "folder"
    (people / "list.csv").write_text("\ufeffPID;Path;x\n")
    assert recognise_layout(people) == "csv"
    assert recognise_layout(people / "notes.csv") == "csv"
    (tmp_path / "query" / "anna").mkdir(parents=True)
    assert recognise_layout(tmp_path / "query") == "folder"
    (tmp_path / "empty").mkdir()
    assert recognise_layout(tmp_path / "empty") == "folder"


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        recognise_layout(tmp_path / "none")
