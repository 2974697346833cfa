"""IBN-Net for ``torch.hub``: the networks of the paper, plain PyTorch modules with logits.

    model = torch.hub.load("/path/to/this/repository", "resnet50_ibn_a", source="local")
    model = torch.hub.load(..., "resnet50_ibn_a", source="local", pretrained=True)

Every other network is ``backbones.create_model(name)``.
"""

from __future__ import annotations

from collections.abc import Callable as _Callable
from typing import Any as _Any

from torch import nn as _nn

# torch.hub offers every callable here whose name has no underscore in front.
dependencies = ["torch", "numpy", "mmengine"]


def _entry(name: str) -> _Callable[..., _nn.Module]:
    def build(pretrained: bool = False, **kwargs: _Any) -> _nn.Module:
        from backbones import create_model

        return create_model(name, weights="official" if pretrained else None, **kwargs)

    from backbones.download import OFFICIAL_WEIGHTS

    none = "there are none for this network: a ValueError"
    source = "published by the authors" if name in OFFICIAL_WEIGHTS else none
    build.__name__ = build.__qualname__ = name
    build.__doc__ = f"""{name} of IBN-Net, https://arxiv.org/abs/1807.09441.

    Args:
        pretrained: load the ImageNet weights, downloaded once, their sha256 checked
            ({source}).
        kwargs: of ``backbones.create_model``: num_classes=1000 (0 returns feature maps),
            last_stride, strides, dilations, frozen_stages, ...

    Shape: (N, 3, H, W) -> (N, num_classes).
    """
    return build


_NAMES = (
    *(f"resnet{depth}_ibn_{kind}" for depth in (18, 34, 50, 101, 152) for kind in "ab"),
    *(f"{family}{depth}_ibn_a" for family in ("resnext", "se_resnet") for depth in (50, 101, 152)),
    *(f"densenet{depth}_ibn_a" for depth in (121, 161, 169, 201)),
)
globals().update({name: _entry(name) for name in _NAMES})
