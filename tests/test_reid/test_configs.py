"""Every config of the room: what it builds, and what the papers say of it."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import Registry

from engine.cli import load_config
from imaging.transforms import build_transforms
from reid.registry import MODELS

ROOT = Path(__file__).parent.parent.parent
LEAVES = sorted(path.stem for path in (ROOT / "configs" / "reid").glob("*.py"))
ROOMS = ("backbones", "engine", "reid")


@pytest.fixture(scope="module")
def load() -> Iterator[Any]:
    """``load(name)``: each file is parsed once, though it is the base of a hundred others."""
    parse = functools.cache(Config._file2dict)
    with pytest.MonkeyPatch.context() as patch:
        once = staticmethod(lambda *args, **kw: copy.deepcopy(parse(*args, **kw)))
        patch.setattr(Config, "_file2dict", once)
        yield functools.cache(lambda name: load_config(ROOT / "configs" / "reid" / f"{name}.py"))


def types_in(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("type"), str):
            yield node["type"]
        for value in node.values():
            yield from types_in(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from types_in(value)


@functools.cache
def is_registered(room: str, name: str) -> bool:
    registries = vars(import_module(f"{room}.registry")).values()
    return any(r.get(name) is not None for r in registries if isinstance(r, Registry))


def test_types_exist(load) -> None:
    found = {kind: name for name in LEAVES for kind in types_in(load(name)._cfg_dict)}
    ours = {kind: name for kind, name in found.items() if kind.split(".")[0] in ROOMS}
    unknown = {k: n for k, n in ours.items() if not is_registered(*k.split(".", 1))}
    assert not unknown
    assert len(ours) > 20


def test_batches_are_those_of_the_sampler(load) -> None:
    for name in LEAVES:
        loader = load(name).train_dataloader
        sampler = loader.sampler
        assert sampler.identities * sampler.instances == loader.batch_size, name


def test_pipelines_end_in_images_of_one_size(load) -> None:
    """Training and test images of a recipe are alike, whatever the picture."""
    known: dict[str, set[tuple[int, ...]]] = {}
    image = np.random.default_rng(0).integers(0, 256, (60, 40, 3), np.uint8)
    for name in LEAVES:
        config = load(name)
        loaders = [config.train_dataloader, *config.test_dataloader.values()]
        sizes: set[tuple[int, ...]] = set()
        for steps in [config.test_pipeline, *(loader.dataset.transforms for loader in loaders)]:
            key = repr(steps)
            if key not in known:
                build = build_transforms(steps)
                known[key] = {tuple(build(image, seed).shape) for seed in range(3)}
            sizes |= known[key]
        assert len(sizes) == 1, (name, sizes)


def test_models_and_optimisers_build(load) -> None:
    seen = set()
    for name in LEAVES:
        config = load(name)
        key = repr((config.model, config.optim_wrapper))
        if key in seen:
            continue
        seen.add(key)
        with torch.device("meta"):
            model = MODELS.build({**config.model, "num_identities": 4})
        wrapper = {**config.optim_wrapper, "type": "OptimWrapper"}
        groups = build_optim_wrapper(model, copy.deepcopy(wrapper)).optimizer.param_groups
        rate = config.optim_wrapper.optimizer.lr
        gates = {id(p) for n, p in model.named_parameters() if n.endswith("gate")}
        for group in groups:
            for parameter in group["params"]:
                gated = id(parameter) in gates
                assert group["lr"] == (10 * rate if gated else rate), name
                assert (group["weight_decay"] == 0) == gated, name
        held = [id(p) for group in groups for p in group["params"]]
        assert len(held) == len(set(held)), name
        trained = {id(p) for p in model.parameters() if p.requires_grad}
        assert trained <= set(held), name
    assert len(seen) >= 25


@pytest.mark.parametrize("train", ["market1501", "dukemtmc", "msmt17", "veri776", "vehicleid"])
def test_the_grid_is_complete(load, train) -> None:
    plain = ("resnet50", "resnet50_ibn_a", "resnet50_ibn_b", "resnet101_ibn_a")
    more = ("se_resnet50_ibn_a", "resnet50_bin", "resnet50_sn", "resnet50_ilm_gn")
    names = {f"{b}_bot_{train}" for b in (*plain, *more)}
    names |= {f"{b}_{recipe}_{train}" for recipe in ("agw", "sbs") for b in plain}
    assert names <= set(LEAVES)
    size = "vehicle" if train.startswith("ve") else "person"
    heights = {"bot": (256, 256), "agw": (256, 256), "sbs": (384, 256)}
    for recipe, (person, vehicle) in heights.items():
        resize = load(f"resnet50_{recipe}_{train}").test_pipeline[0]
        width = 128 if size == "person" else 256
        assert (resize.height, resize.width) == (person if size == "person" else vehicle, width)


def test_the_strong_baseline_is_as_published(load) -> None:
    config = load("resnet50_bot_market1501")
    warm_up, steps = config.param_scheduler
    assert (warm_up.start_factor, warm_up.end) == (0.01, 10)
    assert (steps.milestones, steps.gamma) == ([40, 70], 0.1)
    assert config.train_cfg.max_epochs == 120
    assert config.optim_wrapper.optimizer == dict(type="Adam", lr=3.5e-4, weight_decay=5e-4)
    sampler = config.train_dataloader.sampler
    assert (sampler.identities, sampler.instances) == (16, 4)
    smoothed, triplet, center = config.model.losses
    assert smoothed.label_smoothing == 0.1 and triplet.margin == 0.3
    assert (center.weight, center.center_lr) == (0.0005, 0.5)
    assert (config.model.backbone.last_stride, config.model.pooling) == (1, "avg")


def test_the_stronger_baseline_is_as_published(load) -> None:
    config = load("resnet50_ibn_a_sbs_market1501")
    assert config.train_cfg.max_epochs == 60
    _, cosine = config.param_scheduler
    assert (cosine.begin, cosine.end, cosine.eta_min) == (30, 60, 7e-7)
    circle, triplet = config.model.losses
    assert (circle.type, circle.scale, circle.margin) == ("reid.CircleSoftmaxLoss", 64, 0.35)
    assert triplet.margin == "soft" and "mining" not in triplet
    assert config.model.backbone.non_local == (0, 2, 3, 0) and config.model.pooling == "gem"
    sampler = config.train_dataloader.sampler
    assert (sampler.identities, sampler.instances) == (4, 16)
    assert config.train_dataloader.dataset.transforms[0] == dict(type="AutoAugment", p=0.1)
    freeze = config.custom_hooks[-1]
    assert freeze == dict(type="engine.FreezeHook", modules=["backbone"], iterations=1000)
    assert load("resnet50_sbs_veri776").optim_wrapper.optimizer.type == "SGD"
    assert (
        load("resnet50_sbs_veri776").train_dataloader.sampler.type == "reid.CameraBalancedSampler"
    )


def test_the_rate_is_flat_and_then_a_cosine(load) -> None:
    """The schedule of 60 epochs, by iterations of which an epoch has ten."""
    from mmengine.registry import PARAM_SCHEDULERS

    config = load("resnet50_sbs_market1501")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=3.5e-4)
    schedulers = [
        PARAM_SCHEDULERS.get(s.type).build_iter_from_epoch(
            optimizer,
            epoch_length=10,
            **{k: v for k, v in s.items() if k not in ("type", "convert_to_iter_based")},
        )
        for s in copy.deepcopy(config.param_scheduler)
    ]
    rates = []
    for _ in range(600):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    assert rates[0] == pytest.approx(3.5e-5) and rates[105:300] == pytest.approx([3.5e-4] * 195)
    middle = 7e-7 + (3.5e-4 - 7e-7) / 2
    assert rates[450] == pytest.approx(middle, rel=0.02) and rates[599] < 2e-6


def test_generalisation_is_not_tested_where_it_was_trained(load) -> None:
    for backbone in ("resnet50", "resnet50_ibn_a", "resnet50_ibn_b", "resnet50_bin", "resnet50_sn"):
        config = load(f"{backbone}_bot_msmt17-to-market1501")
        assert list(config.test_dataloader) == ["msmt17", "market1501"]
        assert config.train_dataloader.dataset.train == "train"
        config = load(f"{backbone}_bot_msmt17_all-to-market1501")
        assert list(config.test_dataloader) == list(config.val_dataloader) == ["market1501"]
        assert config.train_dataloader.dataset.train == "all"
    assert load("resnet50_bot_msmt17_train_val").train_dataloader.dataset.train == "train+val"
