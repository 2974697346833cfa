"""Every config of the room: what it builds, and what the papers say of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.optim import build_optim_wrapper

from cls.registry import MODELS
from engine.cli import load_config
from imaging.transforms import build_transforms

ROOT = Path(__file__).parent.parent.parent
LEAVES = sorted((ROOT / "configs" / "cls").glob("*.py"))
SMALL_IMAGES = ("cifar", "3x3")


def load(name: str):
    return load_config(ROOT / "configs" / "cls" / f"{name}.py")


@pytest.mark.parametrize("path", LEAVES, ids=lambda p: p.stem)
def test_transforms_end_in_images_of_one_size(path) -> None:
    config = load_config(path)
    loaders = [config.train_dataloader, *config.test_dataloader.values()]
    native = 64 if "tiny_imagenet" in path.stem else 32
    for loader in loaders:
        steps = loader.dataset.get("transforms")
        if steps is None:
            assert any(name in path.stem for name in SMALL_IMAGES)
            continue
        shape = (native, native, 3) if any(s["type"] == "Pad" for s in steps) else (40, 60, 3)
        image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        build = build_transforms(steps)
        sizes = {tuple(build(image, seed).shape[1:]) for seed in range(3)}
        assert len(sizes) == 1 and len(set(next(iter(sizes)))) == 1, sizes


@pytest.mark.parametrize("path", LEAVES, ids=lambda p: p.stem)
def test_model_and_optimiser_build(path) -> None:
    config = load_config(path)
    with torch.device("meta"):  # layouts only: the deepest has 150 layers
        model = MODELS.build(config.model)
    assert model.num_classes == config.model.backbone.num_classes
    optimiser = build_optim_wrapper(
        model, dict(type="OptimWrapper", **config.optim_wrapper)
    ).optimizer
    rates = {group["lr"] for group in optimiser.param_groups}
    base = config.optim_wrapper.optimizer.lr
    gates = [name for name, _ in model.named_parameters() if name.endswith("gate")]
    assert rates == ({base, 10 * base} if gates else {base})
    for group in optimiser.param_groups:
        if gates and group["lr"] == 10 * base:
            assert group["weight_decay"] == 0
    assert sum(p.numel() for g in optimiser.param_groups for p in g["params"]) == sum(
        p.numel() for p in model.parameters()
    )


@pytest.mark.parametrize(
    ("name", "epochs", "milestones", "lr", "decay", "batch"),
    [
        ("cifar_resnet110_bin_164e_cifar100", 164, [81, 122], 0.1, 1e-4, 128),
        ("resnet101_3x3_ilm_gn_350e_cifar10", 350, [150, 250], 0.1, 5e-4, 32),
        ("resnet50_ilm_gn_100e_imagenet", 100, [30, 60, 90], 0.1 * 36 / 256, 1e-4, 36),
        ("resnet50_ibn_a_100e_imagenet", 100, [30, 60, 90], 0.1, 1e-4, 256),
        ("resnet50_sn_100e_imagenet", 100, [30, 60, 90], 0.1, 1e-4, 256),
    ],
)
def test_papers_hyper_parameters(name, epochs, milestones, lr, decay, batch) -> None:
    config = load(name)
    optimizer = config.optim_wrapper.optimizer
    assert config.train_cfg.max_epochs == epochs
    assert config.param_scheduler[-1].milestones == milestones
    assert config.param_scheduler[-1].gamma == pytest.approx(0.1)
    assert (optimizer.type, optimizer.momentum) == ("SGD", 0.9)
    assert optimizer.lr == pytest.approx(lr) and optimizer.weight_decay == decay
    assert config.train_dataloader.batch_size == batch


def test_sns_cosine_warms_up_by_iterations() -> None:
    config = load("resnet50_snv2_120e_imagenet")
    warm_up, cosine = config.param_scheduler
    assert (warm_up.end, cosine.begin, cosine.end) == (5, 5, 120) and warm_up.start_factor < 1e-5
    assert warm_up.convert_to_iter_based and cosine.convert_to_iter_based


def test_networks_are_the_papers() -> None:
    """Parameter counts that the authors' networks have."""
    counts = {
        "cifar_resnet110_bin_164e_cifar100": 1_739_844,
        "resnet101_3x3_ilm_gn_350e_cifar10": 42_548_754,
        "resnet50_ilm_gn_100e_imagenet": 25_578_128,
        "resnet50_ibn_a_100e_imagenet": 25_557_032,
        "resnet50_ibn_b_100e_imagenet": 25_558_568,
        "resnet50_sn_100e_imagenet": 25_557_350,
        "resnet50_snv2_120e_imagenet": 25_549_780,
    }
    for name, expected in counts.items():
        with torch.device("meta"):
            model = MODELS.build(load(name).model)
        assert sum(p.numel() for p in model.parameters()) == expected, name


def test_leave_one_domain_out_configs_differ_in_the_target_only() -> None:
    targets = ("art_painting", "cartoon", "photo", "sketch")
    for target in targets:
        config = load(f"resnet18_small_pacs-to-{target}")
        assert config.train_dataloader.dataset.exclude == target
        assert config.test_dataloader.sources.dataset.exclude == target
        assert list(config.test_dataloader) == ["sources", target]
        assert config.test_dataloader[target].dataset.domains == target
        assert config.test_dataloader[target].dataset.split == "all"
        assert list(config.val_dataloader) == ["sources"]  # a target chooses nothing
        assert config.val_dataloader.sources.dataset.exclude == target
