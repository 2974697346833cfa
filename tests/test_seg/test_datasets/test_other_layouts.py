"""SYNTHIA, BDD100K, Mapillary, ACDC, IDD, IDD-lite, CamVid and own folders."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("mmseg")

from seg.datasets import (
    ACDC,
    BDD100K,
    IDD,
    CamVid,
    IDDLite,
    ImageLabelFolder,
    Mapillary,
    SegmentationDataset,
    Synthia,
)
from seg.datasets.mapillary import class_of
from seg.label_spaces import SOURCES

Tree = Callable[..., Path]
LOAD = [{"type": "seg.LoadImage"}, {"type": "seg.LoadLabels"}]


def label_of(data: SegmentationDataset, index: int = 0) -> int:
    (value,) = np.unique(data[index]["gt_seg_map"])
    return int(value)


@pytest.mark.parametrize("wrapper", ["", "RAND_CITYSCAPES/"])
def test_synthia(tree: Tree, wrapper: str) -> None:
    root = tree([f"{wrapper}{k}/0000{i}.png" for k in ("RGB", "GT/LABELS") for i in range(3)], 8)
    tree([f"{wrapper}GT/COLOR/00000.png"])
    for split in ("train", "all"):
        data = Synthia(root, split, pipeline=LOAD)
        assert len(data) == 3 and label_of(data) == 13
        assert "no official split" in data.protocol
    assert len(data.metainfo["evaluated_classes"]) == 16
    with pytest.raises(ValueError, match="splits train, all"):
        Synthia(root, "val")
    tree([f"{wrapper}GT/LABELS/00001.png"], value=23)
    with pytest.raises(ValueError, match=r"00001\.png.*23 \(48 pixels\)"):
        data[1]
    Image.new("L", (8, 6)).save(root / f"{wrapper}GT/LABELS/00001.png")
    with pytest.raises(ValueError, match=r"8-bit grey PNG.*have 16 bits"):
        data[1]


@pytest.mark.parametrize("wrapper", ["", "bdd100k/"])
def test_bdd100k(tree: Tree, wrapper: str) -> None:
    names = {"train": ["a", "b"], "val": ["c"]}
    root = tree([f"{wrapper}images/10k/{s}/{n}.jpg" for s, ns in names.items() for n in ns])
    tree([f"{wrapper}labels/sem_seg/masks/{s}/{n}.png" for s, ns in names.items() for n in ns], 16)
    tree([f"{wrapper}labels/sem_seg/colormaps/train/a.png", f"{wrapper}images/10k/test/t.jpg"])
    for split, count in (("train", 2), ("val", 1), ("all", 3)):
        data = BDD100K(root, split, pipeline=LOAD)
        assert len(data) == count and label_of(data) == 16 and data.source == "trainids"
    (root / f"{wrapper}labels/sem_seg/masks/val/c.png").rename(
        root / f"{wrapper}labels/sem_seg/masks/val/c_train_id.png"
    )
    assert len(BDD100K(root, "val")) == 1


MAPILLARY_12 = {13: "construction--flat--road", 55: "object--vehicle--car"}


@pytest.mark.parametrize("folder", ["labels", "v1.2/labels"])
def test_mapillary_12(tree: Tree, folder: str) -> None:
    splits = {"training": ["a", "b"], "validation": ["c"]}
    root = tree([f"{s}/images/{n}.jpg" for s, ns in splits.items() for n in ns])
    tree([f"{s}/{folder}/{n}.png" for s, ns in splits.items() for n in ns], 24)
    tree([f"{s}/{folder.replace('labels', 'instances')}/x.png" for s in splits])
    for split, count in (("train", 2), ("val", 1), ("all", 3)):
        data = Mapillary(root, split, pipeline=LOAD)
        assert len(data) == count and label_of(data) == 0 and data.source == "mapillary12"
        assert "1.2" in data.protocol
    with pytest.raises(FileNotFoundError, match=r"no labels of version 2\.0"):
        Mapillary(root, version="2.0")
    with pytest.raises(ValueError, match=r"'1\.2', '2\.0' or 'auto'"):
        Mapillary(root, version="3")
    # a config that agrees, one of another version, one that is none
    ids = SOURCES["mapillary12"].ids
    first = {c: n for n, c in ((n, class_of(n)) for n in KNOWN) if c is not None}
    labels = [{"name": first.get(ids[i], "void--other")} for i in range(66)]
    (root / "config.json").write_text(json.dumps({"labels": labels}))
    assert len(Mapillary(root)) == 2
    labels[55]["name"] = "object--vehicle--bus"
    (root / "config.json").write_text(json.dumps({"labels": labels}))
    with pytest.raises(ValueError, match=r"other classes .* the ids 55"):
        Mapillary(root)
    (root / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="not a config of Mapillary"):
        Mapillary(root)


KNOWN = (
    "construction--flat--road",
    "construction--flat--sidewalk",
    "construction--structure--building",
    "construction--barrier--wall",
    "construction--barrier--fence",
    "object--support--pole",
    "object--traffic-light",
    "object--traffic-sign--front",
    "nature--vegetation",
    "nature--terrain",
    "nature--sky",
    "human--person",
    "human--rider--bicyclist",
    "object--vehicle--car",
    "object--vehicle--truck",
    "object--vehicle--bus",
    "object--vehicle--on-rails",
    "object--vehicle--motorcycle",
    "object--vehicle--bicycle",
)


def test_mapillary_names() -> None:
    classes = {
        "human--person--individual": "person",
        "human--person--person-group": "person",
        "human--rider--other-rider": "rider",
        "human--ground-animal": None,
        "marking--general": "road",
        "marking--continuous--dashed": "road",
        "marking-only--discrete--other-marking": "road",
        "marking--discrete--crosswalk-zebra": None,
        "construction--flat--crosswalk-plain": None,
        "object--traffic-light--pedestrians": "traffic light",
        "object--traffic-sign--direction-front": "traffic sign",
        "object--traffic-sign--direction-back": None,
        "object--traffic-sign--back": None,
        "object--support--traffic-sign-frame": None,
        "object--support--utility-pole": "pole",
        "object--manhole": "road",
        "construction--barrier--curb": "sidewalk",
        "void--unlabeled": None,
    }
    assert {name: class_of(name) for name in classes} == classes
    assert {class_of(name) for name in KNOWN} == set(SOURCES["trainids"].ids.values()) - {None}


def test_mapillary_20(tree: Tree) -> None:
    root = tree(["validation/images/a.jpg", "training/images/b.jpg"])
    tree(["validation/v2.0/labels/a.png", "training/v2.0/labels/b.png"], 2)
    with pytest.raises(FileNotFoundError, match=r"config_v2\.0\.json' is not there.*ships with"):
        Mapillary(root, "val")
    names = ["void--unlabeled", "nature--sky", "human--person--individual"]
    (root / "config_v2.0.json").write_text(json.dumps({"labels": [{"name": n} for n in names]}))
    data = Mapillary(root, "val", pipeline=LOAD)
    assert label_of(data) == 11 and "2.0" in data.protocol
    assert data.metainfo["evaluated_classes"] == [10, 11]
    tree(["validation/v1.2/labels/a.png"], 19)
    data = Mapillary(root, "val", pipeline=LOAD)
    assert label_of(data) == 11 and data.source == "mapillary12"
    assert label_of(Mapillary(root, "val", version="2.0", pipeline=LOAD)) == 11


@pytest.mark.parametrize("wrapped", [False, True])
def test_acdc(tree: Tree, wrapped: bool) -> None:
    image, label = ("rgb_anon_trainvaltest/", "gt_trainval/") if wrapped else ("", "")
    for condition in ("fog", "night", "rain", "snow"):
        for split in ("train", "val", "train_ref"):
            frame = f"{condition}/{split}/GOPR0475/GOPR0475_frame_000041"
            root = tree([f"{image}rgb_anon/{frame}_rgb_{'ref_' * ('ref' in split)}anon.png"])
            if "ref" not in split:
                tree([f"{label}gt/{frame}_gt_labelIds.png"], 24)
                tree([f"{label}gt/{frame}_gt_labelColor.png", f"{label}gt/{frame}_gt_invIds.png"])
    data = ACDC(root, "val", pipeline=LOAD)
    assert len(data) == 4 and label_of(data, 3) == 11
    assert [Path(p.image).parts[-4] for p in data.pairs] == ["fog", "night", "rain", "snow"]
    assert len(ACDC(root, "all")) == 8
    night = ACDC(root, "train", condition="night")
    assert len(night) == 1 and "night" in night.pairs[0].image and "night" in night.protocol
    with pytest.raises(ValueError, match="fog, night, rain, snow, or None for all; got 'dusk'"):
        ACDC(root, condition="dusk")


def test_idd(tree: Tree) -> None:
    frames = ["train/0/000010", "train/1/000020", "val/5/000030"]
    root = tree([f"leftImg8bit/{f}_leftImg8bit.{'jpg' if '20' in f else 'png'}" for f in frames])
    tree([f"gtFine/{f}_gtFine_polygons.json" for f in frames])
    with pytest.raises(FileNotFoundError, match="2 images without label"):
        IDD(root)
    tree([f"gtFine/{f}_gtFine_labellevel3Ids.png" for f in frames], 9)
    data = IDD(root, pipeline=LOAD)
    assert len(data) == 2 and data.source == "idd" and label_of(data) == 13
    assert label_of(IDD(root, "val", space="street7", pipeline=LOAD)) == 3
    tree([f"gtFine/{f}_gtFine_labelcsTrainIds.png" for f in frames], 14)
    data = IDD(root, "all", pipeline=LOAD)
    assert len(data) == 3 and data.source == "trainids" and label_of(data) == 14
    assert IDD(root, labels="labellevel3Ids").source == "idd"


def test_idd_lite(tree: Tree) -> None:
    frames = ["train/0/024541", "val/7/000001", "val/7/000002"]
    root = tree([f"leftImg8bit/{f}_image.jpg" for f in frames])
    tree([f"gtFine/{f}_label.png" for f in frames], 6)
    tree([f"gtFine/{f}_inst_label.png" for f in frames], 200)
    for split, count in (("train", 1), ("val", 2), ("all", 3)):
        data = IDDLite(root, split, pipeline=LOAD)
        assert len(data) == count and label_of(data) == 6 and data.space == "street7"
    with pytest.raises(ValueError, match=r"does not fit the space 'cityscapes19'.*street7"):
        IDDLite(root, space="cityscapes19")


def test_camvid(tree: Tree) -> None:
    splits = ("train", "val", "test")
    root = tree([f"images/{s}/0001TP_{s}.jpg" for s in splits])
    tree([f"labels/{s}/0001TP_{s}.png" for s in splits], 8)
    for split in splits:
        data = CamVid(root, split, pipeline=LOAD)
        assert len(data) == 1 and label_of(data) == 3
    assert len(CamVid(root, "all")) == 3
    assert label_of(CamVid(root, space="camvid11", pipeline=LOAD)) == 8
    assert label_of(CamVid(root, space="cityscapes19", pipeline=LOAD)) == 13


def test_own_folders(tree: Tree) -> None:
    root = tree(["photos/day/a.jpg", "photos/day/sub/b.jpg", "photos/night/c.jpg"])
    tree(["masks_gt/day/a_mask.png", "masks_gt/day/sub/b_mask.png"], 40)
    options = {
        "source": {"40": "car", 255: None},  # keys of JSON are strings
        "images": "photos/{split}",
        "labels": "masks_gt/{split}",
        "label_suffix": "_mask.png",
        "pipeline": LOAD,
    }
    data = ImageLabelFolder(root, "day", **options)
    assert len(data) == 2 and label_of(data) == 13 and data.metainfo["evaluated_classes"] == [13]
    assert ImageLabelFolder(root, "day", **options).source == data.source
    with pytest.raises(FileNotFoundError, match=r"no folder '.*masks_gt/night'.*masks_gt, photos"):
        ImageLabelFolder(root, "night", **options)
    alone = ImageLabelFolder(root, "night", **(options | {"labels": None}))
    assert alone.pairs[0].label is None and "seg_map_path" not in alone[0]
    with pytest.raises(ValueError, match="unknown label source 'mine'"):
        ImageLabelFolder(root, "day", **(options | {"source": "mine"}))
    with pytest.raises(ValueError, match="'lorry'"):
        ImageLabelFolder(root, "day", **(options | {"source": {40: "lorry"}}))
