"""What all datasets share: listing, errors, seeds, fingerprints, mmengine's and mmseg's ways."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("mmseg")

from mmengine.registry import init_default_scope
from torch.utils.data import DataLoader

from seg.datasets import CamVid, Cityscapes, ImageLabelFolder, Pair
from seg.datasets import base as base_module
from seg.datasets.base import files, inner_folder, keyed, relative_name
from seg.label_spaces import SOURCES, SPACES, register_source
from seg.registry import DATASETS, TRANSFORMS

Tree = Callable[..., Path]
LOAD = [{"type": "seg.LoadImage"}, {"type": "seg.LoadLabels"}]


def camvid(tree: Tree, count: int = 5, **options: Any) -> Path:
    names = [
        f"{kind}/{split}/{split}{i}.png"
        for kind in ("images", "labels")
        for split in ("train", "val")
        for i in range(count)
    ]
    return tree(names, value=3, **options)


class Draw:
    """A transform that draws from both global generators."""

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        results["drawn"] = (random.random(), float(np.random.rand()))
        return results


class Refuse:
    """Refuses samples until it has seen ``times`` of them."""

    def __init__(self, times: int) -> None:
        self.times, self.seen = times, []

    def __call__(self, results: dict[str, Any]) -> dict[str, Any] | None:
        self.seen.append(results)
        return results if len(self.seen) > self.times else None


def test_pairs_and_sample(tree: Tree) -> None:
    root = camvid(tree)
    data = CamVid(root, "train", pipeline=LOAD)
    assert len(data) == 5 and data.root == str(root) and data.space == "street7"
    assert data.pairs[1] == Pair(
        f"{root}/images/train/train1.png", f"{root}/labels/train/train1.png"
    )
    sample = data[1]
    assert (
        sample["img_path"] == data.pairs[1].image and sample["seg_map_path"] == data.pairs[1].label
    )
    assert sample["source"] == "camvid" and sample["space"] == "street7"
    assert sample["reduce_zero_label"] is False and sample["sample_idx"] == 1
    assert sample["seg_fields"] == ["gt_seg_map"] and (sample["gt_seg_map"] == 0).all()
    assert "sample_seed" not in sample and "crop_class" not in sample
    assert data[-1]["sample_idx"] == 4
    assert len(CamVid(root, "all")) == 10
    with pytest.raises(IndexError, match="index 5 of a dataset with 5 images"):
        data[5]
    with pytest.raises(TypeError, match="seed, class"):
        data[(1, 2, 3, 4)]  # type: ignore[index]


def test_metainfo_is_plain(tree: Tree) -> None:
    meta = CamVid(camvid(tree), "val").metainfo
    assert json.loads(json.dumps(meta))["classes"] == list(SPACES["street7"].classes)
    assert meta["palette"][0] == [128, 64, 128]
    assert meta["evaluated_classes"] == list(range(7)) and meta["num_images"] == 5
    assert (meta["name"], meta["split"], meta["source"]) == ("camvid", "val", "camvid")
    assert meta["space"] == "street7" and "CamVid val" in meta["protocol"]
    assert len(meta["fingerprint"]) == 64


def test_fingerprint_follows_names_sizes_and_split(tree: Tree, tmp_path: Path) -> None:
    root = camvid(tree)
    first = CamVid(root, "train").fingerprint()
    assert CamVid(root, "train").fingerprint() == first
    assert CamVid(f"{root}/", "train").fingerprint() == first
    assert CamVid(root, "val").fingerprint() != first
    assert CamVid(root, "train", limit=4).fingerprint() != first
    root.rename(tmp_path / "elsewhere")
    assert CamVid(tmp_path / "elsewhere", "train").fingerprint() == first
    image = tmp_path / "elsewhere/images/train/train0.png"
    image.write_bytes(image.read_bytes() + b"x")
    assert CamVid(tmp_path / "elsewhere", "train").fingerprint() != first


def test_a_seed_fixes_a_sample_and_leaves_no_trace(tree: Tree) -> None:
    data = CamVid(camvid(tree), pipeline=[Draw()])
    free = data[0]["drawn"]
    assert data[0]["drawn"] != free
    before = random.getstate(), np.random.get_state()[1].tolist()
    seeded = data[(0, 42)]
    assert seeded["sample_seed"] == 42 and "crop_class" not in seeded
    assert random.getstate() == before[0] and np.random.get_state()[1].tolist() == before[1]
    random.seed(5)
    np.random.seed(5)
    assert data[(0, 42)]["drawn"] == data[(3, 42)]["drawn"] == seeded["drawn"]
    assert data[(0, 43)]["drawn"] != seeded["drawn"]
    assert data[(0, 2**63 + 1)]["drawn"] != seeded["drawn"]
    both = data[(np.int64(0), np.int64(42), np.int64(3))]
    assert both["crop_class"] == 3 and both["drawn"] == seeded["drawn"]
    assert "sample_seed" not in data[(0, None)] and data[(0, None, 2)]["crop_class"] == 2


def test_the_generators_are_restored_when_a_pipeline_fails(tree: Tree) -> None:
    def fail(results: dict[str, Any]) -> None:
        raise RuntimeError("broken")

    data = CamVid(camvid(tree), pipeline=[fail])
    before = random.getstate()
    with pytest.raises(RuntimeError, match="broken"):
        data[(0, 1)]
    assert random.getstate() == before


def test_a_refused_sample_is_replaced_repeatably(tree: Tree) -> None:
    root = camvid(tree)
    taken = []
    for _ in range(2):
        refuse = Refuse(times=3)
        taken.append(CamVid(root, pipeline=[refuse])[(0, 9, 4)]["sample_idx"])
        assert refuse.seen[0]["crop_class"] == 4 and "crop_class" not in refuse.seen[1]
    assert taken[0] == taken[1]
    with pytest.raises(ValueError, match=r"returned None for .*train0\.png"):
        CamVid(root, pipeline=[Refuse(1)], test_mode=True)[0]
    with pytest.raises(ValueError, match="and for 2 others"):
        CamVid(root, pipeline=[Refuse(99)], max_refetch=2)[0]


def test_parts_of_a_dataset(tree: Tree) -> None:
    root = camvid(tree)
    assert [Path(p.image).stem for p in CamVid(root, limit=2).pairs] == ["train0", "train1"]
    assert len(CamVid(root, limit=99)) == 5
    assert [Path(p.image).stem for p in CamVid(root, indices=[4, 0]).pairs] == ["train4", "train0"]
    data = CamVid(root)
    assert len(data.pairs) == 5
    part = data.get_subset([3, 1])
    assert [Path(p.image).stem for p in part.pairs] == ["train3", "train1"]
    assert part.metainfo["num_images"] == 2 and len(data.pairs) == 5
    assert part.metainfo["fingerprint"] != data.metainfo["fingerprint"]
    data.get_subset_(2)
    assert len(data.pairs) == len(data) == 2
    for limit, indices in ((0, None), (2, 3)):
        with pytest.raises(ValueError, match="limit must be at least 1"):
            CamVid(root, limit=limit, indices=indices)
    with pytest.raises(ValueError, match="select no image"):
        CamVid(root, indices=[])


def test_drop(tree: Tree) -> None:
    root = camvid(tree)
    drop = ["train0", "train1.png", "images/train/train2.png", "labels/train/train2.png", "nowhere"]
    data = CamVid(root, drop=drop)
    assert [Path(p.image).stem for p in data.pairs] == ["train3", "train4"]
    assert "without 3 dropped images" in data.protocol
    with pytest.raises(ValueError, match="knows no list of that name"):
        CamVid(root, drop="robustnet")
    with pytest.raises(ValueError, match="has no images"):
        CamVid(root, drop=[f"train{i}" for i in range(5)])


def test_dropping_mends_a_missing_partner(tree: Tree) -> None:
    root = camvid(tree)
    (root / "labels/train/train2.png").unlink()
    (root / "images/train/train3.png").unlink()
    assert len(CamVid(root, drop=["train2", "train3"])) == 3


def test_missing_pairs(tree: Tree) -> None:
    root = camvid(tree, count=9)
    for i in range(7):
        (root / f"labels/train/train{i}.png").unlink()
    (root / "images/train/train8.png").unlink()
    with pytest.raises(FileNotFoundError) as caught:
        CamVid(root)
    text = str(caught.value)
    assert "7 images without label: train/train0, train/train1" in text and "and 2 more" in text
    assert "1 label without image: train/train8" in text and "missing='drop'" in text
    assert "1 form pairs" in text
    data = CamVid(root, missing="drop")
    assert [Path(p.image).stem for p in data.pairs] == ["train7"]
    assert "without 8 files that lack their partner" in data.protocol
    with pytest.raises(ValueError, match="error, drop, got 'skip'"):
        CamVid(root, missing="skip")


def test_an_empty_split_says_what_is_there(tree: Tree) -> None:
    root = camvid(tree)
    with pytest.raises(ValueError, match=r"the split 'test' has no images.*train has 5, val has 5"):
        CamVid(root, "test")
    with pytest.raises(ValueError, match=r"splits train, val, test, all; got 'training'"):
        CamVid(root, "training")
    with pytest.raises(ValueError, match="unknown label space 'nineteen'"):
        CamVid(root, space="nineteen")


def test_a_wrong_root_comes_with_a_hint(tree: Tree, tmp_path: Path) -> None:
    root = camvid(tree)
    for wrong in (root.parent, root / "images", root / "images" / "train", root.parent / "dat"):
        with pytest.raises(FileNotFoundError, match=r"CamVid's folders") as caught:
            CamVid(wrong)
        assert f"Did you mean {str(root)!r}" in str(caught.value)
    with pytest.raises(FileNotFoundError, match="does not exist; of that path only"):
        CamVid(tmp_path / "a/b/c/d")
    with pytest.raises(FileNotFoundError, match=r"looks like the data of type seg\.CamVid"):
        Cityscapes(root)
    with pytest.raises(NotADirectoryError, match="is a file"):
        CamVid(root / "images/train/train0.png")


def test_lazy(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    data = CamVid("/nowhere/at/all", lazy_init=True)
    with pytest.raises(FileNotFoundError):
        data.full_init()
    root = camvid(tree)
    for use in (len, lambda d: d.pairs, lambda d: d.metainfo, lambda d: d[0], lambda d: d[(0, 1)]):
        use(CamVid(root, lazy_init=True))
    calls = []
    find = CamVid.find
    monkeypatch.setattr(CamVid, "find", lambda self: calls.append(1) or find(self))
    data = CamVid(root)
    data.full_init()
    _ = data.metainfo, data.pairs, len(data), data[0]
    assert len(calls) == 1


def test_pickle(tree: Tree) -> None:
    data = CamVid(camvid(tree), pipeline=LOAD)
    again = pickle.loads(pickle.dumps(data))
    assert again.pairs == data.pairs and again.metainfo == data.metainfo
    assert np.array_equal(again[2]["gt_seg_map"], data[2]["gt_seg_map"])


@pytest.mark.slow  # the process imports everything anew
def test_an_own_source_reaches_a_fresh_process(tree: Tree) -> None:
    data = ImageLabelFolder(camvid(tree), source={3: "road", 4: None}, pipeline=LOAD)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_first_label, (data,)) == 0


def test_an_own_source_is_pickled_along(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    register_source("my_source", {3: "sky"})
    data = ImageLabelFolder(camvid(tree), source="my_source", pipeline=LOAD)
    state = pickle.dumps(data)
    monkeypatch.delitem(SOURCES, "my_source")
    assert _first_label(pickle.loads(state)) == 10
    monkeypatch.delitem(SOURCES, "my_source")


def _first_label(data: ImageLabelFolder) -> int:
    return int(data[0]["gt_seg_map"][0, 0])


@pytest.mark.parametrize("workers", [0, 2])
def test_in_a_data_loader(tree: Tree, workers: int) -> None:
    data = CamVid(camvid(tree), pipeline=[*LOAD, Draw()])
    keys = [(i, 100 + i, None) for i in range(5)]
    loader = DataLoader(data, sampler=keys, batch_size=2, num_workers=workers, collate_fn=list)
    drawn = [s["drawn"] for batch in loader for s in batch]
    assert drawn == [data[k]["drawn"] for k in keys]


def test_an_error_in_a_worker_names_the_file(tree: Tree) -> None:
    root = camvid(tree)
    (root / "labels/train/train3.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    loader = DataLoader(CamVid(root, pipeline=LOAD), num_workers=1, collate_fn=list)
    with pytest.raises(ValueError, match=r"train3\.png"):
        list(loader)


def test_mmsegs_own_loaders_give_the_same(tree: Tree) -> None:
    init_default_scope("mmseg")
    root = camvid(tree)
    ids = np.arange(12, dtype=np.uint8).reshape(3, 4)
    Image.fromarray(ids).save(root / "labels/train/train0.png")
    Image.new("RGB", (4, 3)).save(root / "images/train/train0.png")
    for space in ("street7", "camvid11", "cityscapes19"):
        ours = CamVid(root, space=space, pipeline=LOAD)[0]
        stock = CamVid(
            root,
            space=space,
            pipeline=[{"type": "LoadImageFromFile"}, {"type": "LoadAnnotations"}],
        )[0]
        assert np.array_equal(ours["gt_seg_map"], stock["gt_seg_map"])
        assert np.array_equal(ours["img"], stock["img"])


def test_stock_loading_never_makes_a_class_of_an_undefined_id(tree: Tree) -> None:
    init_default_scope("mmseg")
    root = camvid(tree)
    data = ImageLabelFolder(root, source={200: "road"}, pipeline=[{"type": "LoadAnnotations"}])
    assert (data[0]["gt_seg_map"] >= 19).all()  # 3 is not defined, and not "wall"


def test_mmengine_wrappers(tree: Tree) -> None:
    root = camvid(tree)
    parts = [
        {"type": "seg.CamVid", "root": str(root), "split": s, "pipeline": LOAD}
        for s in ("train", "val")
    ]
    init_default_scope("mmseg")
    repeated = DATASETS.build({"type": "RepeatDataset", "times": 3, "dataset": parts[0]})
    assert len(repeated) == 15 and repeated[7]["sample_idx"] == 2
    plain = [DATASETS.build(p) for p in parts]
    assert plain[0].metainfo["classes"] == plain[1].metainfo["classes"]


def test_types_build_from_mmsegs_registry(tree: Tree) -> None:
    from mmseg.registry import DATASETS as STOCK
    from mmseg.registry import TRANSFORMS as STOCK_TRANSFORMS

    data = STOCK.build({"type": "seg.CamVid", "root": str(camvid(tree)), "pipeline": LOAD})
    assert isinstance(data, CamVid)
    assert STOCK_TRANSFORMS.get("seg.LoadLabels") is TRANSFORMS.get("LoadLabels")


def test_files_and_keys(tmp_path: Path) -> None:
    for name in ("a/x.png", "a/b/y.PNG", "z.jpg", "._z.jpg", ".hidden/q.png", "x_inst.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert files(tmp_path) == ["a/b/y.PNG", "a/x.png", "x_inst.png", "z.jpg"]
    assert files(tmp_path, recursive=False) == ["x_inst.png", "z.jpg"]
    assert files(tmp_path / "none") == []
    keys = keyed(tmp_path, (".png", ".jpg"), skip=("_inst.png",))
    assert keys == {
        "a/b/y": f"{tmp_path}/a/b/y.PNG",
        "a/x": f"{tmp_path}/a/x.png",
        "z": f"{tmp_path}/z.jpg",
    }
    assert keyed(tmp_path, ".png", within="a") == {k: v for k, v in keys.items() if k != "z"}
    (tmp_path / "z.png").touch()
    with pytest.raises(ValueError, match="two files for one sample"):
        keyed(tmp_path, (".png", ".jpg"))


def test_inner_folder(tmp_path: Path) -> None:
    (tmp_path / "gt_trainval/gt/fog").mkdir(parents=True)
    (tmp_path / "other/gt").mkdir(parents=True)
    assert inner_folder(tmp_path, "gt") == tmp_path / "gt_trainval/gt"
    assert inner_folder(tmp_path, "gt", "fog") == tmp_path / "gt_trainval/gt/fog"
    assert inner_folder(tmp_path / "other", "gt") == tmp_path / "other/gt"
    assert inner_folder(tmp_path, "gt", wrapper="o*") == tmp_path / "other/gt"
    assert inner_folder(tmp_path, "rgb") is None and inner_folder(tmp_path / "none", "x") is None


def test_relative_name(tmp_path: Path) -> None:
    assert relative_name(f"{tmp_path}{os.sep}a{os.sep}b.png", str(tmp_path)) == "a/b.png"
    assert relative_name("/else/b.png", str(tmp_path)) == "/else/b.png"


def test_the_search_for_a_root_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_module, "_LOOKED_AT", 5)
    for i in range(9):
        (tmp_path / f"d{i}" / "e").mkdir(parents=True)
    looked = []
    monkeypatch.setattr(CamVid, "matches", classmethod(lambda cls, p: bool(looked.append(p))))
    with pytest.raises(FileNotFoundError):
        CamVid(tmp_path)
    assert len([p for p in looked if tmp_path in p.parents]) <= 5 + 1
