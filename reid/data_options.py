"""Data on the command line: ``LAYOUT:PATH`` -> entries of a config.

    market1501:data/market1501      the official tree
    folder:my/photos                <identity>/<file>
    csv:my/list.csv                 path,pid,camera,split
"""

from __future__ import annotations

import re
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .registry import DATASETS

if TYPE_CHECKING:
    from mmengine import Config

LAYOUTS = {"market1501": "reid.Market1501", "folder": "reid.ImageFolder", "csv": "reid.CSVList"}


def parse_data(text: str, camera_pattern: str | None = None) -> tuple[str, dict[str, Any]]:
    """``[NAME=]LAYOUT:PATH`` -> (name, dataset config without split and transforms).

    Args:
        text: the name is the folder's or file's own where none is given.
        camera_pattern: for folders, a regular expression on the file name with one group.
    """
    match = re.fullmatch(r"(?:(?P<name>[\w.-]+)=)?(?P<layout>\w+):(?P<path>.+)", text)
    if not match or match["layout"] not in LAYOUTS:
        raise ValueError(
            f"expected [NAME=]LAYOUT:PATH with a layout of {', '.join(LAYOUTS)}, got {text!r}; "
            "e.g. market1501:data/market1501"
        )
    dataset: dict[str, Any] = {"type": LAYOUTS[match["layout"]], "root": match["path"]}
    if camera_pattern is not None and match["layout"] == "folder":
        dataset["camera_pattern"] = camera_pattern
    return match["name"] or Path(match["path"]).resolve().stem, dataset


def use_training_data(config: Config, dataset: dict[str, Any], name: str) -> None:
    """Train on ``dataset`` and make its test split the only domain to evaluate."""
    old = config.train_dataloader.dataset
    config.train_dataloader.dataset = {**dataset, "split": "train", "transforms": old.transforms}
    use_targets(config, {name: dataset})


def use_targets(config: Config, targets: dict[str, dict[str, Any]]) -> None:
    """Evaluate on ``targets``, with the config's own loader settings and test transforms."""
    template = next(iter(config.test_dataloader.values()))
    loaders = {}
    for name, dataset in targets.items():
        loaders[name] = deepcopy(template)
        loaders[name].dataset = {
            **dataset,
            "split": "test",
            "transforms": template.dataset.transforms,
        }
    config.test_dataloader = loaders
    if config.get("val_dataloader") is not None:
        config.val_dataloader = loaders


def count_identities(config: Config) -> None:
    """Set ``model.num_identities`` from the training data, where the config leaves it open."""
    sampler, batch = config.train_dataloader.sampler, config.train_dataloader.batch_size
    if sampler.type == "reid.PKSampler":
        expected = sampler.get("identities", 16) * sampler.get("instances", 4)
        if expected != batch:
            raise ValueError(
                f"config: train_dataloader.batch_size is {batch}, but the sampler makes batches "
                f"of {sampler.get('identities', 16)} identities x {sampler.get('instances', 4)} "
                f"images: set batch_size={expected}"
            )
    dataset = DATASETS.build(config.train_dataloader.dataset)
    if dataset.num_identities < 2:
        raise ValueError(
            f"the training data {dataset.root} has {dataset.num_identities} identity; learning to "
            "tell identities apart needs two or more: python tools/prepare_data.py reid explains"
        )
    if config.model.get("num_identities") is None:
        config.model.num_identities = dataset.num_identities
