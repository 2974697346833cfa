"""Golden numbers: parameters made by a rule from their names, so no weights are stored."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

GOLDEN = Path(__file__).parent.parent / "golden"


def _value(key: str, shape: tuple[int, ...]) -> np.ndarray:
    r = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape).astype(np.float32)
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if key.endswith("running_var"):
        return 1 + 0.1 * np.abs(r)
    if len(shape) >= 2:
        return r * np.sqrt(2 / np.prod(shape[1:]), dtype=np.float32)
    return 1 + 0.1 * r if key.endswith("weight") else 0.1 * r


@pytest.fixture(scope="session")
def fill_by_rule() -> Callable[..., nn.Module]:
    """Set every entry of a module's state by the golden rule; ``prefix`` goes before its keys."""

    def fill(module: nn.Module, prefix: str = "") -> nn.Module:
        state = {
            key: torch.as_tensor(np.asarray(_value(prefix + key, tuple(value.shape))))
            for key, value in module.state_dict().items()
        }
        module.load_state_dict(state)
        return module

    return fill


@pytest.fixture(scope="session")
def golden_resnets() -> dict[str, Any]:
    """Keys and shapes of the authors' networks, and logits of some."""
    content: dict[str, Any] = json.loads((GOLDEN / "resnet_ibn.json").read_text())
    return content


@pytest.fixture(scope="session")
def golden_ibn_layer() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "layer_ibn.npz", allow_pickle=False) as file:
        return dict(file)
