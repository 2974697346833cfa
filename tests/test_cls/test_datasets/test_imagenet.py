from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cls.datasets import ImageNet
from cls.datasets.imagenet import is_wnid

WNIDS = ("n01440764", "n01443537", "n03995372")


@pytest.fixture
def flat(tmp_path: Path, make_images) -> Path:
    """Three classes of four images, and six validation images without folders or a list."""
    root = tmp_path / "imagenet"
    for wnid in WNIDS:
        make_images(root / "train" / wnid, [f"{wnid}_{i}.jpeg" for i in range(4)])
    make_images(root / "val", [f"ILSVRC2012_val_0000000{i}.jpeg" for i in range(1, 7)])
    for file in root.rglob("*.jpeg"):
        file.rename(file.with_suffix(".JPEG"))
    return root


def lines(classes, suffix: str = ".JPEG") -> str:
    return "".join(f"ILSVRC2012_val_0000000{i}{suffix} {c}\n" for i, c in enumerate(classes, 1))


def test_training_images_are_in_class_folders(flat: Path) -> None:
    train = ImageNet(flat)
    assert train.classes == WNIDS
    assert np.bincount(train.labels).tolist() == [4, 4, 4]
    assert train.protocol == (
        "12 of 1,281,167 training images (class folders), 3 of 1,000 classes, not comparable with "
        "published results, in the order of wnids"
    )


def test_the_full_set_is_told_by_its_protocol() -> None:
    from cls.datasets.imagenet import _protocol

    text = _protocol("val", "class folders", 50_000, ["c"] * 1000)
    assert text == "50,000 validation images (class folders), 1,000 classes, in the order of wnids"


@pytest.mark.parametrize("name", ["val.txt", "val/val.txt", "../val.txt"])
def test_a_flat_folder_with_a_list_of_numbers(flat: Path, name: str) -> None:
    (flat / name).write_text(lines([2, 0, 1, 0, 1, 2]))
    val = ImageNet(flat, "val")
    assert val.labels.tolist() == [2, 0, 1, 0, 1, 2]
    assert val[0]["path"] == str(flat / "val/ILSVRC2012_val_00000001.JPEG")
    assert "6 of 50,000 validation images (flat folder with val.txt)" in val.protocol


def test_a_list_of_wnids_and_of_bare_names(flat: Path, tmp_path: Path) -> None:
    (flat / "val_map.txt").write_text(lines([WNIDS[i] for i in (2, 0, 1, 0, 1, 2)]))
    assert ImageNet(flat, "val").labels.tolist() == [2, 0, 1, 0, 1, 2]
    given = tmp_path / "labels.txt"
    given.write_text(lines([1, 1, 1, 0, 0, 2], suffix=""))
    assert ImageNet(flat, "val", val_list=given).labels.tolist() == [1, 1, 1, 0, 0, 2]


def test_the_list_of_kaggle(flat: Path, tmp_path: Path) -> None:
    inside = tmp_path / "kaggle/ILSVRC/Data/CLS-LOC"
    inside.parent.mkdir(parents=True)
    flat.rename(inside)
    rows = [f"ILSVRC2012_val_0000000{i},{WNIDS[i % 3]} 85 1 4 2 " for i in (6, 5, 4, 3, 2, 1)]
    text = "\n".join(["ImageId,PredictionString", *rows])
    (tmp_path / "kaggle/LOC_val_solution.csv").write_text(text)
    val = ImageNet(tmp_path / "kaggle", "val")
    assert val.labels.tolist() == [1, 2, 0, 1, 2, 0]  # by name, whatever the order of the list
    (tmp_path / "kaggle/LOC_val_solution.csv").write_text("ILSVRC2012_val_00000001,x\n")
    (tmp_path / "kaggle/LOC_val_solution.csv").write_text(text + "\nILSVRC2012_val_00000007,x 1\n")
    with pytest.raises(ValueError, match="line 8: expected a wnid such as n01440764, got 'x'"):
        ImageNet(tmp_path / "kaggle", "val")


def test_validation_images_in_class_folders(flat: Path, make_images) -> None:
    for file in (flat / "val").iterdir():
        file.unlink()
    make_images(flat / "val", [f"{wnid}/{i}.jpg" for wnid in WNIDS for i in range(2)])
    assert ImageNet(flat, "val").labels.tolist() == [0, 0, 1, 1, 2, 2]
    for file in (flat / "val" / WNIDS[1]).iterdir():
        file.unlink()
    (flat / "val" / WNIDS[1]).rmdir()
    with pytest.raises(ValueError, match="split 'val' has no folder for class 'n01443537'"):
        ImageNet(flat)
    assert ImageNet(flat, "val", allow_missing_classes=True).labels.tolist() == [0, 0, 2, 2]


def test_validation_without_training_images(flat: Path) -> None:
    (flat / "train").rename(flat / "elsewhere")
    (flat / "val.txt").write_text(lines([999, 0, 1, 0, 1, 2]))
    val = ImageNet(flat, "val")
    assert len(val.classes) == 1000 and val.labels[0] == 999
    (flat / "val.txt").write_text(lines([WNIDS[i] for i in (2, 0, 1, 0, 1, 2)]))
    assert ImageNet(flat, "val").classes == WNIDS
    with pytest.raises(FileNotFoundError, match="no 'train' folder with images"):
        ImageNet(flat)


def test_lists_that_do_not_fit_are_refused(flat: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no list that names .*val\.txt or val_map\.txt"):
        ImageNet(flat, "val")
    with pytest.raises(FileNotFoundError, match="val_list: the file 'nothing' does not exist"):
        ImageNet(flat, "val", val_list="nothing")
    (flat / "val.txt").write_text(lines([3, 1, 1, 2, 1, 2]))
    with pytest.raises(
        ValueError, match=r"1 line of a class .*line 1: '3'.*expected 0\.\.2.*from 0"
    ):
        ImageNet(flat, "val")
    (flat / "val.txt").write_text(lines(["n99999999", *WNIDS, *WNIDS[1:]]))
    with pytest.raises(ValueError, match=r"n99999999.*one of 3 wnids"):
        ImageNet(flat, "val")
    (flat / "val.txt").write_text(lines([0] * 8))
    with pytest.raises(FileNotFoundError, match="names 8 files, of which 2 are not"):
        ImageNet(flat, "val")


def test_images_that_no_list_names_are_noted(flat: Path) -> None:
    (flat / "val.txt").write_text(lines([0] * 4))
    val = ImageNet(flat, "val")
    assert len(val) == 4 and "2 images of 'val' not in val.txt" in val.notes[0]


def test_a_wrong_level_is_explained(flat: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is one split of ImageNet; use the folder above"):
        ImageNet(flat / "train")
    for split in ("train", "val"):
        (flat / split).rename(flat / f"my_{split}")
    with pytest.raises(FileNotFoundError, match=r"no folder 'train' or 'val' \(it holds my_train"):
        ImageNet(flat)


def test_wnids() -> None:
    assert is_wnid("n01440764") and not is_wnid("n0144076") and not is_wnid("dog")
