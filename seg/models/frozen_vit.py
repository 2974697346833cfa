"""A vision transformer of timm as a backbone, frozen: DINOv2, DINOv3 and others, weights by file.

Papers: Dosovitskiy et al., ICLR 2021, https://arxiv.org/abs/2010.11929; Oquab et al., "DINOv2",
https://arxiv.org/abs/2304.07193; Simeoni et al., "DINOv3", https://arxiv.org/abs/2508.10104. That
frozen features generalise over domains: Wei et al., "Rein", CVPR 2024,
https://arxiv.org/abs/2312.04265 (whose adapters this is not).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor
from torch.nn import functional as F

from backbones.checkpoint import find_state_dict, read_checkpoint
from backbones.weights import load_weights

from ..registry import MODELS


@MODELS.register_module()
class FrozenViT(BaseModule):
    """A timm ViT whose patch tokens are returned as maps.

    Args:
        name: of the model in timm, e.g. 'vit_small_patch14_dinov2', 'vit_base_patch16_dinov3'.
        weights: a checkpoint file (never unpickled): timm's, or the authors' for the families that
            timm knows how to read; None leaves random weights.
        out_indices: blocks whose tokens are returned (0 is the first; negative from the end).
        strides: of the returned maps against the image, one each: ``(4, 8, 16, 32)`` for a
            pyramid; None for the patch size.
        frozen: no gradient, always in eval mode.
        kwargs: for ``timm.create_model``.

    Any size of image: it is padded (with 0, the mean colour) at the right and below to a
    multiple of the patch, position embeddings are interpolated, and maps are sampled so that they
    cover exactly the image without its padding.

    Attributes:
        out_channels, reductions: of the returned maps.

    Raises:
        ImportError: timm is missing.
        ValueError: a name that timm does not know, blocks that do not exist, or weights that do
            not fit (with a report of what is missing and unexpected; nothing is loaded then).

    Shape: (N, 3, H, W) -> tuple of (N, D, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(
        self,
        name: str = "vit_small_patch14_dinov2",
        *,
        weights: str | Path | None = None,
        out_indices: Sequence[int] = (2, 5, 8, 11),
        strides: Sequence[int] | None = None,
        frozen: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        self.vit = _create(name, **kwargs)
        depth, self.patch = len(self.vit.blocks), int(self.vit.patch_embed.patch_size[0])
        if not out_indices or any(not -depth <= i < depth for i in out_indices):
            raise ValueError(
                f"FrozenViT: {name} has blocks 0 to {depth - 1}, got out_indices={out_indices}"
            )
        strides = [self.patch] * len(out_indices) if strides is None else list(strides)
        if len(strides) != len(out_indices) or min(strides) < 1:
            raise ValueError(
                f"FrozenViT: one stride (1 or more) for each of {len(out_indices)} maps, got "
                f"{strides}"
            )
        self.out_indices = tuple(i % depth for i in out_indices)
        if list(self.out_indices) != sorted(set(self.out_indices)):
            raise ValueError(f"FrozenViT: out_indices must increase, got {tuple(out_indices)}")
        self.reductions = tuple(int(stride) for stride in strides)
        self.out_channels = (int(self.vit.num_features),) * len(self.out_indices)
        self.frozen = frozen
        if weights is not None:
            _load(self.vit, weights)
        if frozen:
            self.vit.requires_grad_(False)
            self.vit.eval()

    def init_weights(self) -> None:
        """Nothing: mmengine would call timm's own initialisation, over weights that were loaded."""
        self._is_init = True

    def train(self, mode: bool = True) -> FrozenViT:
        super().train(mode)
        if self.frozen:
            self.vit.eval()
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        height, width = x.shape[2:]
        padded = F.pad(x, (0, -width % self.patch, 0, -height % self.patch))
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            maps = self.vit.forward_intermediates(
                padded,
                indices=list(self.out_indices),
                norm=True,
                output_fmt="NCHW",
                intermediates_only=True,
            )
            return tuple(
                resampled(tokens, self.patch, stride, (height, width))
                for tokens, stride in zip(maps, self.reductions, strict=True)
            )


def resampled(tokens: Tensor, patch: int, stride: int, size: tuple[int, int]) -> Tensor:
    """Maps of another stride, of an image that was padded on the right and below.

    Args:
        tokens: (N, D, h, w), one for each patch of the padded image.
        patch: pixels of a token's side.
        stride: pixels between the positions of the result; where that is more than the patch,
            tokens are averaged first.
        size: (height, width) of the image without padding.

    Returns:
        (N, D, ceil(height / stride), ceil(width / stride)), linear between the tokens' centres.
    """
    out = [math.ceil(length / stride) for length in size]
    if list(tokens.shape[2:]) == out and all(
        length == n * patch for length, n in zip(size, out, strict=True)
    ):
        return tokens
    box = [max(1, min(round(stride / patch), n)) for n in tokens.shape[2:]]
    if max(box) > 1:
        tokens = F.avg_pool2d(tokens, box, stride=1)
    axes = []
    for length, n, k, count in zip(size, out, box, tokens.shape[2:], strict=True):
        pixel = (torch.arange(n, device=tokens.device, dtype=torch.float32) + 0.5) * (length / n)
        place = pixel / patch - k / 2  # in (averaged) tokens, whose centres lie at k / 2 + index
        axes.append((2 * place + 1) / count - 1)  # grid_sample: edges of the map are -1 and 1
    grid = torch.stack(torch.meshgrid(axes[1], axes[0], indexing="xy"), -1)  # (n_y, n_x, [x, y])
    # in float32 whatever the tokens' type: bfloat16 knows positions to a few pixels only
    sampled = F.grid_sample(
        tokens.float(),
        grid.expand(len(tokens), -1, -1, -1),
        padding_mode="border",
        align_corners=False,
    )
    return sampled.to(tokens.dtype)


def _create(name: str, **kwargs: Any) -> Any:
    try:
        import timm
    except ImportError:
        raise ImportError("FrozenViT needs timm: pip install timm") from None
    if not timm.is_model(name):
        near = timm.list_models(f"*{name.split('_')[0]}*dino*")[:6]
        raise ValueError(f"FrozenViT: timm knows no model {name!r}; for example {near}")
    arguments = {"pretrained": False, "num_classes": 0, "dynamic_img_size": True} | kwargs
    vit = timm.create_model(name, **arguments)
    if not hasattr(vit, "forward_intermediates") or not hasattr(vit, "blocks"):
        raise ValueError(f"FrozenViT: {name!r} is no plain vision transformer")
    return vit


def _load(vit: Any, path: str | Path) -> None:
    """Load weights whole, translated by timm's own rules for this family."""
    _, state = find_state_dict(read_checkpoint(path), str(path))
    translate = getattr(sys.modules[type(vit).__module__], "checkpoint_filter_fn", None)
    if translate is not None:
        state = translate(dict(state), vit)
    # classifiers, and what pretraining alone needs
    own = vit.state_dict().keys()
    state = {
        key: value
        for key, value in state.items()
        if key in own or not key.startswith(("head.", "head_dist.", "mask_token"))
    }
    load_weights(vit, state)
