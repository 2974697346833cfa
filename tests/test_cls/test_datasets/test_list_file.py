from __future__ import annotations

from pathlib import Path

import pytest

from cls.datasets import ListFile


@pytest.fixture
def listed(tmp_path: Path, make_images) -> Path:
    """Three images of two classes below ``images``, and ``train.txt`` beside it."""
    make_images(tmp_path / "images", ["a/1.jpg", "a b/two words.jpg", "c.jpg"])
    (tmp_path / "train.txt").write_text("a/1.jpg 0\na b/two words.jpg\t1\n\nc.jpg   0 \n")
    return tmp_path


def test_lines_are_path_and_class(listed: Path) -> None:
    dataset = ListFile(listed / "train.txt", source=listed / "images")
    assert dataset.names == ["a/1.jpg", "a b/two words.jpg", "c.jpg"]
    assert dataset.labels.tolist() == [0, 1, 0] and dataset.classes == ("0", "1")
    assert dataset[1]["path"] == str(listed / "images/a b/two words.jpg")
    assert dataset.protocol == "list file train.txt, classes 0..1"
    assert dataset.name == "train"


def test_root_may_be_the_folder_and_paths_absolute(listed: Path) -> None:
    (listed / "val.txt").write_text(f"\ufeff{listed}/images/c.jpg 1\nimages/a/1.jpg 0\n")
    dataset = ListFile(listed, "val", num_classes=5)
    assert len(dataset.classes) == 5 and dataset.labels.tolist() == [1, 0]
    assert dataset[0]["path"] == f"{listed}/images/c.jpg"
    with pytest.raises(FileNotFoundError, match=r"test\.txt' does not exist.*train\.txt, val\.txt"):
        ListFile(listed, "test")


def test_names_of_classes(listed: Path) -> None:
    options = dict(source=listed / "images")
    dataset = ListFile(listed, classes=["cat", "dog", "owl"], **options)
    assert dataset.classes == ("cat", "dog", "owl")
    with pytest.raises(ValueError, match="num_classes is 2, but classes has 3 names"):
        ListFile(listed, classes=["cat", "dog", "owl"], num_classes=2, **options)


def test_missing_files_are_counted_and_named(listed: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        ListFile(listed)  # relative to the list's own folder there is nothing
    text = str(caught.value)
    assert "names 3 files, of which 3 are not below" in text
    assert "line 1: 'a/1.jpg', line 2: 'a b/two words.jpg'" in text and "source=" in text
    with (listed / "train.txt").open("a") as file:
        file.write("a/nothing.jpg 0\n/nowhere.jpg 1\n")
    with pytest.raises(FileNotFoundError, match=r"which 2 .* \(line 5: 'a/nothing.jpg', line 6:"):
        ListFile(listed, source=listed / "images")
    with pytest.raises(FileNotFoundError, match=r"dataset folder .* does not exist"):
        ListFile(listed, source=listed / "nothing")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("c.jpg\n", r"expected 'path class' on every line, but 1 line .*\(line 1: 'c.jpg'\)"),
        ("c.jpg 0\nc.jpg one\n", "line 2: 'one' is no whole number"),
        ("c.jpg 1.0\n", "line 1: '1.0' is no whole number"),
        ("c.jpg -1\nc.jpg -2\n", r"classes 0\.\.1, but 2 lines differ \(line 1: -1, line 2: -2\)"),
        ("c.jpg 0\nc.jpg 2\n", r"line 2: 2\); classes count from 0"),
        ("c.jpg 99999999999999999\n", "is no whole number"),
    ],
)
def test_wrong_lines_are_numbered(listed: Path, text: str, message: str) -> None:
    (listed / "train.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        ListFile(listed, source=listed / "images", num_classes=2)


def test_an_empty_list_is_an_empty_split(listed: Path) -> None:
    (listed / "train.txt").write_text("\n")
    with pytest.raises(ValueError, match="'train' of train has no image"):
        ListFile(listed)


def test_what_is_odd_is_noted(listed: Path) -> None:
    (listed / "train.txt").write_text("c.jpg 1\nc.jpg 2\n")
    notes = ListFile(listed, source=listed / "images").notes
    assert "do the classes count from 1?" in notes[0]
    assert notes[1] == "1 file named more than once: c.jpg"
