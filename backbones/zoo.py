"""The models by name: ``create_model('resnet50_ibn_a')``. A variant is an entry, never a class."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from .resnet import ARCHITECTURES, ResNet

_ENTRIES: dict[str, Callable[..., nn.Module]] = {}
for _depth in ARCHITECTURES:
    _ENTRIES[f"resnet{_depth}"] = partial(ResNet, _depth)
    _ENTRIES[f"resnet{_depth}_ibn_a"] = partial(ResNet, _depth, ibn="a")
    _ENTRIES[f"resnet{_depth}_ibn_b"] = partial(ResNet, _depth, ibn="b")


def list_models(pattern: str = "*") -> list[str]:
    """Names of the zoo that match a shell pattern, e.g. ``list_models('*ibn_a')``."""
    return [name for name in _ENTRIES if fnmatch(name, pattern)]


def create_model(
    name: str,
    *,
    num_classes: int = 1000,
    weights: str | Path | None = None,
    **overrides: Any,
) -> nn.Module:
    """Build a model of the zoo.

    Args:
        name: one of ``list_models()``.
        num_classes: outputs of the classifier; 0 for a backbone that returns the tuple of feature
            maps at ``out_indices``.
        weights: None, a checkpoint file, or 'official' for the published file of this model
            (downloaded once, its sha256 checked).
        overrides: arguments of the model's class, e.g. ``last_stride=1``.

    Raises:
        ValueError: an unknown name; the nearest ones are listed.
        CheckpointError: weights that do not fit.
    """
    if name not in _ENTRIES:
        near = difflib.get_close_matches(name, _ENTRIES, n=5) or list_models()
        raise ValueError(
            f"unknown model {name!r}; did you mean one of {near}? backbones.list_models() has all"
        )
    model = _ENTRIES[name](num_classes=num_classes, **overrides)
    if weights is not None:
        from .weights import load_weights, official_weights

        load_weights(model, official_weights(name) if weights == "official" else weights)
    return model
