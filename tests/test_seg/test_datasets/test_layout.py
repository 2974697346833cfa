"""Every layout is recognised as itself, by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("mmseg")

from seg.datasets import LAYOUTS, recognise_layout
from seg.datasets.layout import types_that_match
from seg.registry import DATASETS

Tree = Callable[..., Path]
FINE = "gtFine/train/aachen/aachen_0_gtFine_labelIds.png"
TREES = {
    "gta5": ["images/00001.png", "labels/00001.png"],
    "synthia": ["RGB/0000000.png", "GT/LABELS/0000000.png"],
    "cityscapes": ["leftImg8bit/train/aachen/aachen_0_leftImg8bit.png", FINE],
    "foggy_cityscapes": [
        "leftImg8bit_foggy/train/aachen/aachen_0_leftImg8bit_foggy_beta_0.02.png",
        FINE,
    ],
    "bdd100k": ["images/10k/train/a.jpg", "labels/sem_seg/masks/train/a.png"],
    "mapillary": ["training/images/a.jpg", "training/v1.2/labels/a.png"],
    "acdc": [
        "rgb_anon/fog/train/G/G_1_rgb_anon.png",
        "gt/fog/train/G/G_1_gt_labelIds.png",
    ],
    "idd": [
        "leftImg8bit/train/0/1_leftImg8bit.png",
        "gtFine/train/0/1_gtFine_labelcsTrainIds.png",
    ],
    "idd_lite": ["leftImg8bit/train/0/1_image.jpg", "gtFine/train/0/1_label.png"],
    "camvid": ["images/train/a.png", "labels/train/a.png"],
}


def test_every_layout_is_tested() -> None:
    assert set(TREES) == set(LAYOUTS)
    for name, kind in LAYOUTS.items():
        assert name == DATASETS.get(kind).NAME


@pytest.mark.parametrize("name", TREES)
def test_recognised(tree: Tree, name: str) -> None:
    root = tree(TREES[name], 255 if name in ("idd", "acdc") else 7)
    assert recognise_layout(root) == recognise_layout(str(root)) == name
    split = "all" if name == "gta5" else "train"
    assert len(DATASETS.build({"type": LAYOUTS[name], "root": root, "split": split})) == 1
    assert types_that_match(root) == [LAYOUTS[name]]


def test_both_fogs_and_clear_images(tree: Tree) -> None:
    tree(TREES["cityscapes"])
    assert recognise_layout(tree(TREES["foggy_cityscapes"])) == "cityscapes"


def test_errors(tree: Tree, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist; of that path only"):
        recognise_layout(tmp_path / "a/b")
    with pytest.raises(FileNotFoundError, match="it holds nothing"):
        recognise_layout(tmp_path)
    root = tree(["photos/a.jpg"])
    with pytest.raises(FileNotFoundError, match=r"it holds photos.*seg\.ImageLabelFolder"):
        recognise_layout(root)
    root = tree(TREES["camvid"])
    with pytest.raises(FileNotFoundError, match=r"data' \(camvid\) below it can be read"):
        recognise_layout(root.parent)
