"""Small batches and segmentors; mmseg's own types stand unprefixed, as in configs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch


@pytest.fixture(autouse=True)
def mmseg_scope() -> Iterator[None]:
    pytest.importorskip("mmseg")
    from mmengine.registry import DefaultScope

    with DefaultScope.overwrite_default_scope("mmseg"):
        yield


@pytest.fixture
def samples() -> Callable[..., list[Any]]:
    """(number, height, width, classes, **metainfo) -> data samples with random labels."""

    def make(n: int, h: int, w: int, classes: int = 5, **meta: Any) -> list[Any]:
        from mmengine.structures import PixelData
        from mmseg.structures import SegDataSample

        meta = {"ori_shape": (h, w), "img_shape": (h, w), "padding_size": [0, 0, 0, 0]} | meta
        labels = [PixelData(data=torch.randint(0, classes, (1, h, w))) for _ in range(n)]
        return [SegDataSample(gt_sem_seg=label, metainfo=dict(meta)) for label in labels]

    return make


@pytest.fixture
def segmentor() -> Callable[..., Any]:
    """A small segmentor: ResNet-18 and a light FCN head; keyword arguments override parts."""

    def make(backbone: dict[str, Any] | None = None, **overrides: Any) -> Any:
        from seg.registry import MODELS

        model = {
            "type": "seg.Segmentor",
            "backbone": {"type": "backbones.ResNet", "depth": 18} | (backbone or {}),
            "decode_head": {
                "type": "FCNHead",
                "in_index": 3,
                "channels": 8,
                "num_convs": 1,
                "concat_input": False,
                "dropout_ratio": 0.0,
                "num_classes": 5,
                "norm_cfg": {"type": "BN"},
            },
        }
        return MODELS.build(model | overrides)

    return make
