"""From an image to a sample, and from samples to a batch."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch.utils.data import default_collate

from engine.wording import some

Transform: TypeAlias = Callable[[np.ndarray, int | None], torch.Tensor]
"""``(image: (H, W, 3) uint8 RGB, seed) -> (3, H', W') uint8 tensor``."""


def as_transform(transforms: Sequence[Mapping[str, Any]] | Transform | None) -> Transform:
    """What a data set is given as ``transforms``, as a function.

    Args:
        transforms: a list of config dicts for ``imaging.transforms.build_transforms``, a function,
            or None: the image as it is.
    """
    if transforms is None:
        return _to_tensor
    if callable(transforms):
        return transforms
    from .transforms import build_transforms  # albumentations is needed from here on only

    return build_transforms(list(transforms))


def collate_samples(samples: Sequence[Mapping[str, Any]], numbers: Sequence[str]) -> dict[str, Any]:
    """B samples, each with ``inputs`` (3, H, W) uint8, ``path`` and the ``numbers`` -> one batch.

    Returns:
        dict: inputs (B, 3, H, W) uint8, in the memory format (channels first or last) of the
        samples; each of ``numbers`` (B,) int64; path, B strings.

    Raises:
        ValueError: no samples, or images of different sizes.
    """
    if not samples:
        raise ValueError("cannot collate an empty batch")
    images = [sample["inputs"] for sample in samples]
    shapes = sorted({tuple(image.shape) for image in images})
    if len(shapes) > 1:
        raise ValueError(
            f"images of different sizes cannot form a batch: (C, H, W) = {some(map(str, shapes))}; "
            "give the data set transforms that begin with a resize or a crop of a fixed size"
        )
    last = [image.permute(1, 2, 0) for image in images]
    if all(image.is_contiguous() for image in last):
        # as decoded, channels last: stacked like this it is a copy, not a transposition
        batch: dict[str, Any] = {"inputs": default_collate(last).permute(0, 3, 1, 2)}
    else:
        batch = {"inputs": default_collate(images)}
    for key in numbers:
        batch[key] = torch.tensor([sample[key] for sample in samples], dtype=torch.int64)
    batch["path"] = [sample["path"] for sample in samples]
    return batch


def file_size(path: str) -> int:
    """In bytes; -1 for a file that is not there."""
    try:
        return os.stat(path).st_size  # noqa: PTH116 - called for every image
    except OSError:
        return -1


def _to_tensor(image: np.ndarray, seed: int | None = None) -> torch.Tensor:
    """(H, W, 3) array -> (3, H, W) tensor, nothing else."""
    owned = image if image.flags.owndata else image.copy()  # never a view of all images
    return torch.from_numpy(owned).permute(2, 0, 1)
