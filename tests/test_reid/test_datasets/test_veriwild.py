from pathlib import Path

import numpy as np
import pytest

from reid.datasets import VERIWild, parse_veriwild, validate
from reid.datasets.veriwild import OFFICIAL_COUNTS
from tests.test_reid.test_datasets.made_trees import make_veriwild, write_lines


def numbers(records) -> list[tuple[int, int | None]]:
    return [(r.pid, r.camid) for r in records]


def test_lists(tmp_path: Path) -> None:
    splits = parse_veriwild(make_veriwild(tmp_path))
    assert numbers(splits.train) == [(1, 10), (1, 11), (2, 12)]
    assert numbers(splits.query) == [(9, 13)]
    assert numbers(splits.gallery) == [(9, 14), (9, 15), (10, 16)]
    assert splits.protocol == (
        "veriwild layout, small test set, matches of the query's own camera do not count, 3/1/3 "
        "images: not the official split"
    )


def test_same_camera_is_an_option(tmp_path: Path) -> None:
    root = make_veriwild(tmp_path)
    kept = parse_veriwild(root, same_camera="keep")
    assert {r.camid for r in kept.records("test")} == {None}
    assert [r.camid for r in kept.train] == [10, 11, 12]  # to train by camera is still possible
    assert "matches of the query's own camera count" in kept.protocol
    np.testing.assert_array_equal(VERIWild(root, "query", same_camera="keep").camids, [-1])
    report = validate(kept)
    assert report.ok
    assert any("query and gallery have no camera labels" in f.message for f in report.findings)
    with pytest.raises(ValueError, match="same_camera must be 'drop' or 'keep'"):
        parse_veriwild(root, same_camera="ignore")


def test_official(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {size: q + g for size, (_, q, g) in OFFICIAL_COUNTS.items()} == {
        "small": 41_861,
        "medium": 69_389,
        "large": 138_517,
    }
    monkeypatch.setitem(OFFICIAL_COUNTS, "small", (3, 1, 3))
    root = make_veriwild(tmp_path)
    lists = root / "train_test_split"
    (lists / "test_3000.txt").rename(lists / "test_1.txt")
    (lists / "test_3000_query.txt").rename(lists / "test_1_query.txt")
    assert parse_veriwild(root).protocol.startswith("veriwild official split, small test set")


def test_the_other_names_and_cells(tmp_path: Path) -> None:
    plain = parse_veriwild(make_veriwild(tmp_path))
    lists = tmp_path / "train_test_split"
    for old, new in (
        ("train_list", "train_list_start0"),
        ("test_3000", "test_3000_id"),
        ("test_3000_query", "test_3000_id_query"),
    ):
        lines = (lists / f"{old}.txt").read_text().splitlines()
        write_lines(lists / f"{new}.txt", (f"{line}.jpg 0 23" for line in lines), "\r\n")
        (lists / f"{old}.txt").unlink()
    assert parse_veriwild(tmp_path) == plain


def test_broken_lists(tmp_path: Path) -> None:
    root = make_veriwild(tmp_path)
    lists = root / "train_test_split"
    with pytest.raises(FileNotFoundError, match=r"test_10000_query\.txt' is missing"):
        parse_veriwild(root, size="large")
    info = (lists / "vehicle_info.txt").read_text().splitlines()
    write_lines(lists / "vehicle_info.txt", info[:-1])
    with pytest.raises(ValueError, match="no camera for 1 image of the lists: 00010/000013"):
        parse_veriwild(root)
    assert len(parse_veriwild(root, camera=None).gallery) == 3
    write_lines(lists / "vehicle_info.txt", [*info[:1], "00001/000001;north"])
    with pytest.raises(ValueError, match=r"1 line not as in .*: 00001/000001;north"):
        parse_veriwild(root)
    write_lines(lists / "vehicle_info.txt", info)
    (root / "images/00001/000001.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 image of the 3 listed in 'train_list\.txt'"):
        parse_veriwild(root)
    write_lines(lists / "train_list.txt", ["000001.jpg"])
    with pytest.raises(ValueError, match="1 line not as in '00001/000001'"):
        parse_veriwild(root)
