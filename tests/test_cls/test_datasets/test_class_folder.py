from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cls.datasets import ClassFolder
from cls.registry import DATASETS


def test_splits_are_those_of_the_folders(animals: Path) -> None:
    train, val = ClassFolder(animals), ClassFolder(animals, "val")
    assert train.classes == val.classes == ("cat", "dog")
    assert np.bincount(train.labels).tolist() == [6, 4]
    assert np.bincount(val.labels).tolist() == [2, 2]
    assert val.protocol == "class folders, 'val' as in the folders"
    with pytest.raises(ValueError, match=r"no split 'test': its folders are 'train', 'val'"):
        ClassFolder(animals, "test")


@pytest.mark.parametrize("name", ["valid", "validation", "Val"])
def test_validation_has_several_names(animals: Path, name: str) -> None:
    (animals / "val").rename(animals / name)
    assert len(ClassFolder(animals, "val")) == 4


def test_a_split_is_made_where_there_is_none(animals: Path) -> None:
    root = animals / "train"
    train, val = ClassFolder(root, fraction=0.5), ClassFolder(root, "val", fraction=0.5)
    assert np.bincount(train.labels).tolist() == [3, 2]
    assert np.bincount(val.labels).tolist() == [3, 2]
    assert sorted(train.names + val.names) == ClassFolder(root, "all").names
    assert (
        train.protocol == "class folders, 'train' of a split by class (train fraction 0.5, seed 0)"
    )
    assert train.names == ClassFolder(root, fraction=0.5).names
    assert any(train.names != ClassFolder(root, fraction=0.5, seed=s).names for s in (1, 2, 3))
    with pytest.raises(ValueError, match="no folder 'test': without split folders"):
        ClassFolder(root, "test")
    with pytest.raises(ValueError, match="fraction must lie between"):
        ClassFolder(root, fraction=1.0)


def test_character_sets_are_labelled_by_value(tmp_path: Path, make_images) -> None:
    make_images(tmp_path, [f"train/{digit}/0.png" for digit in range(12)])
    dataset = ClassFolder(tmp_path)
    assert dataset.classes == tuple(map(str, range(12)))
    assert dataset.labels.tolist() == list(range(12))
    assert dataset.names[2] == "train/2/0.png"


def test_folders_inside_a_class_are_searched(tmp_path: Path, make_images) -> None:
    make_images(tmp_path, ["a/x/1.jpg", "a/2.jpg", "b/y/z/3.jpg"])
    assert ClassFolder(tmp_path, "all").labels.tolist() == [0, 0, 1]


def test_a_class_may_be_called_train(tmp_path: Path, make_images) -> None:
    make_images(tmp_path, [f"{c}/{i}.jpg" for c in ("bus", "car", "train") for i in range(2)])
    assert ClassFolder(tmp_path, "all").classes == ("bus", "car", "train")


def test_folders_beside_the_splits_are_noted(animals: Path, make_images) -> None:
    make_images(animals, ["extra/1.jpg"])
    assert ClassFolder(animals).notes == ("beside the splits, left out: 'extra'",)


def test_splits_with_different_classes_are_refused(animals: Path, make_images) -> None:
    make_images(animals, ["train/cow/0.jpg"])
    with pytest.raises(ValueError, match=r"split 'val' has no folder for class 'cow'.*permit it"):
        ClassFolder(animals)
    val = ClassFolder(animals, "val", allow_missing_classes=True)
    assert val.classes == ("cat", "cow", "dog")
    assert val.labels.tolist() == [0, 0, 2, 2]


def test_empty_classes_are_refused(animals: Path) -> None:
    for split in ("train", "val"):
        (animals / split / "ant").mkdir()
    with pytest.raises(ValueError, match="has no image of class 'ant': the folder is empty"):
        ClassFolder(animals)
    with pytest.raises(ValueError, match="the data has no image of class 'ant'"):
        ClassFolder(animals / "train")
    dataset = ClassFolder(animals, allow_missing_classes=True)
    assert dataset.classes == ("ant", "cat", "dog") and dataset.labels.min() == 1


def test_the_root_may_be_written_in_any_way(animals: Path, monkeypatch) -> None:
    monkeypatch.chdir(animals)
    expected = ClassFolder(animals)
    for root in (".", "./", "../animals", f"{animals}/", f"{animals}/../animals"):
        dataset = ClassFolder(root)
        assert dataset.names == expected.names
        assert dataset.name == "animals"
        assert dataset.fingerprint() == expected.fingerprint()
        assert dataset[3]["label"] == expected[3]["label"]


def test_registered_under_its_room(animals: Path) -> None:
    assert len(DATASETS.build(dict(type="cls.ClassFolder", root=str(animals), split="val"))) == 4
