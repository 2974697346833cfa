from __future__ import annotations

import hashlib
import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cls.datasets import CIFAR10, CIFAR100, UnreadablePickleError
from cls.registry import DATASETS
from tests.test_cls.test_datasets.conftest import cifar_batch, write_pickle


def test_batches_are_read_in_order(cifar10: Path) -> None:
    dataset = CIFAR10(cifar10)
    assert len(dataset) == 100 and len(CIFAR10(cifar10, "test")) == 10
    assert dataset.classes[0] == "airplane" and dataset.classes[9] == "truck"
    expected = cifar_batch(20, 2)  # the second batch
    sample = dataset[25]
    assert sample["path"] == "data_batch_2[5]"
    assert sample["label"] == expected["labels"][5] == dataset.labels[25]
    np.testing.assert_array_equal(sample["inputs"], expected["data"][5].reshape(3, 32, 32))
    assert dataset.images is not None and dataset.images.shape == (100, 32, 32, 3)


def test_a_sample_is_no_view_of_all_images(cifar10: Path) -> None:
    dataset = CIFAR10(cifar10)
    before = dataset[0]["inputs"].clone()
    dataset[0]["inputs"].zero_()
    assert (dataset[0]["inputs"] == before).all()


def test_root_may_be_the_folder_above(cifar10: Path, cifar100: Path) -> None:
    assert len(CIFAR10(cifar10.parent)) == 100
    assert len(CIFAR100(cifar100.parent)) == 200


def test_cifar100_has_fine_and_coarse_labels(cifar100: Path) -> None:
    fine, coarse = CIFAR100(cifar100), CIFAR100(cifar100, "test", coarse=True)
    assert (len(fine.classes), len(coarse.classes)) == (100, 20)
    assert fine.classes[7] == "fine7" and coarse.classes[7] == "coarse7"
    np.testing.assert_array_equal(coarse.labels, np.arange(100) // 5)
    assert (fine.name, coarse.name) == ("CIFAR100", "CIFAR100-coarse")


def test_the_protocol_tells_a_part_from_the_official_files(cifar10: Path, monkeypatch) -> None:
    part = CIFAR10(cifar10)
    assert part.protocol == (
        "100 of 50,000 training images, not the official files (md5 differs): not comparable with "
        "published results"
    )
    assert part.notes == ("the files are not the official ones (md5)",)
    assert CIFAR10(cifar10, "test").protocol.startswith("10 of 10,000 test images, not")
    known = tuple(
        replace(b, md5=hashlib.md5((cifar10 / b.file).read_bytes()).hexdigest())
        for b in CIFAR10.TRAIN
    )
    monkeypatch.setattr(CIFAR10, "TRAIN", known)
    official = CIFAR10(cifar10)
    assert official.protocol == "100 training images, the official files (md5)"
    assert not official.notes


def test_a_holdout_parts_the_training_images(cifar10: Path) -> None:
    options: dict[str, Any] = dict(root=cifar10, holdout=0.2)
    train, val = CIFAR10(split="train", **options), CIFAR10(split="val", **options)
    both = CIFAR10(split="trainval", **options)
    assert (len(train), len(val), len(both)) == (80, 20, 100)
    assert np.bincount(val.labels).tolist() == [2] * 10
    assert sorted(train.names + val.names) == sorted(both.names)
    assert CIFAR10(split="val", **options).names == val.names
    assert CIFAR10(split="val", seed=1, **options).names != val.names
    assert "the part 'val': 20 images (holdout 0.2 of every class, seed 0)" in val.protocol
    with pytest.raises(ValueError, match=r"no official split 'val': give holdout=0\.1"):
        CIFAR10(cifar10, "val")
    with pytest.raises(ValueError, match="holdout must be"):
        CIFAR10(cifar10, holdout=1.0)


def test_registered_under_its_room(cifar10: Path) -> None:
    assert len(DATASETS.build(dict(type="cls.CIFAR10", root=str(cifar10), split="test"))) == 10


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol_is_read(cifar10: Path, protocol: int) -> None:
    content = cifar_batch(20, 1)
    content["labels"] = np.array(content["labels"])
    content = {k.encode(): v for k, v in content.items()}  # read as bytes, written again
    write_pickle(cifar10 / "data_batch_1", content, protocol)
    np.testing.assert_array_equal(CIFAR10(cifar10).labels[:20], cifar_batch(20, 1)["labels"])


class Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.target}",)


def test_a_batch_with_code_is_refused(cifar10: Path, tmp_path: Path) -> None:
    target = tmp_path / "touched"
    write_pickle(cifar10 / "data_batch_3", {**cifar_batch(20), "extra": Bomb(target)})
    with pytest.raises(UnreadablePickleError, match=r"data_batch_3.*names posix\.system.*Nothing"):
        CIFAR10(cifar10)
    assert not target.exists()
    write_pickle(cifar10 / "batches.meta", Bomb(target))
    with pytest.raises(UnreadablePickleError, match=r"batches\.meta.*posix\.system"):
        CIFAR10(cifar10, "test")
    assert not target.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": None}, "should be an array of the shape"),
        ({"data": [1, 2]}, r"got a list; unpack"),
        ({"data": np.zeros((20, 3071), np.uint8)}, r"\(20, 3071\) and type uint8"),
        ({"data": np.zeros((20, 3, 32, 32), np.uint8)}, r"\(20, 3, 32, 32\)"),
        ({"data": np.zeros((20, 3072), np.float32)}, "should be uint8, got float32"),
        ({"labels": [0] * 19}, "20 images and 19 labels"),
        ({"labels": [0] * 18 + [10, -1]}, r"2 labels outside 0\.\.9 \(10 of image 18, -1 of"),
        ({"labels": [0] * 19 + [10**5000]}, "huge of image 19"),
        ({"labels": ["0"] * 20}, "should be a list of integers"),
        ({"labels": np.zeros(20, np.float64)}, "should be a list of integers"),
        ({"labels": 3}, "got a int"),
    ],
)
def test_other_content_is_refused(cifar10: Path, change: dict[str, Any], message: str) -> None:
    write_pickle(cifar10 / "data_batch_4", {**cifar_batch(20), **change}, 4)
    with pytest.raises(UnreadablePickleError, match=message) as caught:
        CIFAR10(cifar10)
    assert "data_batch_4" in str(caught.value)


def test_keys_and_kinds_are_checked(cifar10: Path) -> None:
    write_pickle(cifar10 / "data_batch_1", {"data": np.zeros((1, 3072), np.uint8), "x": 1})
    with pytest.raises(UnreadablePickleError, match=r"no 'labels'; its keys are data, x"):
        CIFAR10(cifar10)
    write_pickle(cifar10 / "data_batch_1", [1])
    with pytest.raises(UnreadablePickleError, match="should hold a dict, got a list"):
        CIFAR10(cifar10)
    write_pickle(cifar10 / "batches.meta", {"fine_label_names": ["a"]})
    with pytest.raises(UnreadablePickleError, match="no list 'label_names'"):
        CIFAR10(cifar10)


def test_a_truncated_batch_is_named(cifar10: Path) -> None:
    file = cifar10 / "data_batch_5"
    file.write_bytes(file.read_bytes()[:-30_000])
    with pytest.raises(UnreadablePickleError, match=r"data_batch_5.*truncated"):
        CIFAR10(cifar10)


def test_an_empty_batch_is_an_empty_split(cifar10: Path) -> None:
    write_pickle(cifar10 / "test_batch", cifar_batch(0))
    with pytest.raises(ValueError, match="'test' of CIFAR10 has no image"):
        CIFAR10(cifar10, "test")


def test_missing_files_and_archives_are_named(cifar10: Path, tmp_path: Path) -> None:
    (cifar10 / "data_batch_2").unlink()
    with pytest.raises(FileNotFoundError, match="data_batch_2' is missing"):
        CIFAR10(cifar10)
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(FileNotFoundError, match=r"holds nothing\); expected cifar-10-batches-py/"):
        CIFAR10(other)
    (other / "cifar-10-python.tar.gz").touch()
    with pytest.raises(FileNotFoundError, match=r"unpack cifar-10-python\.tar\.gz"):
        CIFAR10(other)
    with pytest.raises(ValueError, match="split must be one of train, test, val, trainval"):
        CIFAR10(cifar10, "query")


def test_it_is_pickled_with_its_images(cifar10: Path) -> None:
    dataset = CIFAR10(cifar10)
    again = pickle.loads(pickle.dumps(dataset))
    assert again.metainfo == dataset.metainfo
