import dataclasses
import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS, FUNCTIONS
from torch.utils.data import DataLoader

import reid.datasets
from imaging.files import UnreadableImageError
from reid.datasets import ImageFolder, Market1501, Record, ReIDDataset, Splits, collate, read_image


class Listed(ReIDDataset):
    """Splits given directly."""

    given: Splits

    def parse(self) -> Splits:
        return self.given


def listed(splits: Splits, *args, **kwargs) -> Listed:
    return type("Given", (Listed,), {"given": splits})("root", *args, **kwargs)


PUBLISHED = ("DukeMTMCreID", "CUHK03", "MSMT17", "VeRi776", "VehicleID", "VERIWild", "VIPeR")

SPLITS = Splits(
    "toy",
    "by hand",
    train=(Record("a", 30, 1), Record("b", 10, 2), Record("c", 30, 2)),
    query=(Record("d", 5, 1),),
    gallery=(Record("e", 5, None), Record("f", 10, 2)),
)


def test_arrays_of_a_split() -> None:
    train = listed(SPLITS)
    np.testing.assert_array_equal(train.pids, [30, 10, 30])
    np.testing.assert_array_equal(train.camids, [1, 2, 2])
    np.testing.assert_array_equal(train.labels, [1, 0, 1])
    assert {a.dtype for a in (train.pids, train.camids, train.labels)} == {np.dtype(np.int64)}
    assert (len(train), train.num_identities, train.num_query) == (3, 2, 0)


def test_test_is_query_followed_by_gallery() -> None:
    test = listed(SPLITS, "test")
    assert [r.path for r in test.records] == ["d", "e", "f"]
    assert test.num_query == 1
    np.testing.assert_array_equal(test.camids, [1, -1, 2])
    np.testing.assert_array_equal(test.labels, [-1, -1, 0])  # 10 is trained on, 5 is not
    assert listed(SPLITS, "query").num_query == 1
    assert listed(SPLITS, "gallery").num_query == 0


def test_wrong_and_empty_split() -> None:
    with pytest.raises(ValueError, match="split must be one of train, query, gallery, test"):
        listed(SPLITS, "val")
    with pytest.raises(ValueError, match="split must be one of"):
        SPLITS.records("val")
    empty = Splits("toy", "by hand", (), SPLITS.query, SPLITS.gallery)
    with pytest.raises(ValueError, match=r"'train' of toy has no image \(0 train, 1 query"):
        listed(empty)


def test_wrong_camera_option() -> None:
    with pytest.raises(ValueError, match=r"camera must be 'auto'.*camera_pattern"):
        listed(SPLITS, camera="c1")


def test_records_are_immutable_and_small() -> None:
    with pytest.raises(AttributeError):
        SPLITS.train[0].pid = 3  # type: ignore[misc]
    assert not hasattr(SPLITS.train[0], "__dict__")


# ------------------------------------------------------------------------------- samples


def test_sample(market: Path) -> None:
    dataset = Market1501(market)
    sample = dataset[1]
    image = read_image(sample["path"])
    assert sample["inputs"].dtype == torch.uint8
    np.testing.assert_array_equal(sample["inputs"].numpy(), image.transpose(2, 0, 1))
    assert sample["path"].endswith("0002_c2s1_000451_03.jpg")
    assert {k: sample[k] for k in ("label", "pid", "camid", "index")} == {
        "label": 0,
        "pid": 2,
        "camid": 2,
        "index": 1,
    }
    assert dataset[-1]["index"] == 3
    with pytest.raises(IndexError, match="index 4 of a dataset with 4 images"):
        dataset[4]
    with pytest.raises(TypeError):
        dataset[1.0]  # type: ignore[index]


def test_the_seed_reaches_the_transforms(market: Path) -> None:
    seen = []

    def transforms(image: np.ndarray, seed: int | None) -> torch.Tensor:
        assert image.shape == (48, 24, 3) and image.dtype == np.uint8
        seen.append(seed)
        return torch.zeros(3, 2, 2, dtype=torch.uint8)

    dataset = Market1501(market, transforms=transforms)
    assert dataset[(np.int64(2), np.int64(2**40))]["index"] == 2
    dataset[2]
    assert seen == [2**40, None]
    assert type(seen[0]) is int


def test_a_list_of_transforms_is_built(market: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    from types import SimpleNamespace

    given = []

    def build_transforms(transforms):
        given.extend(transforms)
        return lambda image, seed: torch.full((3, 1, 1), 7, dtype=torch.uint8)

    stand_in = SimpleNamespace(build_transforms=build_transforms)
    monkeypatch.setitem(sys.modules, "imaging.transforms", stand_in)
    dataset = Market1501(market, transforms=[dict(type="Resize")])
    assert given == [{"type": "Resize"}]
    assert dataset[0]["inputs"].unique().tolist() == [7]


def test_a_broken_image_is_never_replaced(market: Path) -> None:
    dataset = Market1501(market)
    path = Path(dataset.records[0].path)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UnreadableImageError, match=path.name):
        dataset[0]


# ------------------------------------------------------------------------------- batches


def test_collate(market: Path) -> None:
    dataset = Market1501(market, "test", camera=None)
    batch = collate([dataset[i] for i in range(3)])
    assert batch["inputs"].shape == (3, 3, 48, 24) and batch["inputs"].dtype == torch.uint8
    for key in ("label", "pid", "camid", "index"):
        assert batch[key].dtype == torch.int64 and batch[key].shape == (3,)
    assert batch["pid"].tolist() == [5, 9, 0]
    assert batch["camid"].tolist() == [-1, -1, -1]
    assert batch["path"] == [r.path for r in dataset.records[:3]]


def test_collate_explains_different_sizes(market: Path) -> None:
    sample = Market1501(market)[0]
    other = sample | {"inputs": torch.zeros(3, 8, 8, dtype=torch.uint8)}
    with pytest.raises(ValueError, match=r"\(3, 8, 8\), \(3, 48, 24\).*resize"):
        collate([sample, other])
    with pytest.raises(ValueError, match="empty batch"):
        collate([])


def test_a_loader_with_workers_gives_the_same_batches(market: Path) -> None:
    dataset = Market1501(market)
    keys = [[(2, 5), (0, 6)], [(1, 7), (3, 8)]]
    batches = [
        list(DataLoader(dataset, batch_sampler=keys, collate_fn=collate, num_workers=n))
        for n in (0, 2)
    ]
    for alone, parallel in zip(*batches, strict=True):
        assert alone["path"] == parallel["path"]
        assert torch.equal(alone["inputs"], parallel["inputs"])


def test_dataset_survives_pickling(people: Path) -> None:
    dataset = ImageFolder(people, camera_pattern=r"^(\d+)_")
    dataset.metainfo  # noqa: B018 - fills the cache
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy.records == dataset.records and copy.metainfo == dataset.metainfo
    assert torch.equal(copy[0]["inputs"], dataset[0]["inputs"])


# ------------------------------------------------------------------------------- metainfo


def test_metainfo_is_plain(market: Path) -> None:
    info = Market1501(market, "test").metainfo
    assert {type(value) for key, value in info.items() if key != "trials"} == {str, int}
    assert pickle.loads(pickle.dumps(info)) == info
    assert info == {
        "name": "market1501",
        "split": "test",
        "protocol": "market1501 layout, 4/2/3 images: not the official split",
        "fingerprint": Market1501(market).splits.fingerprint(),
        "num_images": 5,
        "num_identities": 3,
        "num_cameras": 3,
        "num_query": 2,
        "num_train_images": 4,
        "num_query_images": 2,
        "num_gallery_images": 3,
        "num_trials": 0,
        "trials": (),
    }


def test_repr(market: Path) -> None:
    assert "split='train': 4 train, 2 query, 3 gallery images" in repr(Market1501(market))


def test_registered_types_build_anywhere(market: Path) -> None:
    dataset = DATASETS.build(dict(type="reid.Market1501", root=str(market), split="query"))
    assert isinstance(dataset, Market1501) and len(dataset) == 2
    assert FUNCTIONS.get("reid.collate") is collate
    for name in ("ImageFolder", "CSVList", "FlatFolder", "JointTraining", *PUBLISHED):
        assert DATASETS.get(f"reid.{name}") is getattr(reid.datasets, name)


def test_trials_are_of_the_test_split_alone() -> None:
    trial = (np.array([0]), np.array([1, 2]))
    drawn = dataclasses.replace(SPLITS, trials=(trial, trial))
    info = listed(drawn, "test").metainfo
    assert info["num_trials"] == 2 and info["trials"][1] is trial
    assert listed(drawn, "gallery").metainfo["num_trials"] == 0
    # arrays have no truth value, and lists are compared by what they list
    assert drawn == SPLITS and drawn.fingerprint() == SPLITS.fingerprint()
    assert drawn.counts == (3, 1, 2)


# ------------------------------------------------------------------------------- fingerprint


def test_fingerprint_equals_its_definition(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "a").write_bytes(b"12345")
    splits = Splits(
        "n",
        "p",
        (Record(str(tmp_path / "x" / "a"), 3, 1),),
        (Record(str(tmp_path / "gone"), 4, None),),
        (),
        root=str(tmp_path),
    )
    text = "query\0gone\0-1\x004\0None\ntrain\0x/a\x005\x003\x001\n"
    assert splits.fingerprint() == hashlib.sha256(text.encode()).hexdigest()


def test_fingerprint_depends_on_content_and_not_on_order_or_place(
    market: Path, tmp_path: Path
) -> None:
    splits = Market1501(market).splits
    reference = splits.fingerprint()

    def changed(**fields) -> str:
        return dataclasses.replace(splits, **fields).fingerprint()

    assert changed(train=splits.train[::-1], name="other", protocol="other") == reference
    first, *rest = splits.train
    assert changed(train=(Record(first.path, first.pid + 1, first.camid), *rest)) != reference
    assert changed(train=(Record(first.path, first.pid, None), *rest)) != reference
    assert changed(train=tuple(rest)) != reference
    assert changed(train=tuple(rest), gallery=(*splits.gallery, first)) != reference
    moved = market.rename(tmp_path / "elsewhere")
    assert Market1501(moved).splits.fingerprint() == reference
    path = moved / "query" / "0005_c1s1_000451_00.jpg"
    path.write_bytes(path.read_bytes() + b"x")
    assert Market1501(moved).splits.fingerprint() != reference


# ------------------------------------------------------------------------------- words
