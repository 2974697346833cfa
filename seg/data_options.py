"""Data on the command line: where a config's domains lie, and other targets to test on.

``--data NAME=PATH``: gta5=/data/gta5 cityscapes=/mnt/cityscapes

``--target [NAME=][LAYOUT[@SPLIT]:]PATH``::

    data/bdd100k                    the layout is recognised and is the name; its split to test on
    night=acdc:/data/acdc           called night in results
    cityscapes@train:data/sample    another split
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .datasets import LAYOUTS, recognise_layout
from .registry import DATASETS

if TYPE_CHECKING:
    from mmengine import Config

_TESTED = ("val", "test", "train")  # the split to test on: the first of these that a type has
_TESTED_OF = {"camvid": "test"}  # whose customary test split has labels, and is larger


def set_roots(config: Config, texts: Sequence[str]) -> None:
    """Put the data of the config's domains where ``NAME=PATH`` says, in place.

    Raises:
        ValueError: not NAME=PATH, or no domain of that name. FileNotFoundError: no such folder.
    """
    domains = _datasets_by_domain(config)
    for text in texts:
        name, separator, path = text.partition("=")
        if not separator or not path:
            raise ValueError(f"--data: expected NAME=PATH, got {text!r}; e.g. gta5=/data/gta5")
        if name not in domains:
            raise ValueError(
                f"--data: the config has no domain {name!r}, only {', '.join(sorted(domains))}; "
                f"to test on other data, use --target {text}"
            )
        if not Path(path).is_dir():
            raise FileNotFoundError(f"--data: no folder at {path} (from {text!r})")
        for dataset in domains[name]:
            dataset["root"] = path


def parse_targets(texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Several data sets to test on: name -> dataset config without space and pipeline.

    Raises:
        ValueError: an unknown layout or split, or two of one name. FileNotFoundError: no such data.
    """
    targets: dict[str, dict[str, Any]] = {}
    for text in texts:
        match = re.fullmatch(
            r"(?:(?P<name>[\w.-]+)=)?(?:(?P<layout>[a-z]\w+)(?:@(?P<split>\w+))?:)?(?P<path>.+)",
            text,
        )
        assert match is not None
        layout, path = match["layout"], Path(match["path"])
        if layout is not None and layout not in LAYOUTS:
            raise ValueError(
                f"--target: expected [NAME=][LAYOUT[@SPLIT]:]PATH with a layout of "
                f"{', '.join(LAYOUTS)}, got {text!r}"
            )
        layout = layout or recognise_layout(path)
        kind = DATASETS.get(LAYOUTS[layout].removeprefix("seg."))
        splits = (*kind.SPLITS, "all")
        split = match["split"] or _TESTED_OF.get(layout) or next(s for s in _TESTED if s in splits)
        if split not in splits:
            raise ValueError(f"--target: {layout} has the splits {', '.join(splits)}, got {text!r}")
        name = match["name"] or layout
        if name in targets:
            raise ValueError(
                f"--target: two data sets are called {name!r}; name them, e.g. "
                f"first={targets[name]['root']} second={path}"
            )
        targets[name] = {"type": LAYOUTS[layout], "root": str(path), "split": split}
    return targets


def use_targets(config: Config, targets: Mapping[str, Mapping[str, Any]]) -> None:
    """Test on ``targets`` instead of the config's domains, in place.

    A target goes through the test pipeline of the config's domain of the same type if there is
    one, else through that of the first domain, and its labels into the space of the model.
    """
    known = dict(config.test_dataloader)
    first = next(iter(known.values()))
    space = (
        first.dataset.get("space")
        or DATASETS.get(first.dataset.type.removeprefix("seg.")).default_space
    )
    loaders = {}
    for name, target in targets.items():
        same = (loader for loader in known.values() if loader.dataset.type == target["type"])
        loaders[name] = deepcopy(next(same, first))
        pipeline = loaders[name].dataset.pipeline
        loaders[name].dataset = {
            **target,
            "space": space,
            "pipeline": pipeline,
            "test_mode": True,
        }
    config.test_dataloader = loaders
    if config.get("val_dataloader") is not None:
        config.val_dataloader = loaders


def _datasets_by_domain(config: Config) -> dict[str, list[Any]]:
    """All dataset configs of a name: the source's for training, and those to test on."""
    found: dict[str, list[Any]] = {}
    for name, dataset in _datasets(config):
        found.setdefault(name, []).append(dataset)
    return found


def _datasets(config: Config) -> Iterator[tuple[str, Any]]:
    if config.get("train_dataloader") and config.get("source_domain"):
        yield config.source_domain, config.train_dataloader.dataset
    for stage in ("val", "test"):
        for name, loader in (config.get(f"{stage}_dataloader") or {}).items():
            yield name, loader.dataset
