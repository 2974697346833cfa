"""Data on the command line: ``[NAME=][LAYOUT[[OPTION=VALUE,...]]:]PATH`` -> entries of a config.

data/market1501                     the layout is recognised, the name is the folder's
campus=folder:my/photos             <identity>/<file>, called campus in results
csv:my/list.csv                     path,pid,camera,split
vehicleid[size=large]:data/pku      options of the data set, in brackets
msmt17[train=train+val]:data/msmt
"""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmengine.logging import print_log

from engine.cli import parse_options

from .datasets.layout import LAYOUTS, PARSERS, recognise_layout
from .registry import DATA_SAMPLERS, DATASETS

if TYPE_CHECKING:
    from mmengine import Config

    from .datasets.base import Splits

_SPEC = re.compile(
    r"(?:(?P<name>[\w.-]+)=)?(?:(?P<layout>[A-Za-z]\w+)(?:\[(?P<options>.*?)\])?:)?(?P<path>.+)"
)


def parse_data(
    text: str,
    camera_pattern: str | None = None,
    *,
    identity_pattern: str | None = None,
    only_test: bool = False,
) -> tuple[str, dict[str, Any]]:
    """``[NAME=][LAYOUT[[OPTION=VALUE,...]]:]PATH`` -> (name, dataset config).

    The config lacks split and transforms.

    Args:
        text: see above.
        camera_pattern: for folders, a regular expression on the file name with one group.
        identity_pattern: likewise; a folder is then taken for a flat one.
        only_test: data without splits of its own is tested on whole, instead of in half.

    Raises:
        ValueError: an unknown layout or option. FileNotFoundError: no such folder.
    """
    match = _SPEC.fullmatch(text)
    layout, path = (match["layout"], Path(match["path"])) if match else (None, Path())
    if match is None or (layout is not None and layout not in LAYOUTS):
        raise ValueError(
            f"expected [NAME=][LAYOUT:]PATH with a layout of {', '.join(LAYOUTS)}, got {text!r}; "
            "e.g. market1501:data/market1501, or with options vehicleid[size=large]:data/vehicleid"
        )
    if not path.expanduser().exists():
        there = next((p for p in path.expanduser().absolute().parents if p.is_dir()), "nothing")
        raise FileNotFoundError(
            f"no data at {path} (from {text!r}); of that path only {str(there)!r} is there"
        )
    layout = layout or recognise_layout(path)
    if layout == "folder" and identity_pattern is not None:
        layout = "flat"
    accepted = dataset_options(layout)
    given = {"camera_pattern": camera_pattern, "identity_pattern": identity_pattern}
    options = {key: value for key, value in given.items() if value and key in accepted}
    options |= _options(match["options"] or "", layout, accepted)
    if only_test and "train_fraction" in accepted:
        options.setdefault("train_fraction", 0.0)
    dataset = {"type": LAYOUTS[layout], "root": str(path), **options}
    return match["name"] or path.resolve().stem, dataset


def dataset_options(layout: str) -> tuple[str, ...]:
    """The options of a layout's data set, beside root, split and transforms."""
    kind = DATASETS.get(LAYOUTS[layout].removeprefix("reid."))  # type: ignore[index]
    names = inspect.signature(kind.__init__).parameters
    return tuple(name for name in names if name not in ("self", "root", "split", "transforms"))


def parse_splits(dataset: Mapping[str, Any]) -> Splits:
    """The lists of a dataset config of :func:`parse_data`, whatever splits they leave empty."""
    layout = next(layout for layout, kind in LAYOUTS.items() if kind == dataset["type"])
    other = ("type", "root", "cache")  # the last of which is about images, not about lists
    options = {key: value for key, value in dataset.items() if key not in other}
    return PARSERS[layout](dataset["root"], **options)


def parse_targets(
    texts: Sequence[str],
    camera_pattern: str | None = None,
    *,
    identity_pattern: str | None = None,
    only_test: bool = True,
) -> dict[str, Any]:
    """Several data sets, by name: to test on, or with ``only_test=False`` also to train on.

    Raises:
        ValueError: two of one name, of which one would hide the other.
    """
    targets: dict[str, Any] = {}
    for text in texts:
        name, dataset = parse_data(
            text, camera_pattern, identity_pattern=identity_pattern, only_test=only_test
        )
        if name in targets:
            raise ValueError(
                f"two data sets are called {name!r}; name them, e.g. first={targets[name]['root']} "
                f"second={dataset['root']}"
            )
        targets[name] = dataset
    return targets


def trained_on(config: Config, targets: dict[str, Any]) -> set[str]:
    """Names of the targets that are the config's training data, tested on whole."""
    trained = (config.get("train_dataloader") or {}).get("dataset", {})
    roots = {
        Path(dataset.get("root", "")).resolve() for dataset in trained.get("datasets", [trained])
    }
    return {
        name
        for name, dataset in targets.items()
        if dataset.get("train_fraction") == 0 and Path(dataset["root"]).resolve() in roots
    }


def use_training_data(config: Config, dataset: dict[str, Any], name: str) -> None:
    """Train on ``dataset`` and make its test split the only domain to evaluate."""
    use_training_sets(config, {name: dataset})


def use_training_sets(config: Config, datasets: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Train on all of ``datasets`` together and evaluate on the test split of each, in place.

    A set of the type that the config trains on keeps the config's options that it does not change,
    so that a config that says ``train='train+val'`` does so wherever the data lie.

    Returns:
        Those that have a test split, which are the domains to evaluate; if none has one, the
        config's own domains are left as they were.
    """
    old = config.train_dataloader.dataset
    # however images are prepared and kept in memory is the config's business, whatever the data
    shared = {key: old[key] for key in ("transforms", "cache") if key in old}
    kept = {k: v for k, v in old.items() if k not in ("type", "root", "split", *shared)}
    datasets = {
        name: {**(kept if dataset["type"] == old.type else {}), **dataset}
        for name, dataset in datasets.items()
    }
    if len(datasets) == 1:
        (dataset,) = datasets.values()
        config.train_dataloader.dataset = {
            **shared,
            **dataset,
            "split": "train",
        }
    else:
        config.train_dataloader.dataset = {
            "type": "reid.JointTraining",
            "datasets": [dict(dataset) for dataset in datasets.values()],
            "names": list(datasets),
            **shared,
        }
    splits = {name: parse_splits(dataset) for name, dataset in datasets.items()}
    tested = {name: datasets[name] for name, found in splits.items() if found.query}
    if tested:
        use_targets(config, tested)
    return tested


def use_targets(config: Config, targets: Mapping[str, dict[str, Any]]) -> None:
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
    """Set ``model.num_identities`` from the training data, where the config leaves it open.

    Raises:
        ValueError: a batch size that is not the sampler's, or data of fewer than two identities.
    """
    sampler, batch = config.train_dataloader.sampler, config.train_dataloader.batch_size
    shape = _batch_shape(sampler)
    if shape is not None and shape[0] * shape[1] != batch:
        raise ValueError(
            f"config: train_dataloader.batch_size is {batch}, but the sampler makes batches "
            f"of {shape[0]} identities x {shape[1]} images: set batch_size={shape[0] * shape[1]}"
        )
    # its lists are enough: a cache would take its memory twice
    uncached = {k: v for k, v in config.train_dataloader.dataset.items() if k != "cache"}
    dataset = DATASETS.build(uncached)
    if dataset.num_identities < 2:
        raise ValueError(
            f"the training data {dataset.root} has {dataset.num_identities} identity; learning to "
            "tell identities apart needs two or more: python tools/prepare_data.py reid explains"
        )
    if shape is not None and dataset.num_identities < shape[0]:
        print_log(
            f"{dataset.num_identities} identities are fewer than the {shape[0]} of a batch: they "
            "repeat in it; consider a smaller train_dataloader.sampler.identities and batch_size",
            level=logging.WARNING,
        )
    if config.model.get("num_identities") is None:
        config.model.num_identities = dataset.num_identities


def _options(text: str, layout: str, accepted: Sequence[str]) -> dict[str, Any]:
    """``size=large,draws=5`` -> a dict; a comma may stand in a value."""
    texts = re.split(r",\s*(?=\w+=)", text) if text else []
    if wrong := [option for option in texts if not option.partition("=")[1]]:
        raise ValueError(f"expected {layout}[OPTION=VALUE,...]:PATH, got {wrong[0]!r} in brackets")
    options: dict[str, Any] = parse_options(texts)
    if unknown := [name for name in options if name not in accepted]:
        raise ValueError(f"{layout} takes no option {unknown[0]!r}; it takes {', '.join(accepted)}")
    return options


def _batch_shape(sampler: Mapping[str, Any]) -> tuple[int, int] | None:
    """(identities, instances) of a sampler that has both; None for another."""
    kind = DATA_SAMPLERS.get(sampler["type"]) if isinstance(sampler["type"], str) else None
    kind = kind or sampler["type"]
    if isinstance(kind, str):  # not registered: building it says so, and names those that are
        return None
    known: dict[str, inspect.Parameter] = {}
    for base in reversed(kind.__mro__):  # a subclass may pass on what it does not use itself
        known |= inspect.signature(base.__init__).parameters
    if not {"identities", "instances"} <= known.keys():
        return None
    first, second = (sampler.get(k, known[k].default) for k in ("identities", "instances"))
    return int(first), int(second)
