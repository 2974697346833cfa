"""Images beside their labels in colour, for eyes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from .camera import Array
from .labels import PALETTE

_Path = str | os.PathLike[str]


def contact_sheet(
    source: _Path | Iterable[tuple[_Path, _Path]],
    *,
    images: int = 12,
    columns: int = 2,
    width: int = 512,
    gap: int = 4,
) -> Array:
    """A picture of a data set: every cell is an image and, to its right, its label map in colour.

    Args:
        source: the root of a tree in GTA5's or Cityscapes' layout, or (image, label) paths. Label
            maps hold Cityscapes' label ids, as grey values or palette indices.
        images: how many at most; of a tree they are spread over all of it.
        columns: cells side by side.
        width: of one image in pixels; images of another width are resized.
        gap: pixels between cells.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ValueError: a bad argument, or a label map in colour.
        FileNotFoundError: no image with a label map.
    """
    if images < 1 or columns < 1 or width < 8 or gap < 0:
        raise ValueError(
            "images and columns must be at least 1, width at least 8 and gap at least 0, got "
            f"{images}, {columns}, {width} and {gap}"
        )
    if isinstance(source, (str, os.PathLike)):
        pairs = _pairs(Path(source).expanduser())
        if len(pairs) > images:
            pairs = [pairs[k * len(pairs) // images] for k in range(images)]
    else:
        pairs = [(Path(image), Path(label)) for image, label in source][:images]
    if not pairs:
        raise FileNotFoundError(f"no image with a label map in {source}")
    cells = [_cell(image, label, width) for image, label in pairs]
    columns = min(columns, len(cells))
    rows = -(-len(cells) // columns)
    high, wide = max(cell.shape[0] for cell in cells), cells[0].shape[1]
    sheet = np.full((rows * (high + gap) + gap, columns * (wide + gap) + gap, 3), 224, np.uint8)
    for k, cell in enumerate(cells):
        top, left = (
            v * (s + gap) + gap for v, s in zip(divmod(k, columns), (high, wide), strict=True)
        )
        sheet[top : top + cell.shape[0], left : left + wide] = cell
    return sheet


def _pairs(root: Path) -> list[tuple[Path, Path]]:
    """Images with labels under a root, in the order of their paths."""
    found = [
        (path, root / "labels" / path.name) for path in sorted((root / "images").glob("*.png"))
    ]
    for path in sorted((root / "leftImg8bit").glob("*/*/*_leftImg8bit.png")):
        name = path.name.replace("_leftImg8bit.png", "_gtFine_labelIds.png")
        found.append((path, root / "gtFine" / path.relative_to(root / "leftImg8bit").parent / name))
    return [(image, label) for image, label in found if label.is_file()]


def _cell(image_path: Path, label_path: Path, width: int) -> Array:
    image = np.asarray(Image.open(image_path).convert("RGB"))
    labels = np.asarray(Image.open(label_path))
    if labels.ndim != 2 or labels.dtype != np.uint8:
        raise ValueError(
            f"{label_path} has no label ids: expected 8-bit grey values or palette indices, got "
            f"{labels.dtype} of shape {labels.shape}"
        )
    colours = np.zeros((256, 3), np.uint8)
    colours[: len(PALETTE)] = PALETTE
    height = max(round(image.shape[0] * width / image.shape[1]), 1)
    if image.shape[:2] != (height, width):
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    if labels.shape != (height, width):
        labels = cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST)
    return np.hstack((image, colours[labels]))
