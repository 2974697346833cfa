"""Cityscapes and Foggy Cityscapes, with and without the archives' own folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("mmseg")

from seg.datasets import Cityscapes, FoggyCityscapes

Tree = Callable[..., Path]
LOAD = [{"type": "seg.LoadImage"}, {"type": "seg.LoadLabels"}]
FRAMES = {
    "train": ["aachen/aachen_000000_000019", "bremen/bremen_000001_000019"],
    "val": ["lindau/lindau_000000_000019"],
}


def names(pattern: str, **words: str) -> list[str]:
    return [
        pattern.format(split=split, frame=frame, **words)
        for split, frames in FRAMES.items()
        for frame in frames
    ]


IMAGES = "{wrapper}leftImg8bit/{split}/{frame}_leftImg8bit.png"
LABELS = "{wrapper}gtFine/{split}/{frame}_gtFine_{kind}.png"


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize(("kind", "value"), [("labelIds", 26), ("labelTrainIds", 13)])
def test_the_tree(tree: Tree, wrapped: bool, kind: str, value: int) -> None:
    image, label = ("leftImg8bit_trainvaltest/", "gtFine_trainvaltest/") if wrapped else ("", "")
    root = tree(names(IMAGES, wrapper=image), value=value)
    tree(names(LABELS, wrapper=label, kind=kind), value=value)
    tree(names(LABELS, wrapper=label, kind="color"), value=value)
    for split, count in (("train", 2), ("val", 1), ("all", 3)):
        data = Cityscapes(root, split, pipeline=LOAD)
        assert len(data) == count
        for i in range(count):
            assert (data[i]["gt_seg_map"] == 13).all()
        assert data.source == {"labelIds": "cityscapes", "labelTrainIds": "trainids"}[kind]
        assert kind in data.protocol
    other = {"labelIds": "labelTrainIds", "labelTrainIds": "labelIds"}[kind]
    with pytest.raises(FileNotFoundError, match="2 images without label"):
        Cityscapes(root, labels=other)


def test_label_ids_come_first(tree: Tree) -> None:
    root = tree(names(IMAGES, wrapper=""))
    tree(names(LABELS, wrapper="", kind="labelTrainIds"), value=13)
    tree(names(LABELS, wrapper="", kind="labelIds"), value=26)
    assert Cityscapes(root).source == "cityscapes"
    data = Cityscapes(root, labels="labelTrainIds", pipeline=LOAD)
    assert data.source == "trainids" and (data[0]["gt_seg_map"] == 13).all()
    with pytest.raises(ValueError, match="auto, labelIds, labelTrainIds; got 'color'"):
        Cityscapes(root, labels="color")
    with pytest.raises(ValueError, match="splits train, val, all"):
        Cityscapes(root, "test")


def test_neighbouring_data_sets_are_not_mixed_in(tree: Tree) -> None:
    root = tree(names(IMAGES, wrapper="cityscapes/"))
    tree(names(LABELS, wrapper="cityscapes/", kind="labelIds"))
    with pytest.raises(FileNotFoundError, match=r"Did you mean .*cityscapes'"):
        Cityscapes(root)


FOG = "{wrapper}{folder}/{split}/{frame}_leftImg8bit_foggy_beta_{beta}.png"


@pytest.mark.parametrize("folder", ["leftImg8bit_foggy", "leftImg8bit_foggyDBF"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_fog(tree: Tree, folder: str, wrapped: bool) -> None:
    around = folder.replace("leftImg8bit", "leftImg8bit_trainvaltest") + "/" if wrapped else ""
    for beta in ("0.005", "0.01", "0.02"):
        root = tree(names(FOG, wrapper=around, folder=folder, beta=beta))
    tree(names(LABELS, wrapper="", kind="labelIds"), value=7)
    for beta in (0.02, "0.005", 0.01):
        data = FoggyCityscapes(root, "val", beta=beta, pipeline=LOAD)
        assert len(data) == 1 and f"beta_{beta}.png" in data.pairs[0].image
        assert (data[0]["gt_seg_map"] == 0).all()
        assert f"beta {float(beta):g}" in data.protocol and data.NAME == "foggy_cityscapes"
    with pytest.raises(ValueError, match=r"no image of beta 0\.1.*there are 0\.005, 0\.01, 0\.02"):
        FoggyCityscapes(root, "val", beta=0.1)


def test_fog_without_a_split(tree: Tree) -> None:
    root = tree(["leftImg8bit_foggy/train/a/a_leftImg8bit_foggy_beta_0.02.png"])
    tree(["gtFine/train/a/a_gtFine_labelIds.png"])
    with pytest.raises(ValueError, match=r"'val' has no images.*train has 1"):
        FoggyCityscapes(root, "val")
