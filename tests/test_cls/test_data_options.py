from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine import Config

from cls.data_options import (
    parse_targets,
    set_roots,
    use_targets,
)


@pytest.fixture
def config() -> Config:
    steps = [dict(type="Resize", height=8, width=8)]
    data = dict(type="cls.DomainFolder", root="data/pacs", transforms=steps)
    crops = dict(type="cls.ClassFolder", root="data/pacs", transforms=[])
    domains = dict(
        sources=dict(batch_size=8, dataset=dict(**data, exclude="sketch", split="val")),
        sketch=dict(batch_size=4, dataset=dict(**data, domains="sketch", split="all")),
        crops=dict(batch_size=2, dataset=crops),
    )
    return Config(
        dict(
            train_dataloader=dict(dataset=dict(**data, split="train")),
            val_dataloader=dict(sources=domains["sources"]),
            test_dataloader=domains,
        )
    )


def tree(root: Path, *names: str) -> Path:
    """An image in every one of the folders."""
    for name in names:
        (root / name).mkdir(parents=True)
        cv2.imwrite(str(root / name / "x.png"), np.zeros((4, 4, 3), np.uint8))
    return root


def roots(config: Config) -> dict[str, str]:
    return {
        "train": config.train_dataloader.dataset.root,
        **{name: loader.dataset.root for name, loader in config.test_dataloader.items()},
        "val": config.val_dataloader.sources.dataset.root,
    }


def test_one_path_is_where_all_of_it_lies(config, tmp_path) -> None:
    set_roots(config, [str(tmp_path)])
    assert set(roots(config).values()) == {str(tmp_path)}


def test_data_by_name(config, tmp_path) -> None:
    set_roots(config, [f"sources={tmp_path}", f"train={tmp_path}"])
    found = roots(config)
    assert found["train"] == found["sources"] == found["val"] == str(tmp_path)
    assert found["sketch"] == found["crops"] == "data/pacs"
    with pytest.raises(ValueError, match=r"lie in 2 folders .*NAME of crops, sketch, sources, tra"):
        set_roots(config, [str(tmp_path)])


def test_data_that_cannot_be(config, tmp_path) -> None:
    for text in ("train=", ""):
        with pytest.raises(ValueError, match="expected NAME=PATH"):
            set_roots(config, [text])
    with pytest.raises(ValueError, match="no data 'photo', only crops, sketch, sources, train"):
        set_roots(config, [f"photo={tmp_path}"])
    for text in ("train=/nowhere", "/nowhere"):
        with pytest.raises(FileNotFoundError, match="nothing at /nowhere"):
            set_roots(config, [text])


def test_targets(tmp_path) -> None:
    domains = tree(tmp_path / "pacs", "art/dog", "art/cat", "photo/dog", "photo/cat")
    split = tree(tmp_path / "split", "train/dog", "train/cat", "val/dog", "val/cat")
    flat = tree(tmp_path / "flat", "dog", "cat")
    found = parse_targets(
        [f"{domains}", f"domains@art:{domains}", f"folder@train:{split}", f"a={split}", f"b={flat}"]
    )
    kind = "cls.ClassFolder"
    assert found == {
        "domains": dict(type="cls.DomainFolder", root=str(domains), split="all"),
        "art": dict(type="cls.DomainFolder", root=str(domains), split="all", domains="art"),
        "train": dict(type=kind, root=str(split), split="train"),
        "a": dict(type=kind, root=str(split), split="val"),
        "b": dict(type=kind, root=str(flat), split="all"),
    }


def test_targets_that_cannot_be(tmp_path) -> None:
    flat = tree(tmp_path / "flat", "dog", "cat")
    with pytest.raises(ValueError, match=r"a layout of cifar10, .*got 'coco:/x'"):
        parse_targets(["coco:/x"])
    with pytest.raises(ValueError, match=r"splits all, got folder@dev"):
        parse_targets([f"folder@dev:{flat}"])
    with pytest.raises(FileNotFoundError, match="no data at /nowhere"):
        parse_targets(["a=/nowhere"])
    with pytest.raises(ValueError, match="two data sets are called 'folder'; name them"):
        parse_targets([str(flat), str(flat)])


def test_a_target_is_transformed_as_the_data_of_its_type(config) -> None:
    targets = {
        "mine": dict(type="cls.ClassFolder", root="/a", split="all"),
        "other": dict(type="cls.CIFAR10", root="/b", split="test"),
    }
    use_targets(config, targets)
    loaders = config.test_dataloader
    assert list(loaders) == list(config.val_dataloader) == ["mine", "other"]
    assert loaders.mine.batch_size == 2 and loaders.mine.dataset.transforms == []
    assert loaders.other.batch_size == 8 and loaders.other.dataset.root == "/b"
    assert loaders.other.dataset.transforms[0].type == "Resize"
