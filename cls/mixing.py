"""Mixed batches: MixUp and CutMix, as torchvision has them.

MixUp: Zhang et al., ICLR 2018, https://arxiv.org/abs/1710.09412. CutMix: Yun et al., ICCV 2019,
https://arxiv.org/abs/1905.04899.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Mixing = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
NAMES = ("MixUp", "CutMix")


def build_mixing(config: Sequence[Mapping[str, Any]], num_classes: int) -> Mixing:
    """Configs -> a function ``(images (N, C, H, W), labels (N,)) -> (images, targets)``.

    Targets are (N, K) shares of classes, or the labels as they are where nothing is mixed. One of
    the configs is drawn for each batch, from torch's generator.

    Args:
        config: ``dict(type='MixUp' or 'CutMix', alpha=...)`` each; empty: nothing is mixed.

    Raises:
        ValueError: an unknown type, or alpha not above 0.
    """
    if isinstance(config, (str, Mapping)):
        raise ValueError(f"mixing is a list of dict(type=...), got {config!r}")
    if not config:
        return _as_it_is
    from torchvision.transforms import v2

    mixings = []
    for entry in config:
        arguments = dict(entry)
        name = arguments.pop("type", None)
        if name not in NAMES:
            raise ValueError(f"mixing: unknown type {name!r}; choose of {', '.join(NAMES)}")
        alpha = arguments.pop("alpha", 1.0)
        if arguments or not alpha > 0:
            raise ValueError(
                f"mixing: {name} takes alpha, a number above 0 (1.0 by default), got {dict(entry)}"
            )
        mixings.append(getattr(v2, name)(alpha=float(alpha), num_classes=num_classes))

    def mix(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        chosen = mixings[int(torch.randint(len(mixings), ()))]
        mixed, targets = chosen(images, labels)
        return mixed, targets

    return mix


def _as_it_is(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    return images, labels
