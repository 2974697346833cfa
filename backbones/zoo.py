"""The models by name: ``create_model('resnet50_ibn_a')``. A variant is an entry, never a class.

=========================  =====================================================================
resnet{d}{variant}         ResNet; plain, IBN-a, IBN-b, BIN, SN (v1, and v2 with pre-activation),
                           IN, LN, GN, and ILM on three bases
resnext{d}, se_resnet{d}   32x4d, and squeeze-and-excite; plain or IBN-a
densenet{d}                plain or IBN-a
resnet{d}_3x3_{norm}       ResNet of full width with a 3x3 stem, for small images: BN and ILM
cifar_resnet{d}_{norm}     the thin net of depth 6n + 2: BN, IN, BIN; bottlenecks from depth 44 on,
                           unless ``_basic``
=========================  =====================================================================
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from .cifar_resnet import CifarResNet
from .densenet import ARCHITECTURES as DENSENET_DEPTHS
from .densenet import DenseNet
from .resnet import ARCHITECTURES as RESNET_DEPTHS
from .resnet import ResNet

# Suffix -> what it adds to a plain ResNet. SN's authors start the last weight of each block at 0
# and drop half of the pooled features in their networks v1, and do neither in v2.
_RESNET_VARIANTS: dict[str, dict[str, Any]] = {
    "": {},
    "_ibn_a": {"ibn": "a"},
    "_ibn_b": {"ibn": "b"},
    "_bin": {"norm": "bin"},
    "_sn": {"norm": "sn", "last_gamma": True, "dropout": 0.5},
    "_snv2": {"norm": "sn", "preact": True},
    "_in": {"norm": "in"},
    "_ln": {"norm": "ln"},
    "_gn": {"norm": "gn"},
    "_ilm_in": {"norm": {"type": "ILM", "base": "in"}},
    "_ilm_ln": {"norm": {"type": "ILM", "base": "ln"}},
    "_ilm_gn": {"norm": {"type": "ILM", "base": "gn"}},
}
_SMALL_IMAGE_NORMS = ("bn", "ilm_in", "ilm_ln", "ilm_gn")
_BOTTLENECK_DEPTHS = (50, 101, 152)
_CIFAR_DEPTHS = (8, 14, 20, 32, 44, 50, 56, 110)


def _entries() -> Iterator[tuple[str, Callable[..., nn.Module]]]:
    for depth in RESNET_DEPTHS:
        for suffix, arguments in _RESNET_VARIANTS.items():
            yield f"resnet{depth}{suffix}", partial(ResNet, depth, **arguments)
    for depth in _BOTTLENECK_DEPTHS:
        for suffix in ("", "_ibn_a"):
            resnet = partial(ResNet, depth, **_RESNET_VARIANTS[suffix])
            yield f"resnext{depth}{suffix}", partial(resnet, groups=32, base_width=4)
            yield f"se_resnet{depth}{suffix}", partial(resnet, se=True)
    for depth in DENSENET_DEPTHS:
        yield f"densenet{depth}", partial(DenseNet, depth)
        yield f"densenet{depth}_ibn_a", partial(DenseNet, depth, ibn="a")
    for depth in RESNET_DEPTHS:
        for norm in _SMALL_IMAGE_NORMS:
            arguments = _RESNET_VARIANTS.get(f"_{norm}", {})
            yield f"resnet{depth}_3x3_{norm}", partial(ResNet, depth, stem="3x3", **arguments)
    for depth in _CIFAR_DEPTHS:
        for norm in ("bn", "in", "bin"):
            name, thin = f"cifar_resnet{depth}_{norm}", partial(CifarResNet, depth, norm=norm)
            yield name, thin
            yield f"{name}_basic", partial(thin, block="basic")


_ENTRIES = dict(_entries())


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
            maps at ``out_indices``. 1000 for the networks of small images, too, unless told.
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
