from pathlib import Path

import pytest

from reid.datasets import MSMT17, parse_msmt17
from reid.datasets.msmt17 import OFFICIAL_COUNTS
from tests.test_reid.test_datasets.made_trees import make_msmt17, write_images, write_lines


def numbers(records) -> list[tuple[int, int | None]]:
    return [(r.pid, r.camid) for r in records]


@pytest.mark.parametrize("version", ["V1", "V2"])
def test_lists(tmp_path: Path, version: str) -> None:
    splits = parse_msmt17(make_msmt17(tmp_path, version))
    assert numbers(splits.train) == [(0, 1), (0, 14), (1, 5)]
    # 0 of the test lists is another person than 0 of the training lists
    assert numbers(splits.query) == [(3, 3)]
    assert numbers(splits.gallery) == [(3, 4), (4, 4)]
    assert splits.identities == {0: "train 0", 1: "train 1", 3: "test 0", 4: "test 1"}
    assert splits.protocol == (
        f"msmt17 layout, {version}, trained on list_train alone, 3/1/2 images: not the official "
        "split"
    )
    assert all(Path(r.path).is_file() for r in (*splits.train, *splits.records("test")))


def test_what_is_trained_on_names_the_protocol(tmp_path: Path) -> None:
    root = make_msmt17(tmp_path)
    some = {train: parse_msmt17(root, train=train) for train in OFFICIAL_COUNTS}
    assert [len(splits.train) for splits in some.values()] == [3, 4, 7]
    assert len({splits.protocol for splits in some.values()}) == 3
    assert some["train"].records("test") == some["train+val"].records("test")
    assert not some["all"].query and not some["all"].gallery
    assert len({r.pid for r in some["all"].train}) == 5
    with pytest.raises(ValueError, match=r"'test' of msmt17 has no image.*nothing left to test on"):
        MSMT17(root, "test", train="all")


def test_official(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert OFFICIAL_COUNTS["train+val"][0] == 32_621
    assert sum(OFFICIAL_COUNTS["train+val"]) == OFFICIAL_COUNTS["all"][0]
    monkeypatch.setitem(OFFICIAL_COUNTS, "train+val", (4, 1, 2))
    assert parse_msmt17(make_msmt17(tmp_path), train="train+val").protocol == (
        "msmt17 official split, V1, trained on list_train and list_val, 4/1/2 images"
    )


def test_windows_line_ends(tmp_path: Path) -> None:
    plain = parse_msmt17(make_msmt17(tmp_path))
    for file in tmp_path.glob("list_*.txt"):
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    assert parse_msmt17(tmp_path) == plain


def test_a_missing_list(tmp_path: Path) -> None:
    root = make_msmt17(tmp_path)
    (root / "list_val.txt").unlink()
    assert len(parse_msmt17(root).train) == 3
    with pytest.raises(FileNotFoundError, match=r"list_val\.txt' is missing"):
        parse_msmt17(root, train="train+val")
    (root / "list_query.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"list_query\.txt' is missing"):
        parse_msmt17(root)


def test_listed_images_that_are_missing(tmp_path: Path) -> None:
    root = make_msmt17(tmp_path)
    (root / "test/0001/0001_000_04_0303morning_0015_1.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 image of the 2 listed in 'list_gallery\.txt'"):
        parse_msmt17(root)


@pytest.mark.parametrize(
    "line", ["0000/0000_000.jpg 0", "0000/0000_000_xx_1.jpg 0", "a_b_01.jpg x"]
)
def test_foreign_lines(tmp_path: Path, line: str) -> None:
    root = make_msmt17(tmp_path)
    write_lines(root / "list_train.txt", [line])
    write_images(root / "train", [line.split()[0]])
    with pytest.raises(ValueError, match="1 line not as in"):
        parse_msmt17(root)


def test_an_empty_list_and_a_wrong_option(tmp_path: Path) -> None:
    root = make_msmt17(tmp_path)
    with pytest.raises(ValueError, match=r"'train', 'train\+val' or 'all', got 'val'"):
        parse_msmt17(root, train="val")
    (root / "list_train.txt").write_text("\n")
    with pytest.raises(ValueError, match="names no image"):
        parse_msmt17(root)
