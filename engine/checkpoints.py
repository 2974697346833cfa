"""Which checkpoint of a run is the newest, what to call it, and which part a model needs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn


def latest_checkpoint(folder: str | Path) -> Path | None:
    """The newest checkpoint that a run wrote in ``folder``, or None."""
    found = [p for p in Path(folder).glob("*.pth") if not p.name.startswith(("best_", "."))]
    return max(found, key=lambda p: p.stat().st_mtime_ns, default=None)


def row_names(checkpoints: Sequence[str | Path]) -> list[str]:
    """Short and different names for tables: run folder and file."""
    paths = [Path(path) for path in checkpoints]
    names = [f"{path.resolve().parent.name}/{path.stem}" for path in paths]
    if len(set(names)) == len(names):
        return names
    return [str(path.with_suffix("")) for path in paths]


def without_training_only(model: nn.Module, checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The weights of a checkpoint without the parts that this model was built without.

    A model names the prefixes of what only training needs, e.g. a classifier over training
    identities, in ``training_only``; evaluation builds it without them.
    """
    weights: dict[str, Any] = checkpoint.get("state_dict", checkpoint)
    own = model.state_dict().keys()
    absent = tuple(
        prefix
        for prefix in getattr(model, "training_only", ())
        if not any(key.startswith(prefix) for key in own)
    )
    kept = OrderedDict(
        (key, value) for key, value in weights.items() if not (absent and key.startswith(absent))
    )
    vars(kept).update(_metadata=getattr(weights, "_metadata", {}))  # torch's notes on each layer
    return kept
