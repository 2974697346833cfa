from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("mmseg")

from seg.models.head_channels import check_channels, with_channels

CHANNELS = (64, 128, 256, 512)


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ({"type": "FCNHead"}, {"in_channels": 512}),
        ({"type": "FCNHead", "in_index": 2}, {"in_channels": 256}),
        ({"type": "FCNHead", "in_channels": 7}, {"in_channels": 7}),
        ({"type": "UPerHead"}, {"in_channels": list(CHANNELS), "in_index": [0, 1, 2, 3]}),
        ({"type": "mmseg.SegformerHead", "in_index": [1, -1]}, {"in_channels": [128, 512]}),
        (
            {"type": "FCNHead", "input_transform": "resize_concat", "in_index": (0, 2)},
            {"in_channels": [64, 256]},
        ),
        (
            {"type": "DepthwiseSeparableASPPHead", "c1_in_channels": None},
            {"in_channels": 512, "c1_in_channels": 64},
        ),
    ],
)
def test_filled_in(head: dict[str, Any], expected: dict[str, Any]) -> None:
    before = dict(head)
    assert with_channels(head, CHANNELS) == head | expected
    assert head == before


def test_unknown_channels_must_be_given() -> None:
    given = {"type": "FCNHead", "in_channels": 9}
    assert with_channels(given, None) == given
    with pytest.raises(ValueError, match="give in_channels"):
        with_channels({"type": "FCNHead"}, None)


@pytest.mark.parametrize("index", [4, -5, [0, 4]])
def test_maps_that_do_not_exist(index: Any) -> None:
    with pytest.raises(ValueError, match="returns 4"):
        with_channels({"type": "FCNHead", "in_index": index}, CHANNELS, "auxiliary_head")


@pytest.mark.parametrize(
    ("head", "right"),
    [
        ({"in_index": 3, "in_channels": 2048}, "in_channels=512"),
        ({"in_index": [0, 1], "in_channels": [64, 64]}, r"in_channels=\[64, 128\]"),
        (
            {"in_index": [0, 1], "in_channels": 99, "input_transform": "resize_concat"},
            r"in_channels=\[64, 128\]",
        ),
        (
            {
                "in_index": -1,
                "in_channels": 512,
                "c1_bottleneck": SimpleNamespace(conv=SimpleNamespace(in_channels=256)),
            },
            "c1_in_channels=64",
        ),
    ],
)
def test_wrong_numbers_are_named_with_the_right_ones(head: dict[str, Any], right: str) -> None:
    with pytest.raises(ValueError, match=right):
        check_channels(SimpleNamespace(**head), CHANNELS)


def test_right_numbers_pass() -> None:
    check_channels(SimpleNamespace(in_index=-1, in_channels=512), CHANNELS)
    check_channels(SimpleNamespace(in_index=[0, 3], in_channels=(64, 512)), CHANNELS)
    check_channels(SimpleNamespace(in_index=-1, in_channels=99), None)
    check_channels(SimpleNamespace(), CHANNELS)
