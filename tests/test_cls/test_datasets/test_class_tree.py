from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cls.datasets.class_tree import check_classes, class_files, labelled, loosely, ordered


def test_names_are_ordered_as_text_and_numbers_by_value() -> None:
    assert ordered(["b", "a", "B", "10", "9"]) == ("10", "9", "B", "a", "b")
    assert ordered(["10", "9", "0", "1", "9"]) == ("0", "1", "9", "10")
    assert ordered(["1", "01"]) == ("01", "1")
    assert ordered([]) == ()


def test_files_of_classes_and_their_labels(animals: Path) -> None:
    notes: list[str] = []
    files = class_files(animals / "train", animals, notes)
    assert {name: len(paths) for name, paths in files.items()} == {"cat": 6, "dog": 4}
    assert files["dog"][0] == "train/dog/0.png" and not notes
    names, labels = labelled(files, ("ant", "cat", "dog"))
    assert labels.tolist() == [1] * 6 + [2] * 4 and labels.dtype == np.int64
    assert names[6] == "train/dog/0.png"


def test_places_that_agree_pass() -> None:
    check_classes({"train": {"a": ["x"], "b": ["x"]}, "val": {"b": ["x"], "a": ["x"]}}, "split")


def test_everything_that_differs_is_named_at_once() -> None:
    places = {
        "art": {"a": ["x"], "b": [], "c": ["x"]},
        "photo": {"a": ["x"], "b": ["x"]},
        "sketch": {"a": ["x"], "b": ["x"], "c": ["x"]},
    }
    with pytest.raises(ValueError, match="class folders differ") as caught:
        check_classes(places, "domain", "option=True")
    text = str(caught.value)
    assert "domain 'art' has no image of class 'b': the folder is empty" in text
    assert "domain 'photo' has no folder for class 'c' (it has 2 folders)" in text
    assert "sketch" not in text and "permit it with option=True" in text
    with pytest.raises(ValueError, match="class folders are incomplete: the data has no image of"):
        check_classes({"": {"a": [], "b": ["x"]}}, "split")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["1.jpg", "2.jpg"], "images lie directly in .* if 'root' is one class, use the folder"),
        ([], "holds no folder; expected <class>/<file>"),
        (["a/readme.txt"], "holds only empty folders"),
        (["data/a/1.jpg", "data/b/1.jpg"], "a single folder, 'data', which consists of folders"),
    ],
)
def test_a_wrong_level_is_explained(tmp_path: Path, make_images, names, message: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    make_images(root, [name for name in names if name.endswith("jpg")])
    for name in names:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch()
    with pytest.raises(ValueError, match=message):
        class_files(root, root, [])


def test_loose_images_are_noted_and_hidden_files_are_not(tmp_path: Path, make_images) -> None:
    make_images(tmp_path, ["a/1.jpg", "a/deep/er/2.JPG", "b/1.jpg", "loose.jpg"])
    (tmp_path / ".cache").mkdir()
    (tmp_path / "a/._1.jpg").touch()
    (tmp_path / "a/Thumbs.db").touch()
    notes: list[str] = []
    files = class_files(tmp_path, tmp_path, notes)
    assert files == {"a": ["a/1.jpg", "a/deep/er/2.JPG"], "b": ["b/1.jpg"]}
    assert len(notes) == 1 and "1 image directly in" in notes[0] and "loose.jpg" in notes[0]


def test_a_single_class_may_have_folders(tmp_path: Path, make_images) -> None:
    make_images(tmp_path, ["a/images/1.jpg", "a/images/2.jpg"])
    assert len(class_files(tmp_path, tmp_path, [])["a"]) == 2


def test_names_are_compared_loosely() -> None:
    assert loosely("Alarm_Clock") == loosely("alarm clock") != loosely("clock")
