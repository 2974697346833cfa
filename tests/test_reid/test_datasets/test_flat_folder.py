from pathlib import Path

import pytest

from reid.datasets import FlatFolder, parse_flat_folder
from tests.test_reid.test_datasets.made_trees import make_flat, write_images, write_lines

WHO, WHERE = "^(.+)_cam", r"_cam(\d)"


def names(records) -> list[str]:
    return [Path(r.path).name for r in records]


def test_names_say_who_and_where(tmp_path: Path) -> None:
    splits = parse_flat_folder(make_flat(tmp_path), identity_pattern=WHO, camera_pattern=WHERE)
    everyone = (*splits.train, *splits.query, *splits.gallery)
    for record in everyone:
        pid, camid = splits.identities[record.pid], splits.cameras[record.camid]
        assert Path(record.path).name == f"{pid}_cam{camid}.jpg"
    assert len(everyone) == 8 and len(splits.train) == 4
    assert splits.protocol == (
        "flat folder, identities by '^(.+)_cam', identities split automatically (train_fraction "
        "0.5, seed 0), cameras by '_cam(\\d)'"
    )
    assert parse_flat_folder(tmp_path, identity_pattern=WHO).train[0].camid is None


def test_plain_numbers_are_kept(tmp_path: Path) -> None:
    write_images(tmp_path, ("7_a.jpg", "7_b.jpg", "12_a.jpg", "12_b.jpg"))
    splits = parse_flat_folder(tmp_path, identity_pattern=r"^(\d+)", train_fraction=0)
    assert {r.pid for r in splits.records("test")} == {7, 12}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lists_say_what_is_trained_on(tmp_path: Path, end: str) -> None:
    make_flat(tmp_path / "images")
    train = ["car_0001_cam1.jpg", "images/car_0001_cam2.jpg"]  # by name, and by place
    write_lines(tmp_path / "train.txt", train, end)
    write_lines(tmp_path / "val.txt", ["car_0003_cam2.jpg", "car_0003_cam1.jpg"], end)
    options = dict(identity_pattern=WHO, train_list="train.txt", test_list="val.txt")
    splits = parse_flat_folder(tmp_path, **options)
    assert names(splits.train) == ["car_0001_cam1.jpg", "car_0001_cam2.jpg"]
    assert sorted(names(splits.records("test"))) == ["car_0003_cam1.jpg", "car_0003_cam2.jpg"]
    assert splits.notes == ("4 images on neither list left out",)
    assert "train and test as listed" in splits.protocol
    assert FlatFolder(tmp_path, "train", **options).records == splits.train


def test_lists_that_do_not_fit(tmp_path: Path) -> None:
    make_flat(tmp_path / "a")
    make_flat(tmp_path / "b")
    options = dict(identity_pattern=WHO, train_list="train.txt", test_list="train.txt")
    with pytest.raises(FileNotFoundError, match=r"train\.txt' is missing"):
        parse_flat_folder(tmp_path, **options)
    for line, message in (
        ("a/car_0009_cam1.jpg", "1 image that is not below"),
        ("car_0001_cam1.jpg", "1 image that is more than once below"),
        ("", "names no image"),
    ):
        write_lines(tmp_path / "train.txt", [line])
        with pytest.raises(ValueError, match=message):
            parse_flat_folder(tmp_path, **options)
    with pytest.raises(ValueError, match="needed together"):
        parse_flat_folder(tmp_path, identity_pattern=WHO, train_list="train.txt")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (None, "which part of a file's name is the identity"),
        ("(", "is not a regular expression"),
        ("cam", "exactly one group, the identity's name"),
        (r"cam(1)", r"finds no identity in 4 of 8 files: car_0000_cam2\.jpg"),
    ],
)
def test_wrong_patterns(tmp_path: Path, pattern: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_flat_folder(make_flat(tmp_path), identity_pattern=pattern)


def test_no_images(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no image"):
        parse_flat_folder(tmp_path, identity_pattern=WHO)
