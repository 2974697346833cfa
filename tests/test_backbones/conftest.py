"""Golden numbers: parameters made by a rule from their names, so no weights are stored."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from pathlib import Path

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
    if key.endswith("gate"):
        return np.clip(0.5 + 0.3 * r, 0, 1)
    if key.endswith(("mean_weight", "var_weight")):
        return 1 + 0.5 * r
    # a vector as (1, C, 1, 1): weight of SN, weight_bias of ILM
    is_vector = len(shape) < 2 or (len(shape) == 4 and shape[0] == 1 and shape[2:] == (1, 1))
    if key.endswith("weight") and not is_vector:
        return r * np.sqrt(2 / np.prod(shape[1:]), dtype=np.float32)
    return 1 + 0.1 * r if key.endswith(("weight", "weight_bias")) else 0.1 * r


def _source(key: str) -> str:
    """ILM's encoder has three names and one value."""
    return re.sub(r"fc_(weight|bias)\.0\.0\.weight$", "fc_embed.0.weight", key)


@pytest.fixture(scope="session")
def authors_key() -> Callable[[str, str], str]:
    """(our key, authors) -> theirs; only SN and the 3x3-stem networks of ILM differ."""

    def rename(key: str, authors: str) -> str:
        if authors == "sn":
            return re.sub(r"\bbn(\d|_out)\.", r"sn\1.", key)
        if authors == "ilm_3x3":
            return re.sub(r"^fc\.", "linear.", key).replace(".downsample.", ".shortcut.")
        return key

    return rename


@pytest.fixture(scope="session")
def fill_by_rule(authors_key: Callable[[str, str], str]) -> Callable[..., nn.Module]:
    """Set every entry of a module's state by the golden rule.

    ``prefix`` goes before its keys; ``authors`` says whose names the rule is to see.
    """

    def fill(module: nn.Module, prefix: str = "", authors: str = "") -> nn.Module:
        names = {key: _source(prefix + authors_key(key, authors)) for key in module.state_dict()}
        state = {
            key: torch.as_tensor(np.asarray(_value(names[key], tuple(value.shape))))
            for key, value in module.state_dict().items()
        }
        module.load_state_dict(state)
        return module

    return fill


@pytest.fixture(scope="session")
def check_golden_layer(
    fill_by_rule: Callable[..., nn.Module],
) -> Callable[[nn.Module, str], None]:
    """One training step and an evaluation of a norm of 64 channels, as the authors' layer does."""

    def check(layer: nn.Module, name: str) -> None:
        with np.load(GOLDEN / f"layer_{name}.npz", allow_pickle=False) as file:
            golden = dict(file)
        fill_by_rule(layer, "L.")
        x, gy = (
            torch.from_numpy(np.random.default_rng(seed).standard_normal((4, 64, 6, 6))).float()
            for seed in (1, 2)
        )
        y = layer(x.requires_grad_())
        y.backward(gy)
        got = {"y_train": y, "gx": x.grad}
        got |= {f"grad/{key}": p.grad for key, p in layer.named_parameters()}
        got |= {f"buf_after/{key}": b.clone() for key, b in layer.named_buffers()}
        got["y_eval"] = layer.eval()(x)
        assert got.keys() == golden.keys()
        for key, expected in golden.items():
            assert got[key].shape == expected.shape, key
            np.testing.assert_allclose(
                got[key].detach().numpy(), expected, rtol=1e-4, atol=2e-5, err_msg=key
            )

    return check
