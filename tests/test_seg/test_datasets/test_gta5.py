"""GTA5: palette labels, where the split comes from, the dropped images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("mmseg")

from seg.datasets import GTA5
from seg.datasets.gta5 import OFFICIAL_COUNTS, ROBUSTNET_DROPPED

Tree = Callable[..., Path]
LOAD = [{"type": "seg.LoadImage"}, {"type": "seg.LoadLabels"}]


def gta5(tree: Tree, numbers: range = range(1, 9), within: str = "") -> Path:
    return tree([f"{kind}/{within}{n:05d}.png" for kind in ("images", "labels") for n in numbers])


def stems(data: GTA5) -> list[str]:
    return [Path(p.image).stem for p in data.pairs]


def test_palette_labels(tree: Tree) -> None:
    root = gta5(tree)
    ids = np.arange(35, dtype=np.uint8).reshape(5, 7)
    image = Image.fromarray(ids)
    image.putpalette(list(range(255, 0, -1)) * 3)
    image.save(root / "labels/00001.png")
    Image.new("RGB", (7, 5)).save(root / "images/00001.png")
    labels = GTA5(root, "all", pipeline=LOAD)[0]["gt_seg_map"].reshape(-1)
    mapping = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
    assert labels.tolist() == [mapping.index(i) if i in mapping else 255 for i in range(35)]


def test_all_needs_no_split(tree: Tree) -> None:
    data = GTA5(gta5(tree), "all")
    assert stems(data) == [f"{n:05d}" for n in range(1, 9)]
    assert data.metainfo["name"] == "gta5" and "no split" in data.protocol


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_without_a_list_no_split_is_passed_off_as_official(tree: Tree, split: str) -> None:
    with pytest.raises(FileNotFoundError, match=rf"'{split}'.*split\.mat.*{split}\.txt.*'all'"):
        GTA5(gta5(tree), split)


def test_split_mat(tree: Tree) -> None:
    savemat = pytest.importorskip("scipy.io").savemat
    root = gta5(tree)
    (root / "train.txt").write_text("00008.png\n")  # the authors' file comes first
    ids = {"trainIds": [[1], [2], [4]], "valIds": [[3], [5]], "testIds": [[6], [7], [8]]}
    savemat(root / "split.mat", {k: np.array(v, np.uint16) for k, v in ids.items()})
    for split in ("train", "val", "test"):
        data = GTA5(root, split)
        assert stems(data) == [f"{n:05d}" for (n,) in ids[f"{split}Ids"]]
    assert "not the official one: it has 3 / 2 / 3 images instead of 12,403" in data.protocol
    numbers = iter(range(1, 24967))
    official = {f"{k}Ids": [next(numbers) for _ in range(n)] for k, n in OFFICIAL_COUNTS.items()}
    savemat(root / "split.mat", official)
    with pytest.raises(FileNotFoundError, match="12,395 images of the split"):
        GTA5(root, "train")
    data = GTA5(root, "train", missing="drop")
    assert data.protocol.startswith("GTA5 train: the official split (split.mat)")
    assert "12,395 listed images are not there" in data.protocol and len(data) == 8
    (root / "split.mat").write_bytes(b"MATLAB" * 50)
    with pytest.raises(ValueError, match=r"split\.mat' is not GTA5's split file"):
        GTA5(root, "train")


@pytest.mark.parametrize("name", ["val.txt", "gtav_split_val.txt"])
def test_lists(tree: Tree, name: str) -> None:
    root = gta5(tree)
    (root / name).write_text("00002.png\n\nimages/00003.png labels/00003.png\n00005\n")
    data = GTA5(root, "val")
    assert stems(data) == ["00002", "00003", "00005"]
    assert f"3 names in {name} (the official split has 6,382)" in data.protocol
    (root / name).write_text("00002.png\n00099.png\n")
    with pytest.raises(FileNotFoundError, match=r"1 image of the split, .* 00099"):
        GTA5(root, "val")
    (root / name).write_text("")
    with pytest.raises(ValueError, match="no images"):
        GTA5(root, "val")


def test_folders_as_splits(tree: Tree) -> None:
    gta5(tree, range(1, 4), within="train/folder/")
    root = gta5(tree, range(4, 6), within="val/folder/")
    assert stems(GTA5(root, "train")) == ["00001", "00002", "00003"]
    assert stems(GTA5(root, "val")) == ["00004", "00005"]
    assert len(GTA5(root, "all")) == 5
    with pytest.raises(FileNotFoundError, match="images/test"):
        GTA5(root, "test")


def test_dropped_images(tree: Tree) -> None:
    assert len(ROBUSTNET_DROPPED) == 15
    root = gta5(tree, range(12190, 12197))
    data = GTA5(root, "all", drop="robustnet")
    assert stems(data) == ["12190", "12194", "12196"]
    assert "without 4 dropped images" in data.protocol
    assert stems(GTA5(root, "all", drop=[12190, "12191.png"])) == [
        str(n) for n in range(12192, 12197)
    ]
    (root / "train.txt").write_text("12190.png\n12191.png\n")
    (root / "images/12191.png").unlink()  # it may be gone from the disk as well
    (root / "labels/12191.png").unlink()
    assert stems(GTA5(root, "train", drop="robustnet")) == ["12190"]
    with pytest.raises(ValueError, match="GTA5 knows 'robustnet'"):
        GTA5(root, drop="blank")


def test_labels_of_another_kind(tree: Tree) -> None:
    root = gta5(tree)
    Image.new("RGB", (8, 6)).save(root / "labels/00001.png")
    with pytest.raises(ValueError, match=r"labels/00001\.png.*colours"):
        GTA5(root, "all", pipeline=LOAD)[0]
