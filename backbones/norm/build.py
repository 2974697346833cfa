"""``build_norm``: a norm's name or dict -> the layer.

build_norm("bn", 64)
build_norm(dict(type="IBN", ratio=0.4, order="bn_in"), 96)
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import nn

from .base import check_num_features
from .batch_instance import BIN
from .ibn import IBN
from .instance_meta import ILM
from .plain import BN, GN, IN, LN
from .switchable import SN

NORMS: dict[str, Callable[..., nn.Module]] = {
    "bn": BN,
    "in": IN,
    "ln": LN,
    "gn": GN,
    "ibn": IBN,
    "bin": BIN,
    "sn": SN,
    "ilm": ILM,
    "syncbn": partial(BN, sync=True),
    "syncibn": partial(IBN, sync=True),
    "syncbin": partial(BIN, sync=True),
    "syncsn": partial(SN, sync=True),
}


def build_norm(spec: str | Mapping[str, Any], num_features: int) -> nn.Module:
    """Build a norm layer for ``num_features`` channels.

    Args:
        spec: a name of ``NORMS`` (any case) or a dict with that name under 'type' and the layer's
            arguments beside it.
        num_features: C of the (N, C, H, W) maps to normalise.

    Raises:
        ValueError: an unknown name (the valid ones are listed), or an argument out of range.
        TypeError: an argument that the layer does not take.
    """
    arguments = {"type": spec} if isinstance(spec, str) else dict(spec)
    name = str(arguments.pop("type", "")).lower().removeprefix("backbones.")
    if name not in NORMS:
        near = difflib.get_close_matches(name, NORMS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"unknown norm {spec!r}; {hint}choose one of {sorted(NORMS)}")
    check_num_features(num_features, name.upper())
    try:
        return NORMS[name](num_features, **arguments)
    except TypeError as error:
        raise TypeError(f"norm {spec!r}: {error}") from error
