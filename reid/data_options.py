"""Data on the command line: ``[NAME=][LAYOUT:]PATH`` -> entries of a config.

data/market1501             the layout is recognised, the name is the folder's
campus=folder:my/photos     <identity>/<file>, called campus in results
csv:my/list.csv             path,pid,camera,split
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmengine.logging import print_log

from .datasets.layout import LAYOUTS, recognise_layout
from .registry import DATASETS

if TYPE_CHECKING:
    from mmengine import Config


def parse_data(
    text: str, camera_pattern: str | None = None, *, only_test: bool = False
) -> tuple[str, dict[str, Any]]:
    """``[NAME=][LAYOUT:]PATH`` -> (name, dataset config without split and transforms).

    Args:
        text: see above.
        camera_pattern: for folders, a regular expression on the file name with one group.
        only_test: data without splits of its own is tested on whole, instead of in half.

    Raises:
        ValueError: an unknown layout. FileNotFoundError: no such folder.
    """
    match = re.fullmatch(r"(?:(?P<name>[\w.-]+)=)?(?:(?P<layout>\w+):)?(?P<path>.+)", text)
    assert match is not None
    layout, path = match["layout"], Path(match["path"])
    if layout is not None and layout not in LAYOUTS:
        raise ValueError(
            f"expected [NAME=][LAYOUT:]PATH with a layout of {', '.join(LAYOUTS)}, got {text!r}; "
            "e.g. market1501:data/market1501"
        )
    if not path.exists():
        raise FileNotFoundError(f"no data at {path} (from {text!r}); check the path")
    layout = layout or recognise_layout(path)
    dataset: dict[str, Any] = {"type": LAYOUTS[layout], "root": str(path)}
    if layout != "market1501" and only_test:
        dataset["train_fraction"] = 0.0
    if layout == "folder" and camera_pattern is not None:
        dataset["camera_pattern"] = camera_pattern
    return match["name"] or path.resolve().stem, dataset


def parse_targets(texts: Sequence[str], camera_pattern: str | None = None) -> dict[str, Any]:
    """Several data sets to test on, by name.

    Raises:
        ValueError: two of one name, of which one would hide the other.
    """
    targets: dict[str, Any] = {}
    for text in texts:
        name, dataset = parse_data(text, camera_pattern, only_test=True)
        if name in targets:
            raise ValueError(
                f"two data sets are called {name!r}; name them, e.g. first={targets[name]['root']} "
                f"second={dataset['root']}"
            )
        targets[name] = dataset
    return targets


def trained_on(config: Config, targets: dict[str, Any]) -> set[str]:
    """Names of the targets that are the config's training data, tested on whole."""
    loader = config.get("train_dataloader") or {}
    root = Path(loader.get("dataset", {}).get("root", "")).resolve()
    return {
        name
        for name, dataset in targets.items()
        if "train_fraction" in dataset and Path(dataset["root"]).resolve() == root
    }


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
    wanted = sampler.get("identities", 16)
    if sampler.type == "reid.PKSampler" and dataset.num_identities < wanted:
        print_log(
            f"{dataset.num_identities} identities are fewer than the {wanted} of a batch: they "
            "repeat in it; consider a smaller train_dataloader.sampler.identities and batch_size",
            level=logging.WARNING,
        )
    if config.model.get("num_identities") is None:
        config.model.num_identities = dataset.num_identities
