"""What a training was, without its seed: runs of one recipe can be averaged."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

# What a training is made of; the rest of a configuration says where files go and what is logged.
_RECIPE = (
    *("model", "train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler"),
    *("precision", "custom_hooks", "auto_scale_lr", "sync_bn", "load_from"),
)
# of no effect on what is trained
_ELSEWHERE = {"root", "num_workers", "persistent_workers", "pin_memory", "prefetch_factor"}
_ELSEWHERE |= {"val_interval", "seed"}


def recipe_digest(config: Mapping[str, Any] | None) -> str:
    """What a training's configuration says without its seed, its folders and its logs: a sha256.

    Empty for None.
    """
    if not config:
        return ""
    told = {key: _essential(config[key]) for key in _RECIPE if config.get(key) is not None}
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()


def shared_name(names: Sequence[str]) -> str:
    """``bin_s0/epoch_30`` and ``bin_s1/epoch_30`` -> ``bin``; empty where they share nothing."""
    folders = [name.partition("/")[0] for name in names]
    shared = folders[0]
    while shared and not all(folder.startswith(shared) for folder in folders):
        shared = shared[:-1]
    return re.sub(r"[_-](seed|s)?\d*$", "", shared)  # of ..._seed0, ..._s0, ...-0


def _essential(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _essential(v) for k, v in value.items() if k not in _ELSEWHERE}
    if isinstance(value, list | tuple):
        return [_essential(item) for item in value]
    return value
