"""Channels of heads: filled in from the backbone where a config leaves them out, else checked.

So a leaf config can exchange the backbone and say nothing else, and a wrong number is an error
that names the right one. A stock mmseg segmentor needs the numbers in the config.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

# Heads that take several maps say so in their class, not in their config.
_OF_SEVERAL_MAPS = ("UPerHead", "SegformerHead")


def with_channels(
    head: Mapping[str, Any], channels: Sequence[int] | None, name: str = "decode_head"
) -> dict[str, Any]:
    """The config of a head with ``in_channels`` (and ``c1_in_channels``) filled in.

    Args:
        head: config of the head.
        channels: of the maps that the head gets; None where that is not known.
        name: for messages.

    Raises:
        ValueError: ``in_channels`` is left out and cannot be known, or ``in_index`` is no map.
    """
    filled = dict(head)
    kind = str(filled.get("type", "")).rpartition(".")[2]
    several = kind in _OF_SEVERAL_MAPS or filled.get("input_transform") is not None
    missing = filled.get("in_channels") is None
    if missing and channels is None:
        raise ValueError(
            f"{name} ({kind}): give in_channels; they are filled in only for a backbone (or neck) "
            "that states its out_channels, as those of this toolkit do"
        )
    if channels is None:
        return filled
    if several and "in_index" not in filled:
        filled["in_index"] = list(range(len(channels)))
    if missing:
        index = filled.get("in_index", -1)
        indices = [index] if isinstance(index, int) else list(index)
        _check_indices(indices, channels, f"{name} ({kind})")
        chosen = [int(channels[i]) for i in indices]
        filled["in_channels"] = chosen[0] if isinstance(index, int) else chosen
    if "c1_in_channels" in filled and filled["c1_in_channels"] is None:
        filled["c1_in_channels"] = int(channels[0])
    return filled


def check_channels(
    head: nn.Module, channels: Sequence[int] | None, name: str = "decode_head"
) -> None:
    """Raises ValueError if a head does not fit the maps that it gets, with the right numbers."""
    index, given = getattr(head, "in_index", None), getattr(head, "in_channels", None)
    if channels is None or index is None or given is None:
        return
    label = f"{name} ({type(head).__name__})"
    indices = [index] if isinstance(index, int) else list(index)
    _check_indices(indices, channels, label)
    found = [int(channels[i]) for i in indices]
    if getattr(head, "input_transform", None) == "resize_concat":
        fits, right = given == sum(found), f"in_channels={found}"
    elif isinstance(index, int):
        fits, right = given == found[0], f"in_channels={found[0]}"
    else:
        fits, right = list(given) == found, f"in_channels={found}"
    if not fits:
        raise ValueError(
            f"{label} takes map {index} with in_channels={given}, but the backbone's maps have "
            f"{tuple(channels)} channels: write {right}, or leave in_channels out"
        )
    low = getattr(head, "c1_bottleneck", None)  # DeepLabV3+'s low-level features: map 0
    low_channels = getattr(getattr(low, "conv", None), "in_channels", channels[0])
    if low_channels != channels[0]:
        raise ValueError(
            f"{label} takes map 0 with c1_in_channels={low_channels}, but it has {channels[0]} "
            f"channels: write c1_in_channels={channels[0]}"
        )


def _check_indices(indices: Sequence[int], channels: Sequence[int], label: str) -> None:
    wrong = [i for i in indices if not -len(channels) <= i < len(channels)]
    if wrong:
        raise ValueError(
            f"{label}: in_index {wrong} names no map, the backbone returns {len(channels)} "
            f"({tuple(channels)} channels); change in_index, or the backbone's out_indices"
        )
