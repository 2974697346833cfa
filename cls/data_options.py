"""Data on the command line: where a config's data lie, and other data to test on.

``--data NAME=PATH``: train=/data/cifar cifar10=/data/cifar; a bare PATH is where all of it lies.

``--target [NAME=][LAYOUT[@PART]:]PATH``::

    data/my-images                   the layout is recognised and is the name
    crops=folder@val:data/crops      called crops in results; its split val
    sketch=domains@sketch:data/pacs  one domain of a <domain>/<class>/ tree
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .datasets.layout import LAYOUTS, recognise_layout, splits_of
from .registry import DATASETS

if TYPE_CHECKING:
    from mmengine import Config

# the split to test on: the first of these that the data has
_TESTED = ("test", "val", "all", "train")


def set_roots(config: Config, texts: Sequence[str]) -> None:
    """Put the data of the config where ``NAME=PATH`` or ``PATH`` says, in place.

    ``train`` names the training data, the other names are those of the domains to test on. A bare
    PATH is for all of them, where they lie in one folder.

    Raises:
        ValueError: no data of that name, or a bare PATH for data of several folders.
        FileNotFoundError: nothing lies there.
    """
    named = _datasets_by_name(config)
    for text in texts:
        name, separator, path = text.partition("=")
        if (separator and not path) or not text:
            raise ValueError(f"--data: expected NAME=PATH, got {text!r}; e.g. train=/data/cifar")
        if not separator:
            name, path = "", text
            roots = {str(d.get("root")) for datasets in named.values() for d in datasets}
            if len(roots) > 1:
                raise ValueError(
                    f"--data: the config's data lie in {len(roots)} folders ({', '.join(roots)}); "
                    f"say which of them is at {path}: NAME=PATH with NAME of "
                    f"{', '.join(sorted(named))}"
                )
        elif name not in named:
            raise ValueError(
                f"--data: the config has no data {name!r}, only {', '.join(sorted(named))}; "
                f"to test on other data, use --target {text}"
            )
        if not Path(path).exists():  # a folder, or a list of files
            raise FileNotFoundError(f"--data: nothing at {path} (from {text!r})")
        for dataset in named[name] if name else (d for found in named.values() for d in found):
            dataset["root"] = path


def parse_targets(texts: Sequence[str], option: str = "--target") -> dict[str, dict[str, Any]]:
    """Several data sets: name -> dataset config without transforms.

    Args:
        option: that the texts come from, for messages.

    Raises:
        ValueError: an unknown layout or split, or two of one name. FileNotFoundError: no such data.
    """
    targets: dict[str, dict[str, Any]] = {}
    for text in texts:
        match = re.fullmatch(
            r"(?:(?P<name>[\w.-]+)=)?"
            r"(?:(?P<layout>[a-z]\w+)(?:@(?P<part>[\w .-]+))?:)?(?P<path>.+)",
            text,
        )
        layout, path = (match["layout"], Path(match["path"])) if match else (None, Path(text))
        if match is None or (layout is not None and layout not in LAYOUTS):
            raise ValueError(
                f"{option}: expected [NAME=][LAYOUT[@PART]:]PATH with a layout of "
                f"{', '.join(LAYOUTS)}, got {text!r}"
            )
        if not path.exists():
            raise FileNotFoundError(f"{option}: no data at {path} (from {text!r})")
        layout = layout or recognise_layout(path)
        name = match["name"] or match["part"] or layout
        if name in targets:
            raise ValueError(
                f"{option}: two data sets are called {name!r}; name them, e.g. "
                f"first={targets[name]['root']} second={path}"
            )
        targets[name] = _dataset(layout, path, match["part"], option)
    return targets


def use_targets(config: Config, targets: Mapping[str, Mapping[str, Any]]) -> None:
    """Test on ``targets`` instead of the config's domains, in place.

    A target goes through the transforms of the config's domain of the same type if there is one,
    else through those of the first domain.
    """
    known = dict(config.test_dataloader)
    first = next(iter(known.values()))
    loaders = {}
    for name, target in targets.items():
        same = (loader for loader in known.values() if loader.dataset.type == target["type"])
        loaders[name] = deepcopy(next(same, first))
        loaders[name].dataset = {
            **target,
            "transforms": deepcopy(loaders[name].dataset.get("transforms")),
        }
    config.test_dataloader = loaders
    if config.get("val_dataloader") is not None:
        config.val_dataloader = loaders


def _dataset(layout: str, path: Path, part: str | None, option: str) -> dict[str, Any]:
    dataset: dict[str, Any] = {"type": LAYOUTS[layout], "root": str(path)}
    if layout == "domains":
        return {**dataset, "split": "all", **({"domains": part} if part else {})}
    splits = splits_of(path, layout)
    known = DATASETS.get(LAYOUTS[layout].removeprefix("cls.")).SPLITS
    if part is not None and part not in known:
        raise ValueError(
            f"{option}: {layout} has the splits {', '.join(splits)}, got {layout}@{part}:{path}"
        )
    split = part or next((split for split in _TESTED if split in splits), splits[0])
    return {**dataset, "split": split}


def _datasets_by_name(config: Config) -> dict[str, list[Any]]:
    """All dataset configs of a name: 'train', and the domains to validate and test on."""
    found: dict[str, list[Any]] = {}
    for name, dataset in _datasets(config):
        found.setdefault(name, []).append(dataset)
    return found


def _datasets(config: Config) -> Iterator[tuple[str, Any]]:
    if config.get("train_dataloader"):
        yield "train", config.train_dataloader.dataset
    for stage in ("val", "test"):
        for name, loader in (config.get(f"{stage}_dataloader") or {}).items():
            yield name, loader.dataset
