import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS

from reid.datasets import ImageFolder, JointTraining, Market1501, collate
from tests.test_reid.test_datasets.made_trees import (
    MAKERS,
    make_folder,
    make_market1501,
    make_msmt17,
    make_vehicleid,
)


@pytest.fixture
def configs(tmp_path: Path) -> list[dict]:
    """A market and its copy: the same numbers of identities and cameras; and data without."""
    return [
        dict(type="reid.Market1501", root=str(make_market1501(tmp_path / "here"))),
        dict(type="reid.Market1501", root=str(make_market1501(tmp_path / "there"))),
        dict(type="reid.ImageFolder", root=str(make_folder(tmp_path / "mine")), train_fraction=1),
    ]


def test_identities_and_cameras_are_kept_apart(configs: list[dict]) -> None:
    joint = JointTraining(configs)
    sizes = [3, 3, 9]
    np.testing.assert_array_equal(joint.domains, np.repeat([0, 1, 2], sizes))
    np.testing.assert_array_equal(joint.labels, [0, 0, 1, 2, 2, 3, *np.repeat([4, 5, 6], 3)])
    np.testing.assert_array_equal(joint.camids, [0, 1, 0, 2, 3, 2, *([-1] * 9)])
    np.testing.assert_array_equal(joint.pids, joint.labels)
    assert {a.dtype for a in (joint.labels, joint.camids, joint.domains)} == {np.dtype(np.int64)}
    assert (len(joint), joint.num_identities, joint.num_query) == (15, 7, 0)
    assert joint.splits.identities[3] == "market1501 (2): 7"
    assert joint.splits.identities[4] == "mine: anna"
    assert joint.splits.cameras[3] == "market1501 (2): 2"


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (2, 0, 1)])
def test_each_part_is_that_set(configs: list[dict], order: tuple[int, ...]) -> None:
    """Against the sets one by one: same images, same partition by identity and by camera."""
    joint = JointTraining([configs[k] for k in order])
    labels, cameras = set(), set()
    for place, k in enumerate(order):
        alone = DATASETS.build(configs[k])
        mine = joint.domains == place
        assert [r.path for r, m in zip(joint.records, mine, strict=True) if m] == [
            r.path for r in alone.records
        ]
        for ours, theirs in ((joint.labels, alone.labels), (joint.camids, alone.camids)):
            same = ours[mine][:, None] == ours[mine]
            np.testing.assert_array_equal(same, theirs[:, None] == theirs)
        assert not labels & set(joint.labels[mine])
        assert not cameras & (set(joint.camids[mine]) - {-1})
        labels |= set(joint.labels[mine])
        cameras |= set(joint.camids[mine])
    assert labels == set(range(joint.num_identities))


@pytest.mark.parametrize("layout", ["dukemtmc", "msmt17", "veri776", "veriwild", "viper", "grid"])
def test_any_sets_join(tmp_path: Path, layout: str) -> None:
    from reid.datasets import LAYOUTS

    other = dict(type=LAYOUTS[layout], root=str(MAKERS[layout](tmp_path / "other")))
    market = dict(type="reid.Market1501", root=str(make_market1501(tmp_path / "market")))
    joint = JointTraining([other, market])
    assert joint.num_identities == DATASETS.build(other).num_identities + 2
    assert len(set(joint.camids)) == len(set(DATASETS.build(other).camids)) + 2


def test_samples(configs: list[dict]) -> None:
    seen = []

    def transforms(image: np.ndarray, seed: int | None) -> torch.Tensor:
        seen.append(seed)
        return torch.zeros(3, 2, 2, dtype=torch.uint8)

    joint = JointTraining(configs, transforms)
    sample = joint[(5, 77)]
    assert sample["path"] == joint.sets[1].records[2].path and seen == [77]
    assert {k: sample[k] for k in ("label", "pid", "camid", "index")} == {
        "label": 3,
        "pid": 3,
        "camid": 2,
        "index": 5,
    }
    assert collate([joint[0], joint[14]])["label"].tolist() == [0, 6]
    assert pickle.loads(pickle.dumps(JointTraining(configs))).records == joint.records


def test_provenance(configs: list[dict]) -> None:
    joint = DATASETS.build(dict(type="reid.JointTraining", datasets=configs, split="train"))
    info = joint.metainfo
    assert info["name"] == "market1501 + market1501 (2) + mine"
    assert info["protocol"].startswith("joint training on market1501 (market1501 layout, 3/1/2")
    assert list(info["sets"]) == ["market1501", "market1501 (2)", "mine"]
    alone = Market1501(configs[0]["root"]).metainfo
    assert info["sets"]["market1501"]["fingerprint"] == alone["fingerprint"]
    assert (info["num_images"], info["num_identities"], info["num_cameras"]) == (15, 7, 4)
    json.dumps(info)  # for a manifest
    # the fingerprint changes with any of the sets, their names and their order
    others = [
        JointTraining(configs[:2]),
        JointTraining(configs[::-1]),
        JointTraining(configs, names=["a", "b", "c"]),
        JointTraining([*configs[:2], {**configs[2], "train_fraction": 0.7}]),
    ]
    assert len({d.metainfo["fingerprint"] for d in (joint, *others)}) == 5
    assert JointTraining(configs, names=["a", "b", "c"]).names == ("a", "b", "c")


def test_camera_none_is_for_all(configs: list[dict]) -> None:
    assert set(JointTraining(configs, camera=None).camids) == {-1}


def test_trials_of_a_set_stay_out(tmp_path: Path, configs: list[dict]) -> None:
    vehicles = dict(type="reid.VehicleID", root=str(make_vehicleid(tmp_path / "vehicles")))
    info = JointTraining([configs[0], vehicles]).metainfo
    assert info["trials"] == () and "trials" not in info["sets"]["vehicleid"]


def test_a_set_that_is_trained_on_whole(tmp_path: Path, configs: list[dict]) -> None:
    msmt = dict(type="reid.MSMT17", root=str(make_msmt17(tmp_path / "msmt")), train="all")
    assert JointTraining([configs[0], msmt]).num_identities == 2 + 5


def test_mistakes(configs: list[dict], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a list of two or more configs"):
        JointTraining(configs[:1])
    with pytest.raises(ValueError, match="a list of two or more configs"):
        JointTraining(configs[0])
    with pytest.raises(ValueError, match="the split 'train' alone, got 'test'"):
        JointTraining(configs, split="test")
    with pytest.raises(ValueError, match="split and transforms cannot differ between"):
        JointTraining([configs[0], {**configs[1], "split": "train", "transforms": []}])
    with pytest.raises(ValueError, match="need as many different names"):
        JointTraining(configs, names=["a", "b", "a"])
    with pytest.raises(ValueError, match=r"market1501 and market1501 \(2\) share 3 images"):
        JointTraining([configs[0], configs[0]])
    with pytest.raises(ValueError, match="'train' of mine has no image"):
        JointTraining([configs[0], {**configs[2], "train_fraction": 0}])
    with pytest.raises(FileNotFoundError, match="does not exist"):
        JointTraining([configs[0], {**configs[2], "root": str(tmp_path / "none")}])


def test_a_sampler_takes_identities_of_all_sets(configs: list[dict]) -> None:
    from reid.samplers import PKSampler

    joint = JointTraining(configs)
    sampler = PKSampler(joint, identities=7, instances=2, iterations=2, seed=0)
    indices = [index for index, _ in sampler]
    assert set(joint.labels[indices]) == set(range(7))


def test_one_set_alone_has_one_domain(configs: list[dict]) -> None:
    assert set(ImageFolder(configs[2]["root"]).domains) == {0}
