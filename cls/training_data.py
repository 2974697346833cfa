"""What a classifier is trained on: data of one's own instead of the config's, how many classes."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

from .registry import DATASETS

if TYPE_CHECKING:
    from mmengine import Config

# Type -> (the split to train on, the splits to test on, the first that the data has)
_SPLITS = {
    "cls.CIFAR10": ("train", ("test",)),
    "cls.CIFAR100": ("train", ("test",)),
    "cls.ImageNet": ("train", ("val",)),
    "cls.TinyImageNet": ("train", ("val",)),
    "cls.DomainFolder": ("train", ("val",)),
    "cls.ClassFolder": ("train", ("test", "val")),
}


def train_on(config: Config, name: str, dataset: dict[str, Any]) -> None:
    """Train on ``dataset`` and make its own test split the only domain, in place.

    The network gets as many classes as the data has. Transforms stay the config's.

    Args:
        name: of the domain in results.
        dataset: type and root, as ``cls.data_options.parse_targets`` gives them.
    """
    train, tests = _SPLITS[dataset["type"]]
    base = {key: value for key, value in dataset.items() if key != "split"}
    old = config.train_dataloader.dataset
    config.train_dataloader.dataset = {
        **base,
        "split": train,
        "transforms": deepcopy(old.get("transforms")),
    }
    loader = deepcopy(next(iter(config.test_dataloader.values())))
    test = _first_split(base, tests)
    loader.dataset = {**base, "split": test, "transforms": loader.dataset.get("transforms")}
    config.test_dataloader = {name: loader}
    if config.get("val_dataloader") is not None:
        config.val_dataloader = {name: loader}
    config.model.backbone.num_classes = count_classes(config)


def check_classes(config: Config) -> None:
    """Raise a ValueError if the network has another number of classes than the training data."""
    there, wanted = count_classes(config), config.model.backbone.num_classes
    if there != wanted:
        root = config.train_dataloader.dataset.get("root")
        raise ValueError(
            f"the training data {root} have {there} classes, the config's network has {wanted}; "
            f"set --cfg-options model.backbone.num_classes={there}"
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
