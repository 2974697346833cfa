from __future__ import annotations

from pathlib import Path

import pytest

from cls.datasets import LAYOUTS, recognise_layout, splits_of
from cls.registry import DATASETS


def test_every_layout_names_a_registered_type() -> None:
    assert all(DATASETS.get(kind) is not None for kind in LAYOUTS.values())


def check(root: Path, layout: str, *splits: str) -> None:
    assert recognise_layout(root) == layout
    assert splits_of(root, layout) == splits


def test_cifar(cifar10: Path, cifar100: Path) -> None:
    check(cifar10, "cifar10", "train", "test")
    check(cifar100, "cifar100", "train", "test")
    with pytest.raises(ValueError, match="holds CIFAR-10 and CIFAR-100; give one of"):
        recognise_layout(cifar10.parent)
    (cifar100 / "train").unlink()
    (cifar100 / "test").unlink()
    check(cifar10.parent, "cifar10", "train", "test")


def test_class_folders_and_domains(animals: Path, styles: Path) -> None:
    check(animals, "folder", "train", "val")
    check(styles, "domains", "all")
    check(styles / "art", "folder", "all")


def test_nested_classes_are_no_domains(tmp_path: Path, make_images) -> None:
    make_images(tmp_path, ["a/x/1.jpg", "a/y/1.jpg", "b/z/1.jpg", "b/2.jpg"])
    check(tmp_path, "folder", "all")


def test_imagenet(tmp_path: Path, make_images) -> None:
    make_images(tmp_path / "ILSVRC/Data/CLS-LOC/train", ["n01440764/1.jpg", "n01443537/1.jpg"])
    check(tmp_path, "imagenet", "train")
    make_images(tmp_path / "b/val", ["ILSVRC2012_val_00000001.jpg"])
    check(tmp_path / "b", "imagenet", "val")


def test_tiny_imagenet(tmp_path: Path, make_images) -> None:
    make_images(tmp_path / "train", ["n01440764/images/1.jpg", "n01443537/images/1.jpg"])
    (tmp_path / "wnids.txt").touch()
    check(tmp_path, "tiny_imagenet", "train")


def test_lists(tmp_path: Path, make_images) -> None:
    make_images(tmp_path / "images", ["1.jpg"])
    (tmp_path / "train.txt").touch()
    (tmp_path / "test.txt").touch()
    check(tmp_path, "list", "train", "test")
    check(tmp_path / "train.txt", "list", "train")
    (tmp_path / "all.txt").touch()
    check(tmp_path / "all.txt", "list", "all")


def test_a_wrong_level_gets_a_hint(animals: Path, styles: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is one split of 'train', 'val'; give the folder above"):
        recognise_layout(animals / "val")
    with pytest.raises(ValueError, match=r"seem to be of one class; .*train' above it can be read"):
        recognise_layout(animals / "train/cat")
    for levels in ("a", "b/c"):
        deep = tmp_path / levels
        deep.mkdir(parents=True)
        styles = styles.rename(deep / "styles")
        with pytest.raises(ValueError, match=r"styles' below it can be read \(domains\)"):
            recognise_layout(tmp_path / levels[0])


def test_other_files_are_refused(tmp_path: Path) -> None:
    archive = tmp_path / "images.tar.gz"
    archive.touch()
    with pytest.raises(ValueError, match=r"is a file; expected a folder.*unpack it first"):
        recognise_layout(archive)
    with pytest.raises(FileNotFoundError, match="does not exist; of that path only"):
        recognise_layout(tmp_path / "a/b")
    (tmp_path / "notes").mkdir()
    with pytest.raises(ValueError, match=r"none of the known layouts .*it holds nothing"):
        recognise_layout(tmp_path / "notes")
