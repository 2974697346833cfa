"""Tiny trees of images and tiny CIFAR batches, made where a test needs them."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.test_imaging.conftest import encode, picture

MakeImages = Callable[..., None]


@pytest.fixture
def make_images() -> MakeImages:
    """``make_images(root, names)`` writes small images, each unlike the others."""
    count = 0

    def make(root: Path, names: Iterable[str], size: tuple[int, int] = (20, 24)) -> None:
        nonlocal count
        for name in names:
            count += 1
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode(picture(count, size), path.suffix))

    return make


def cifar_batch(images: int, seed: int = 0, *, classes: int = 10) -> dict[str, Any]:
    """What a batch of CIFAR-10 holds."""
    rng = np.random.default_rng(seed)
    return {
        "batch_label": f"batch {seed}",
        "labels": [i % classes for i in range(images)],
        "data": rng.integers(0, 256, (images, 3072), dtype=np.uint8),
        "filenames": [f"{i}.png" for i in range(images)],
    }


def write_pickle(path: Path, content: Any, protocol: int = 2) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=protocol))


@pytest.fixture
def cifar10(tmp_path: Path) -> Path:
    """CIFAR-10 with 20 images in each of the five batches, and 10 to test."""
    root = tmp_path / "cifar-10-batches-py"
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship"]
    write_pickle(root / "batches.meta", {"label_names": [*names, "truck"], "num_vis": 3072})
    for number in range(1, 6):
        write_pickle(root / f"data_batch_{number}", cifar_batch(20, number))
    write_pickle(root / "test_batch", cifar_batch(10, 6))
    return root


@pytest.fixture
def cifar100(tmp_path: Path) -> Path:
    """CIFAR-100 with 200 training images of 100 classes in 20 super-classes."""
    root = tmp_path / "cifar-100-python"
    meta = {
        "fine_label_names": [f"fine{i}" for i in range(100)],
        "coarse_label_names": [f"coarse{i}" for i in range(20)],
    }
    write_pickle(root / "meta", meta)
    for name, images in (("train", 200), ("test", 100)):
        batch = cifar_batch(images, images, classes=100)
        fine = batch.pop("labels")
        labels = {"fine_labels": fine, "coarse_labels": [i // 5 for i in fine]}
        write_pickle(root / name, {**batch, **labels})
    return root


@pytest.fixture
def animals(tmp_path: Path, make_images: MakeImages) -> Path:
    """Two classes, split: 6 + 4 images to train, 2 + 2 to validate."""
    root = tmp_path / "animals"
    for split, cats, dogs in (("train", 6, 4), ("val", 2, 2)):
        make_images(root / split, [f"cat/{i}.jpg" for i in range(cats)])
        make_images(root / split, [f"dog/{i}.png" for i in range(dogs)])
    return root


@pytest.fixture
def styles(tmp_path: Path, make_images: MakeImages) -> Path:
    """Three domains x two classes x ten images."""
    root = tmp_path / "styles"
    for domain in ("art", "photo", "sketch"):
        make_images(root / domain, [f"{c}/{i}.jpg" for c in ("cup", "pen") for i in range(10)])
    return root
