"""Where a re-ID network looks: activation maps over images.

The sum of squares over the channels of the last feature map, one of the attention maps of
Zagoruyko and Komodakis, "Paying More Attention to Attention", ICLR 2017,
https://arxiv.org/abs/1612.03928. It needs no gradient and no class, so it works for identities
that were not trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

_GAP = 6
_PAIRS_A_ROW = 6


@torch.no_grad()
def activation_maps(model: nn.Module, images: Tensor) -> np.ndarray:
    """What of each image the last map of the backbone answers to.

    Args:
        model: with ``data_preprocessor`` and ``backbone``, as ``reid.Embedder``; put into eval
            mode for the while.
        images: (N, 3, H, W) uint8 RGB.

    Returns:
        (N, H, W) float32 in 0..1: each image's least and greatest activation become 0 and 1; all 0
        where they are equal.
    """
    was_training = model.training
    model.eval()
    try:
        data = model.data_preprocessor({"inputs": images})
        last = model.backbone(data["inputs"])[-1]  # (N, C, h, w)
    finally:
        model.train(was_training)
    energy = last.float().square().sum(dim=1, keepdim=True)  # (N, 1, h, w)
    energy = nn.functional.interpolate(
        energy, size=images.shape[-2:], mode="bilinear", align_corners=False
    )[:, 0]
    least, most = (f(energy, dim=(1, 2), keepdim=True) for f in (torch.amin, torch.amax))
    differs = most - least > 1e-5 * most  # more than rounding
    scaled = torch.where(differs, (energy - least) / (most - least).clamp_min(1e-30), 0.0)
    maps: np.ndarray = scaled.cpu().numpy()
    return maps


def overlay_activation(image: np.ndarray, activation: np.ndarray, alpha: float = 0.5) -> np.ndarray:
    """The image under its activation map, from dark violet (low) to yellow (high).

    Args:
        image: (H, W, 3) uint8 RGB. activation: (H, W) in 0..1. alpha: share of the map's colours.

    Raises:
        ValueError: sizes that differ.
    """
    if image.shape[:2] != activation.shape:
        raise ValueError(
            f"expected a map of the image's size {image.shape[:2]}, got {activation.shape}"
        )
    levels = np.round(255 * np.clip(activation, 0, 1)).astype(np.uint8)
    colours = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    blended: np.ndarray = cv2.addWeighted(image, 1 - alpha, colours, alpha, 0)
    return blended


def activation_sheet(model: nn.Module, images: Sequence[Any], *, height: int = 192) -> np.ndarray:
    """Images beside themselves under their activation maps, six pairs a row, (H, W, 3) uint8 RGB.

    Args:
        images: (3, H, W) uint8 RGB tensors of one size, as the test transforms give them.
        height: pixels of each image in the sheet.

    Raises:
        ValueError: no images.
    """
    if not len(images):
        raise ValueError("activation_sheet: expected at least one image, got none")
    batch = torch.stack([torch.as_tensor(image) for image in images])
    maps = activation_maps(model, batch)
    tiles = []
    for image, activation in zip(batch.permute(0, 2, 3, 1).numpy(), maps, strict=True):
        image = np.ascontiguousarray(image)
        pair = np.concatenate([image, overlay_activation(image, activation)], axis=1)
        width = max(2, round(pair.shape[1] * height / pair.shape[0]))
        how = cv2.INTER_AREA if height < pair.shape[0] else cv2.INTER_CUBIC
        tiles.append(cv2.resize(pair, (width, height), interpolation=how))
    columns = min(_PAIRS_A_ROW, len(tiles))
    rows = -(-len(tiles) // columns)
    width = tiles[0].shape[1]
    sheet = np.full(
        (_GAP + rows * (height + _GAP), _GAP + columns * (width + _GAP), 3), 255, np.uint8
    )
    for place, tile in enumerate(tiles):
        top = _GAP + place // columns * (height + _GAP)
        left = _GAP + place % columns * (width + _GAP)
        sheet[top : top + height, left : left + width] = tile
    return sheet


def activation_picture(model: nn.Module, images: Sequence[Any], *, height: int = 192) -> bytes:
    """The sheet of ``activation_sheet`` as a JPEG."""
    sheet = activation_sheet(model, images, height=height)
    bgr = np.ascontiguousarray(sheet[..., ::-1])
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes()
