import shutil
from pathlib import Path

import pytest

from reid.datasets import Market1501, parse_market1501
from reid.datasets.market1501 import OFFICIAL_COUNTS


def numbers(records) -> list[tuple[int, int | None]]:
    return [(r.pid, r.camid) for r in records]


def test_names_are_parsed_and_junk_is_dropped(market: Path) -> None:
    splits = parse_market1501(market)
    assert numbers(splits.train) == [(2, 1), (2, 2), (7, 1), (7, 3)]
    assert numbers(splits.query) == [(5, 1), (9, 6)]
    assert numbers(splits.gallery) == [(0, 1), (5, 2), (9, 1)]  # -1 is gone, 0 stays
    assert splits.protocol == "market1501 layout, 4/2/3 images: not the official split"
    assert splits.notes == ("bounding_box_test: 1 image of identity -1 (junk) left out",)


def test_junk_is_dropped_everywhere(market: Path, make_image) -> None:
    make_image(market / "query" / "-1_c1s1_000000_00.jpg")
    make_image(market / "bounding_box_train" / "-1_c1s1_000000_00.jpg")
    splits = parse_market1501(market)
    assert all(r.pid >= 0 for r in (*splits.train, *splits.query, *splits.gallery))
    assert len(splits.notes) == 3


def test_camera_none_drops_the_labels(market: Path) -> None:
    splits = parse_market1501(market, camera=None)
    assert {r.camid for r in splits.query} == {None}
    assert splits.protocol.endswith("; camera labels ignored")
    assert Market1501(market, "query", camera=None).camids.tolist() == [-1, -1]


def test_camera_numbers_may_have_two_digits(market: Path, make_image) -> None:
    make_image(market / "query" / "0011_c12s1_000000_00.jpg")
    assert numbers(parse_market1501(market).query)[-1] == (11, 12)


def test_official_counts_are_stated(market: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert OFFICIAL_COUNTS == (12_936, 3_368, 15_913)
    monkeypatch.setattr("reid.datasets.market1501.OFFICIAL_COUNTS", (4, 2, 3))
    assert parse_market1501(market).protocol == "market1501 official split, 4/2/3 images"
    next((market / "bounding_box_test").glob("0005*")).unlink()
    protocol = parse_market1501(market).protocol
    assert protocol == "market1501 layout, 4/2/2 images: not the official split"


def test_missing_root(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        Market1501(tmp_path / "none")


@pytest.mark.parametrize("depth", ["Market-1501-v15.09.15", "data/Market-1501-v15.09.15"])
def test_a_tree_too_deep_is_named(tmp_path: Path, market: Path, depth: str) -> None:
    root = tmp_path / "outer"
    shutil.copytree(market, root / depth)
    with pytest.raises(FileNotFoundError) as caught:
        parse_market1501(root)
    assert f"use {str(root / depth)!r} instead" in str(caught.value)


def test_a_root_inside_the_tree_is_named(market: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        parse_market1501(market / "query")
    assert f"use {str(market)!r} instead" in str(caught.value)


def test_missing_folders(market: Path, tmp_path: Path) -> None:
    shutil.rmtree(market / "query")
    with pytest.raises(FileNotFoundError, match="query is missing; give the folder that contains"):
        parse_market1501(market)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"are missing.*reid\.ImageFolder"):
        parse_market1501(tmp_path / "empty")


def test_empty_folder(market: Path, make_image) -> None:
    for path in (market / "query").glob("*.jpg"):
        path.unlink()
    with pytest.raises(ValueError, match=r"query' holds no image$"):
        parse_market1501(market)
    make_image(market / "query" / "deeper" / "0005_c1s1_000451_00.jpg")
    with pytest.raises(ValueError, match=r"must lie directly in it, not as .*deeper"):
        parse_market1501(market)


def test_only_junk(market: Path, make_image) -> None:
    for path in (market / "query").glob("*.jpg"):
        path.unlink()
    make_image(market / "query" / "-1_c1s1_000000_00.jpg")
    with pytest.raises(ValueError, match="only images of identity -1"):
        parse_market1501(market)


def test_foreign_names_are_not_dropped_in_silence(market: Path, make_image) -> None:
    make_image(market / "bounding_box_train" / "holiday.jpg")
    with pytest.raises(
        ValueError, match=r"1 image name not of Market-1501's pattern.*holiday\.jpg"
    ):
        parse_market1501(market)


def test_a_pattern_in_the_folder_name_is_not_read(tmp_path: Path, market: Path) -> None:
    moved = market.rename(tmp_path / "1234_c9_data")
    assert numbers(parse_market1501(moved).query) == [(5, 1), (9, 6)]
