"""``build_norm``: a norm's name or dict -> the layer.

build_norm("bn", 64)
build_norm(dict(type="IBN", ratio=0.4, order="bn_in"), 96)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import nn

from .ibn import IBN


def group_norm(num_features: int, num_groups: int = 32, **kwargs: Any) -> nn.GroupNorm:
    """GroupNorm with torch's argument order turned round, so that it builds like every norm."""
    if num_features % num_groups:
        raise ValueError(
            f"GN: {num_features} channels do not divide into {num_groups} groups; "
            "give num_groups, e.g. dict(type='GN', num_groups=16)"
        )
    return nn.GroupNorm(num_groups, num_features, **kwargs)


# Where a norm needs nothing of ours, torch's layer is the layer.
NORMS: dict[str, Callable[..., nn.Module]] = {
    "bn": nn.BatchNorm2d,
    "in": partial(nn.InstanceNorm2d, affine=True),
    "ln": partial(group_norm, num_groups=1),
    "gn": group_norm,
    "ibn": IBN,
}


def build_norm(spec: str | Mapping[str, Any], num_features: int) -> nn.Module:
    """Build a norm layer for ``num_features`` channels.

    Args:
        spec: a name ('bn', 'in', 'ln', 'gn', 'ibn', any case) or a dict with that name under
            'type' and the layer's arguments beside it.
        num_features: C of the (N, C, H, W) maps to normalise.

    Raises:
        ValueError: an unknown name (the valid ones are listed).
        TypeError: an argument that the layer does not take.
    """
    arguments = {"type": spec} if isinstance(spec, str) else dict(spec)
    name = str(arguments.pop("type", "")).lower().removeprefix("backbones.")
    if name not in NORMS:
        raise ValueError(f"unknown norm {spec!r}; choose one of {sorted(NORMS)}")
    try:
        return NORMS[name](num_features, **arguments)
    except TypeError as error:
        raise TypeError(f"norm {spec!r}: {error}") from error
