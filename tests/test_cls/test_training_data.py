from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from cls.datasets import ClassFolder
from cls.training_data import (
    check_classes,
    check_sizes,
    check_training,
    count_classes,
    train_on,
)
from engine.cli import load_config

ROOT = Path(__file__).parent.parent.parent
SHAPES = ("circle", "square", "star")


@pytest.fixture
def config():
    return load_config(ROOT / "configs" / "cls" / "resnet18_small_pacs-to-sketch.py")


def test_classes_are_counted_and_checked(config, tree) -> None:
    for loader in (config.train_dataloader, *config.test_dataloader.values()):
        loader.dataset.root = str(tree)
    assert count_classes(config) == 3
    with pytest.raises(ValueError, match=r"have 3 classes.*has 7; set .*num_classes=3"):
        check_classes(config)
    config.model.backbone.num_classes = 3
    check_classes(config)


def test_own_folder_replaces_data_and_classes(config, tree) -> None:
    transforms = config.train_dataloader.dataset.transforms
    train_on(config, "mine", {"type": "cls.ClassFolder", "root": str(tree / "photo")})
    assert config.model.backbone.num_classes == 3
    assert config.train_dataloader.dataset.split == "train"
    assert config.train_dataloader.dataset.transforms == transforms
    assert list(config.test_dataloader) == list(config.val_dataloader) == ["mine"]
    assert config.test_dataloader.mine.dataset.split == "val"
    assert "exclude" not in config.train_dataloader.dataset
    assert config.source_domain == "mine"  # which a test does not call a target
    check_classes(config)


def test_own_test_folder_is_tested_on(config, tree, tmp_path) -> None:
    for split in ("train", "test"):
        (tmp_path / split).symlink_to(tree / "photo")
    train_on(config, "mine", {"type": "cls.ClassFolder", "root": str(tmp_path)})
    assert config.test_dataloader.mine.dataset.split == "test"


def test_own_lists(config, tree, tmp_path) -> None:
    lines = [f"{tree}/photo/{name}/0.png {label}" for label, name in enumerate(SHAPES)]
    (tmp_path / "train.txt").write_text("\n".join(lines))
    (tmp_path / "test.txt").write_text("\n".join(lines[:2]))
    train_on(config, "mine", {"type": "cls.ListFile", "root": str(tmp_path)})
    assert config.model.backbone.num_classes == 3
    assert config.test_dataloader.mine.dataset.split == "test"
    assert config.test_dataloader.mine.dataset.num_classes == 3  # of which the test has two
    with pytest.raises(ValueError, match=r"is one list.*the same images"):
        train_on(config, "mine", {"type": "cls.ListFile", "root": str(tmp_path / "train.txt")})


def fake_runner(train, validation, iterations=2, schedulers=(), batch_size=8):
    """What is looked at of a Runner."""
    loader = SimpleNamespace(dataset=train, sampler=range(len(train)), batch_size=batch_size)
    Loader = type("Loader", (SimpleNamespace,), {"__len__": lambda self: iterations})
    domains = {"mine": SimpleNamespace(dataset=validation)}
    return SimpleNamespace(
        train_dataloader=Loader(**vars(loader)),
        val_loop=SimpleNamespace(domains=domains),
        param_schedulers=list(schedulers),
    )


def test_fewer_images_than_a_batch(tree) -> None:
    data = ClassFolder(tree / "photo")
    with pytest.raises(ValueError, match=r"27 training images .*batch of 64.*batch_size=16 or"):
        check_training(fake_runner(data, data, iterations=0, batch_size=64))


def test_schedules_shorter_than_an_iteration_are_left_out(tree) -> None:
    data = ClassFolder(tree / "photo")
    by_iteration = dict(convert_to_iter_based=True)
    warm_up = dict(type="LinearLR", begin=0, end=0.2, **by_iteration)
    fall = dict(type="CosineAnnealingLR", begin=0.2, end=1, **by_iteration)
    steps = dict(type="MultiStepLR", milestones=[1])
    runner = fake_runner(data, data, 3, [warm_up, fall, steps])
    check_training(runner)
    assert runner.param_schedulers == [fall, steps]
    runner = fake_runner(data, data, 5, [warm_up, fall, steps])
    check_training(runner)
    assert runner.param_schedulers == [warm_up, fall, steps]


def test_validation_data_with_other_labels(tree) -> None:
    data = ClassFolder(tree / "photo")
    for classes, message in (
        (SHAPES[::-1], "mine has the training data's classes in another order: star"),
        (SHAPES[:2], "mine has 2 classes, the training data have 3"),
    ):
        other = SimpleNamespace(classes=classes)
        with pytest.raises(ValueError, match=message):
            check_training(fake_runner(data, other))
    check_training(fake_runner(data, SimpleNamespace(classes=("0", "1", "2"))))  # other names


def test_images_that_come_as_they_are(tree, tmp_path) -> None:
    data = ClassFolder(tree / "photo", "val")
    check_sizes(fake_runner(data, data))
    small = ClassFolder(tree / "photo", "val", [dict(type="CenterCrop", height=8, width=8)])
    check_sizes(fake_runner(data, small))  # transforms know what they do
    with pytest.raises(ValueError, match=r"mine: 20x20\) and trains on 8x8 pixels; use a config"):
        check_sizes(fake_runner(small, data))
    with Image.open(tree / "photo" / "circle" / "0.png") as image:
        for n, name in enumerate(SHAPES):
            for file in ("a.png", "b.png"):
                (tmp_path / name).mkdir(exist_ok=True)
                image.resize((20 + n, 20)).save(tmp_path / name / file)
    mixed = ClassFolder(tmp_path, "val")
    with pytest.raises(ValueError, match="mine: 20x20, 20x21, 20x22"):
        check_sizes(fake_runner(data, mixed))
