from __future__ import annotations

import pytest

from engine.recipe import recipe_digest, shared_name


def test_a_recipe_is_all_that_is_trained_with() -> None:
    config = dict(
        model=dict(type="cls.Classifier", backbone=dict(norm="bn")),
        train_dataloader=dict(
            batch_size=128,
            num_workers=2,
            dataset=dict(type="cls.CIFAR10", root="/a", transforms=[dict(type="Pad", padding=4)]),
            sampler=dict(type="cls.SeededSampler", seed=1),
        ),
        train_cfg=dict(max_epochs=30, val_interval=1),
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.1)),
        randomness=dict(seed=1),
        work_dir="/runs/a",
    )
    digest = recipe_digest(config)
    assert len(digest) == 64 and recipe_digest(None) == recipe_digest({}) == ""
    for path, value in (
        (("randomness", "seed"), 2),
        (("work_dir",), "/runs/b"),
        (("train_dataloader", "num_workers"), 0),
        (("train_dataloader", "dataset", "root"), "/b"),
        (("train_dataloader", "sampler", "seed"), 2),
        (("train_cfg", "val_interval"), 5),
    ):
        assert recipe_digest(with_value(config, path, value)) == digest, path
    for path, value in (
        (("model", "backbone", "norm"), "bin"),
        (("train_dataloader", "batch_size"), 64),
        (("train_dataloader", "dataset", "transforms"), []),
        (("train_cfg", "max_epochs"), 31),
        (("optim_wrapper", "optimizer", "lr"), 0.2),
    ):
        assert recipe_digest(with_value(config, path, value)) != digest, path


def with_value(config: dict, path: tuple[str, ...], value: object) -> dict:
    first, *rest = path
    return {**config, first: with_value(config[first], tuple(rest), value) if rest else value}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["bin_s0/epoch_3", "bin_s1/epoch_3"], "bin"),
        (["net_seed1/a", "net_seed10/a"], "net"),
        (["net-0/a", "net-1/a"], "net"),
        (["one/a", "two/a"], ""),
    ],
)
def test_the_name_that_runs_share(names, expected: str) -> None:
    assert shared_name(names) == expected
