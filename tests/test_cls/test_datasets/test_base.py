from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from cls.datasets import CIFAR10, ClassFolder, DomainFolder, collate
from cls.registry import FUNCTIONS
from imaging.files import UnreadableImageError, read_image
from tests.test_imaging.conftest import encode, picture

SQUARE = [dict(type="Resize", height=16, width=16)]


def test_a_sample_is_an_image_with_its_label(animals: Path) -> None:
    dataset = ClassFolder(animals)
    sample = dataset[7]
    assert set(sample) == {"inputs", "label", "index", "path"}
    assert sample["path"] == str(animals / "train/dog/1.png")
    assert (sample["label"], sample["index"]) == (1, 7)
    assert sample["inputs"].dtype == torch.uint8
    expected = read_image(sample["path"]).transpose(2, 0, 1)
    np.testing.assert_array_equal(sample["inputs"], expected)
    assert dataset[-1]["index"] == 9
    assert dataset[np.int64(7)]["label"] == 1
    with pytest.raises(IndexError, match="index 10 of a data set with 10 images"):
        dataset[10]


def test_a_seed_fixes_the_augmentation(animals: Path) -> None:
    transforms = [dict(type="RandomCrop", height=8, width=8), dict(type="HorizontalFlip", p=0.5)]
    dataset = ClassFolder(animals, transforms=transforms)
    first = dataset[0, 5]["inputs"]
    assert first.shape == (3, 8, 8)
    assert torch.equal(first, dataset[0, 5]["inputs"])
    assert any(not torch.equal(first, dataset[0, seed]["inputs"]) for seed in range(6, 16))


def test_a_callable_gets_the_seed(animals: Path) -> None:
    seen = []

    def transform(image: np.ndarray, seed: int | None) -> torch.Tensor:
        seen.append((image.shape, seed))
        return torch.zeros(3, 1, 1, dtype=torch.uint8)

    dataset = ClassFolder(animals, transforms=transform)
    assert dataset[0, 3]["inputs"].shape == (3, 1, 1)
    _ = dataset[0]
    assert seen == [((20, 24, 3), 3), ((20, 24, 3), None)]


def test_metainfo_is_plain(animals: Path) -> None:
    meta = ClassFolder(animals, "val").metainfo
    assert meta | {"fingerprint": ""} == {
        "name": "animals",
        "split": "val",
        "protocol": "class folders, 'val' as in the folders",
        "fingerprint": "",
        "num_images": 4,
        "num_classes": 2,
        "classes": ["cat", "dog"],
    }
    assert len(meta["fingerprint"]) == 64


def test_the_fingerprint_follows_names_classes_and_sizes(animals: Path, tmp_path: Path) -> None:
    first = ClassFolder(animals).fingerprint()
    moved = animals.rename(tmp_path / "elsewhere")
    assert ClassFolder(moved).fingerprint() == first
    file = moved / "train/cat/0.jpg"
    content = file.read_bytes()
    file.write_bytes(content + b"x")
    assert ClassFolder(moved).fingerprint() != first
    file.write_bytes(content)
    assert ClassFolder(moved).fingerprint() == first
    for split in ("train", "val"):
        (moved / split / "cat").rename(moved / split / "puss")
    assert ClassFolder(moved).fingerprint() != first
    (moved / "train/dog/0.png").rename(moved / "train/puss/0.png")
    assert len({ClassFolder(moved).fingerprint(), first}) == 2


def test_the_fingerprint_of_an_array_follows_its_pixels(cifar10: Path) -> None:
    assert CIFAR10(cifar10).fingerprint() == CIFAR10(cifar10).fingerprint()
    changed = CIFAR10(cifar10)
    assert changed.images is not None
    changed.images[3, 2, 1, 0] += 1
    assert changed.fingerprint() != CIFAR10(cifar10).fingerprint()


def test_batches_with_two_workers(styles: Path) -> None:
    dataset = DomainFolder(styles, "all", SQUARE)
    loaders = [
        DataLoader(dataset, batch_size=16, num_workers=workers, collate_fn=collate)
        for workers in (0, 2)
    ]
    for alone, shared in zip(*loaders, strict=True):
        assert torch.equal(alone["inputs"], shared["inputs"])
        assert torch.equal(alone["label"], shared["label"])
        assert alone["path"] == shared["path"]


def test_a_data_set_is_pickled_small(animals: Path) -> None:
    dataset = ClassFolder(animals, transforms=SQUARE)
    again = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(again[3, 1]["inputs"], dataset[3, 1]["inputs"])
    assert again.names == dataset.names and repr(again) == repr(dataset)
    assert "10 images of 2 classes" in repr(dataset)


def test_collate_makes_a_batch(animals: Path) -> None:
    dataset = ClassFolder(animals, transforms=SQUARE)
    samples = [dataset[i] for i in (0, 9, 3)]
    batch = FUNCTIONS.get("collate")(samples)
    assert batch["inputs"].shape == (3, 3, 16, 16) and batch["inputs"].dtype == torch.uint8
    assert torch.equal(batch["inputs"], torch.stack([s["inputs"] for s in samples]))
    assert batch["inputs"].is_contiguous(memory_format=torch.channels_last)
    assert batch["label"].tolist() == [0, 1, 0] and batch["label"].dtype == torch.int64
    assert batch["index"].tolist() == [0, 9, 3]
    assert batch["path"] == [s["path"] for s in samples]
    planes = [{**s, "inputs": s["inputs"].contiguous()} for s in samples]
    assert torch.equal(collate(planes)["inputs"], batch["inputs"])
    assert collate(planes)["inputs"].is_contiguous()


def test_collate_refuses_what_forms_no_batch(animals: Path) -> None:
    with pytest.raises(ValueError, match="empty batch"):
        collate([])
    samples = [ClassFolder(animals)[0], ClassFolder(animals, transforms=SQUARE)[0]]
    with pytest.raises(ValueError, match=r"different sizes.*\(3, 16, 16\), \(3, 20, 24\)"):
        collate(samples)


def test_an_unreadable_image_is_named(animals: Path) -> None:
    (animals / "train/cat/2.jpg").write_bytes(b"")
    with pytest.raises(UnreadableImageError, match=r"cat/2\.jpg'.*empty"):
        ClassFolder(animals)[2]


def test_gray_and_cmyk_images_become_rgb(animals: Path) -> None:
    gray = picture(1, (20, 24))[..., 0]
    (animals / "train/cat/0.jpg").write_bytes(encode(gray, ".png"))
    target = io.BytesIO()
    Image.fromarray(picture(2, (20, 24))).convert("CMYK").save(target, "JPEG", quality=95)
    assert b"Adobe" in target.getvalue()  # which writes its inks inverted
    (animals / "train/cat/1.jpg").write_bytes(target.getvalue())
    dataset = ClassFolder(animals)
    np.testing.assert_array_equal(dataset[0]["inputs"], np.stack([gray] * 3))
    expected = np.asarray(Image.open(target).convert("RGB")).transpose(2, 0, 1)
    difference = np.abs(dataset[1]["inputs"].numpy().astype(int) - expected)
    assert difference.max() <= 3


def test_names_of_any_bytes_are_kept(animals: Path) -> None:
    place = animals / "train/cat"
    strange = ["ä b.jpg", "\udcff.jpg", "日本.jpg"]
    for name in strange:
        (place / name).write_bytes(encode(picture(3)))
    dataset = ClassFolder(animals)
    assert {f"train/cat/{name}" for name in strange} <= set(dataset.names)
    for index in range(len(dataset)):
        assert dataset[index]["inputs"].shape[0] == 3
    assert len(dataset.metainfo["fingerprint"]) == 64


def test_arguments_are_checked(animals: Path) -> None:
    with pytest.raises(ValueError, match="ClassFolder: split must be one of train, val, test, all"):
        ClassFolder(animals, "query")
    with pytest.raises(FileNotFoundError, match="does not exist; of that path only"):
        ClassFolder(animals / "a/b")
    with pytest.raises(ValueError, match="unknown transform"):
        ClassFolder(animals, transforms=[dict(type="Rezise")])
