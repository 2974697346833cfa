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

if TYPE_CHECKING:
    from mmengine import Config

# name of a layout -> type of its data set, and the part that is tested without @PART
LAYOUTS = {
    "cifar10": ("cls.CIFAR10", "test"),
    "cifar100": ("cls.CIFAR100", "test"),
    "imagenet": ("cls.ImageNet", "val"),
    "tiny_imagenet": ("cls.TinyImageNet", "val"),
    "domains": ("cls.DomainFolder", "all"),
    "folder": ("cls.ClassFolder", "all"),
}
_TESTED = ("test", "val")  # the split of a class folder to test on: the first that there is


def set_roots(config: Config, texts: Sequence[str]) -> None:
    """Put the data of the config where ``NAME=PATH`` or ``PATH`` says, in place.

    ``train`` names the training data, the other names are those of the domains to test on. A bare
    PATH is for all of them, where they lie in one folder.

    Raises:
        ValueError: no data of that name, or a bare PATH for data of several folders.
        FileNotFoundError: no such folder.
    """
    named = _datasets_by_name(config)
    for text in texts:
        name, separator, path = text.partition("=")
        if separator and not path or not text:
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
        if not Path(path).is_dir():
            raise FileNotFoundError(f"--data: no folder at {path} (from {text!r})")
        for dataset in named[name] if name else (d for found in named.values() for d in found):
            dataset["root"] = path


def parse_targets(texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Several data sets to test on: name -> dataset config without transforms.

    Raises:
        ValueError: an unknown layout, or two of one name. FileNotFoundError: no such folder.
    """
    targets: dict[str, dict[str, Any]] = {}
    for text in texts:
        match = re.fullmatch(
            r"(?:(?P<name>[\w.-]+)=)?(?:(?P<layout>[a-z]\w+)(?:@(?P<part>[\w .-]+))?:)?(?P<path>.+)",
            text,
        )
        layout, path = (match["layout"], Path(match["path"])) if match else (None, Path(text))
        if match is None or (layout is not None and layout not in LAYOUTS):
            raise ValueError(
                f"--target: expected [NAME=][LAYOUT[@PART]:]PATH with a layout of "
                f"{', '.join(LAYOUTS)}, got {text!r}"
            )
        if not path.is_dir():
            raise FileNotFoundError(f"--target: no folder at {path} (from {text!r})")
        layout = layout or recognise_layout(path)
        name = match["name"] or match["part"] or layout
        if name in targets:
            raise ValueError(
                f"--target: two data sets are called {name!r}; name them, e.g. "
                f"first={targets[name]['root']} second={path}"
            )
        targets[name] = _dataset(layout, path, match["part"])
    return targets


def recognise_layout(root: str | Path) -> str:
    """The layout of the data in a folder, a key of ``LAYOUTS``."""
    root = Path(root)

    def has(*names: str) -> bool:
        return all((root / name).exists() for name in names)

    if has("test_batch", "batches.meta"):
        return "cifar10"
    if has("test", "meta") and (root / "test").is_file():
        return "cifar100"
    if has("wnids.txt"):
        return "tiny_imagenet"
    if has("train", "val") and any(re.fullmatch(r"n\d{8}", p.name) for p in (root / "train").iterdir()):
        return "imagenet"
    if not has("train") and not any(has(split) for split in _TESTED):
        inner = [p for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")]
        if inner and all(any(q.is_dir() for q in p.iterdir()) for p in inner):
            return "domains"
    return "folder"


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


def _dataset(layout: str, path: Path, part: str | None) -> dict[str, Any]:
    kind, tested = LAYOUTS[layout]
    dataset: dict[str, Any] = {"type": kind, "root": str(path)}
    if layout == "domains":
        dataset["split"] = tested
        if part:
            dataset["domains"] = [part]
        return dataset
    if layout == "folder" and part is None:
        part = next((split for split in _TESTED if (path / split).is_dir()), None)
    dataset["split"] = part or tested
    return dataset


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
