from __future__ import annotations

from pathlib import Path

import pytest

from cls.training_data import check_classes, count_classes, train_on
from engine.cli import load_config

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def config():
    return load_config(ROOT / "configs" / "cls" / "resnet18_small_pacs-to-sketch.py")


def test_classes_are_counted_and_checked(config, tree) -> None:
    for loader in (config.train_dataloader, *config.test_dataloader.values()):
        loader.dataset.root = str(tree)
    assert count_classes(config) == 3
    with pytest.raises(ValueError, match=r"have 3 classes.*has 7; set .*num_classes=3"):
        check_classes(config)
    config.model.backbone.num_classes = 3
    check_classes(config)


def test_own_folder_replaces_data_and_classes(config, tree) -> None:
    transforms = config.train_dataloader.dataset.transforms
    train_on(config, "mine", {"type": "cls.ClassFolder", "root": str(tree / "photo")})
    assert config.model.backbone.num_classes == 3
    assert config.train_dataloader.dataset.split == "train"
    assert config.train_dataloader.dataset.transforms == transforms
    assert list(config.test_dataloader) == list(config.val_dataloader) == ["mine"]
    assert config.test_dataloader.mine.dataset.split == "val"
    assert "exclude" not in config.train_dataloader.dataset
    check_classes(config)


def test_own_test_folder_is_tested_on(config, tree, tmp_path) -> None:
    for split in ("train", "test"):
        (tmp_path / split).symlink_to(tree / "photo")
    train_on(config, "mine", {"type": "cls.ClassFolder", "root": str(tmp_path)})
    assert config.test_dataloader.mine.dataset.split == "test"
