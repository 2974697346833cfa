"""The cache and the augmentation of batches, as a re-ID data set and model use them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from imaging.batch_augmentation import BatchAugmentation
from reid.datasets import Market1501
from reid.datasets.base import collate
from reid.registry import MODELS
from reid.synthetic import make_city

PIPELINE = [
    dict(type="Resize", height=32, width=16),
    dict(type="HorizontalFlip", p=0.5),
    dict(type="Pad", padding=2),
    dict(type="RandomCrop", height=32, width=16),
    dict(type="RandomErasing", p=0.5),
]
KEYS = [(i, 1000 * i + 7) for i in range(8)]


@pytest.fixture(scope="module")
def city(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("city")
    make_city(folder, identities=4, cameras=2, images_per_camera=2, size=(64, 32))
    return folder


@pytest.mark.parametrize("cache", ["resized", "bytes", dict(kind="resized", upfront=True)])
def test_a_cache_changes_nothing(city, cache) -> None:
    plain = Market1501(city, transforms=PIPELINE)
    kept = Market1501(city, transforms=PIPELINE, cache=cache)
    for _ in range(2):
        expected, got = (collate([data[key] for key in KEYS]) for data in (plain, kept))
        assert all(torch.equal(expected[k], got[k]) for k in expected if k != "path")
    assert kept.metainfo == plain.metainfo


def test_seeds_travel_in_the_batch(city) -> None:
    data = Market1501(city, transforms=PIPELINE[:1])
    assert collate([data[key] for key in KEYS])["seed"].tolist() == [seed for _, seed in KEYS]
    assert collate([data[i] for i, _ in KEYS])["seed"].tolist() == [-1] * 8


def test_a_model_augments_by_the_samples_seeds(city) -> None:
    """Whatever else was drawn before: as a run that was resumed needs it."""
    data = Market1501(city, transforms=PIPELINE[:1])
    batch = collate([data[key] for key in KEYS])
    config = dict(
        type="reid.Embedder",
        backbone=dict(type="backbones.CifarResNet", depth=8),
        num_identities=data.num_identities,
        losses=[dict(type="reid.CrossEntropyLoss")],
    )
    normalizer = dict(type="imaging.AugmentingNormalizer", augmentations=PIPELINE[1:])
    model = MODELS.build({**config, "data_preprocessor": normalizer})
    losses = []
    for _ in range(2):
        prepared = model.data_preprocessor(batch, training=True)
        losses.append(model(**prepared, mode="loss")["id_loss"].item())
        torch.rand(3)
    assert losses[0] == losses[1]
    plain = MODELS.build(dict(type="engine.ImageNormalizer"))
    augmented = BatchAugmentation(PIPELINE[1:])(batch["inputs"], batch["seed"])
    assert torch.equal(prepared["inputs"], plain({"inputs": augmented})["inputs"])
    evaluated = model.data_preprocessor(batch)["inputs"]
    assert torch.equal(evaluated, plain(batch)["inputs"])
