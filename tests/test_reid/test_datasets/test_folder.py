import shutil
from pathlib import Path

import pytest

from reid.datasets import ImageFolder, guess_camera_pattern, parse_image_folder

CAMERA = r"^(\d+)_"


def test_without_cameras(people: Path) -> None:
    splits = parse_image_folder(people)
    assert {r.camid for r in (*splits.train, *splits.query, *splits.gallery)} == {None}
    assert (len(splits.train), len(splits.query), len(splits.gallery)) == (18, 3, 15)
    assert dict(splits.identities) == dict(
        enumerate(["anna", "bert", "carl", "dora", "emil", "frida"])
    )
    assert splits.name == "people"
    assert splits.protocol == (
        "image folder, identities split automatically (train_fraction 0.5, seed 0), no cameras"
    )


def test_cameras_by_pattern(people: Path) -> None:
    splits = parse_image_folder(people, camera_pattern=CAMERA)
    assert dict(splits.cameras) == {0: "01", 1: "02"}
    assert (len(splits.train), len(splits.query), len(splits.gallery)) == (18, 6, 12)
    for record in splits.gallery:
        assert Path(record.path).name.startswith(splits.cameras[record.camid])
        assert Path(record.path).parent.name == splits.identities[record.pid]
    assert splits.protocol.endswith(r"cameras by '^(\d+)_'")


def test_camera_none_overrides_the_pattern(people: Path) -> None:
    dataset = ImageFolder(people, "test", camera=None, camera_pattern=CAMERA)
    assert set(dataset.camids.tolist()) == {-1}
    assert dataset.num_query == 3


def test_cameras_as_folders(tmp_path: Path, make_image) -> None:
    for identity in "ab":
        for camera in ("north", "south"):
            for k in range(2):
                make_image(tmp_path / identity / camera / f"{k}.jpg")
    splits = parse_image_folder(tmp_path, camera_pattern="^([^/]+)/", train_fraction=0)
    assert dict(splits.cameras) == {0: "north", 1: "south"}
    assert (len(splits.query), len(splits.gallery)) == (4, 4)


def test_options_of_the_split(people: Path) -> None:
    assert not parse_image_folder(people, train_fraction=0).train
    one, other = (parse_image_folder(people, seed=seed).train for seed in (0, 1))
    assert one != other
    with pytest.raises(ValueError, match="train_fraction"):
        parse_image_folder(people, train_fraction=2)


def test_given_splits_are_used(tmp_path: Path, make_image) -> None:
    for name in ("train/b/1.jpg", "query/a/1.jpg", "gallery/a/2.jpg", "gallery/c/1.jpg"):
        make_image(tmp_path / name)
    splits = parse_image_folder(tmp_path)
    assert dict(splits.identities) == {0: "a", 1: "b", 2: "c"}
    assert [r.pid for r in splits.train] == [1]
    assert [r.pid for r in splits.query] == [0]
    assert [r.pid for r in splits.gallery] == [0, 2]
    assert "train, query, gallery as in the folders" in splits.protocol
    shutil.rmtree(tmp_path / "train")
    assert "query, gallery as in the folders" in parse_image_folder(tmp_path).protocol


def test_train_and_test_folders(people: Path) -> None:
    for identity in ("anna", "bert", "carl"):
        shutil.move(people / identity, people / "train" / identity)
    for identity in ("dora", "emil", "frida"):
        shutil.move(people / identity, people / "test" / identity)
    splits = parse_image_folder(people, camera_pattern=CAMERA)
    assert {splits.identities[r.pid] for r in splits.train} == {"anna", "bert", "carl"}
    assert {splits.identities[r.pid] for r in splits.query} == {"dora", "emil", "frida"}
    assert (len(splits.query), len(splits.gallery)) == (6, 12)
    (people / "query").mkdir()
    (people / "gallery").mkdir()
    with pytest.raises(ValueError, match="'test' beside 'query' and 'gallery'"):
        parse_image_folder(people)


def test_query_needs_gallery(tmp_path: Path, make_image) -> None:
    make_image(tmp_path / "query" / "a" / "1.jpg")
    with pytest.raises(FileNotFoundError, match=r"no 'gallery'.*needed together"):
        parse_image_folder(tmp_path)
    (tmp_path / "query").rename(tmp_path / "gallery")
    with pytest.raises(FileNotFoundError, match="no 'query'"):
        parse_image_folder(tmp_path)


def test_market_layout_is_recognised(market: Path) -> None:
    with pytest.raises(ValueError, match=r"use reid\.Market1501"):
        parse_image_folder(market)


def test_missing_and_empty_root(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        ImageFolder(tmp_path / "none")
    with pytest.raises(ValueError, match="holds no folder; expected <root>/<identity>/<file>"):
        parse_image_folder(tmp_path)
    (tmp_path / "a").mkdir()
    with pytest.raises(ValueError, match="holds only empty folders"):
        parse_image_folder(tmp_path)


def test_a_root_too_deep_is_named(people: Path) -> None:
    with pytest.raises(ValueError, match="images lie directly in") as caught:
        parse_image_folder(people / "anna")
    assert f"if 'anna' is one identity, use {str(people)!r}" in str(caught.value)


@pytest.mark.parametrize("between", ["data", "data/persons"])
def test_a_root_too_high_is_named(tmp_path: Path, people: Path, between: str) -> None:
    outer = tmp_path / "outer"
    shutil.copytree(people, outer / between)
    with pytest.raises(ValueError, match="holds a single folder, 'data'") as caught:
        parse_image_folder(outer)
    assert f"use {str(outer / between)!r}" in str(caught.value)


def test_a_root_too_high_over_one_identity(tmp_path: Path, make_image) -> None:
    make_image(tmp_path / "outer" / "data" / "anna" / "1.jpg")
    with pytest.raises(ValueError, match="single folder") as caught:
        parse_image_folder(tmp_path / "outer")
    assert f"use {str(tmp_path / 'outer' / 'data')!r}" in str(caught.value)


def test_what_is_left_out_is_noted(people: Path, make_image) -> None:
    (people / "gone").mkdir()
    (people / ".cache").mkdir()
    make_image(people / "sheet.jpg")
    (people / "anna" / "Thumbs.db").touch()
    splits = parse_image_folder(people)
    assert len(splits.identities) == 6
    empty, loose = splits.notes
    assert empty == "no image in 1 identity folder: gone"
    assert loose.startswith("1 image directly in") and loose.endswith("sheet.jpg")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", r"'\(' is not a regular expression"),
        (r"^\d+_", "must have exactly one group.*has 0"),
        (r"^(\d+)_(\d)", "must have exactly one group.*has 2"),
        (r"cam(\d+)", "finds no camera in 36 of 36 files: anna/01_0.jpg"),
        (r"^(01)_", "finds no camera in 18 of 36 files: anna/02_0.jpg"),
    ],
)
def test_wrong_patterns(people: Path, pattern: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_image_folder(people, camera_pattern=pattern)


def test_guess_camera_pattern() -> None:
    assert guess_camera_pattern(f"{c:02d}_{k}.png" for c in (1, 2) for k in range(4)) == r"^(\d+)_"
    assert (
        guess_camera_pattern(f"0001_c{c}s1_{k}.jpg" for c in (1, 2) for k in range(4)) == r"_c(\d+)"
    )
    assert guess_camera_pattern(f"{k:06d}_face.jpg" for k in range(500)) is None  # frame numbers
    assert guess_camera_pattern(["01_1.jpg"] * 9) is None  # one camera
    assert guess_camera_pattern([]) is None
