"""What a classifier is trained on: data of one's own instead of the config's, and does it fit?"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.wording import counted, some
from imaging.samples import as_transform

from .registry import DATASETS

if TYPE_CHECKING:
    from mmengine import Config

    from engine.runner import Runner

# Type -> (the split to train on, the splits to test on, the first that the data has)
_SPLITS = {
    "cls.CIFAR10": ("train", ("test",)),
    "cls.CIFAR100": ("train", ("test",)),
    "cls.ImageNet": ("train", ("val",)),
    "cls.TinyImageNet": ("train", ("val",)),
    "cls.DomainFolder": ("train", ("val",)),
    "cls.ClassFolder": ("train", ("test", "val")),
    "cls.ListFile": ("train", ("test", "val")),
}
_PROBED = 16  # images of a data set that are looked at


def train_on(config: Config, name: str, dataset: dict[str, Any]) -> None:
    """Train on ``dataset`` and make its own test split the only domain, in place.

    The network gets as many classes as the data has. Transforms stay the config's.

    Args:
        name: of the domain in results.
        dataset: type and root, as ``cls.data_options.parse_targets`` gives them.

    Raises:
        ValueError: a single list file, which leaves no images to test on.
    """
    train, tests = _SPLITS[dataset["type"]]
    base = {key: value for key, value in dataset.items() if key != "split"}
    if dataset["type"] == "cls.ListFile" and Path(base["root"]).is_file():
        raise ValueError(
            f"{base['root']} is one list: training and testing on it would be on the same images; "
            "give the folder of train.txt and test.txt (or val.txt)"
        )
    old = config.train_dataloader.dataset
    config.train_dataloader.dataset = {
        **base,
        "split": train,
        "transforms": deepcopy(old.get("transforms")),
    }
    config.model.backbone.num_classes = count_classes(config)
    if dataset["type"] == "cls.ListFile":  # a list for tests may lack the last class
        base["num_classes"] = config.model.backbone.num_classes
    loader = deepcopy(next(iter(config.test_dataloader.values())))
    test = _first_split(base, tests)
    loader.dataset = {**base, "split": test, "transforms": loader.dataset.get("transforms")}
    config.test_dataloader = {name: loader}
    if config.get("val_dataloader") is not None:
        config.val_dataloader = {name: loader}
    if config.get("source_domain") is not None:
        config.source_domain = name


def check_classes(config: Config) -> None:
    """Raise a ValueError if the network has another number of classes than the training data."""
    there, wanted = count_classes(config), config.model.backbone.num_classes
    if there != wanted:
        root = config.train_dataloader.dataset.get("root")
        raise ValueError(
            f"the training data {root} have {there} classes, the config's network has {wanted}; "
            f"set --cfg-options model.backbone.num_classes={there}"
        )


def check_training(runner: Runner) -> None:
    """Refuse, before ``runner.train()``, what would fail, or mean nothing, after it has begun.

    A part of the schedule that is shorter than an iteration is left out.

    Raises:
        ValueError: fewer training images than a batch, or labels that mean other classes in the
            data of the validation.
    """
    loader = runner.train_dataloader
    iterations = len(loader)
    if not iterations:
        share = len(loader.sampler)
        raise ValueError(
            f"{counted(share, 'training image')} (of a process) do not fill a batch of "
            f"{loader.batch_size}: an epoch would have no iteration; set --cfg-options "
            f"train_dataloader.batch_size={1 << share.bit_length() - 1} or less"
        )
    if isinstance(runner.param_schedulers, list):
        runner.param_schedulers = [
            s for s in runner.param_schedulers if not _is_empty(s, iterations)
        ]
    classes = list(loader.dataset.classes)
    for name, dataset in _validation_sets(runner).items():
        others = list(dataset.classes)
        if others != classes and sorted(others) == sorted(classes):
            raise ValueError(
                f"{name} has the training data's classes in another order: {some(others)} instead "
                f"of {some(classes)}; labels are numbers, so that its accuracy would mean nothing"
            )
        if len(others) != len(classes):
            raise ValueError(
                f"{name} has {len(others)} classes, the training data have {len(classes)}"
            )


def check_sizes(runner: Runner) -> None:
    """Refuse images of one's own for which a config that resizes nothing was not made.

    Raises:
        ValueError: images to test on of several sizes, or of another size than is trained on.
    """
    size = _size(runner.train_dataloader.dataset, 0)
    for name, dataset in _validation_sets(runner).items():
        if dataset.transforms is not as_transform(None):
            continue
        places = np.linspace(0, len(dataset) - 1, min(len(dataset), _PROBED)).astype(int)
        sizes = {_size(dataset, place) for place in places.tolist()}
        if sizes == {size}:
            continue
        shown = some((f"{h}x{w}" for h, w in sorted(sizes)), 3)
        raise ValueError(
            f"the config tests on images as they are (those of {name}: {shown}) and trains on "
            f"{size[0]}x{size[1]} pixels; use a config that resizes, e.g. "
            "configs/cls/resnet18_small_pacs-to-sketch.py or, to 32x32, "
            "configs/cls/cifar_resnet20_bin_164e_characters.py, or set "
            "train_dataloader.dataset.transforms and test_dataloader.<domain>.dataset.transforms"
        )


def count_classes(config: Config) -> int:
    """Classes of the training data."""
    dataset = deepcopy(config.train_dataloader.dataset)
    dataset.pop("transforms", None)
    return len(DATASETS.build(dataset).classes)


def _first_split(dataset: dict[str, Any], splits: tuple[str, ...]) -> str:
    """The first of ``splits`` that the data has; with one to choose from, that one."""
    for split in splits[:-1]:
        try:
            DATASETS.build({**dataset, "split": split})
        except (ValueError, FileNotFoundError):
            continue
        return split
    return splits[-1]


def _validation_sets(runner: Runner) -> dict[str, Any]:
    domains = {} if runner.val_loop is None else runner.val_loop.domains
    return {name: loader.dataset for name, loader in domains.items()}


def _size(dataset: Any, place: int) -> tuple[int, int]:
    """Height and width of an image as the network gets it."""
    height, width = dataset[place, 0]["inputs"].shape[1:]
    return int(height), int(width)


def _is_empty(scheduler: Any, iterations: int) -> bool:
    """Whether mmengine would find no iteration in the scheduler's part of the epochs."""
    if not scheduler.get("convert_to_iter_based") or "end" not in scheduler:
        return False
    return int(scheduler["end"] * iterations) <= int(scheduler.get("begin", 0) * iterations)
