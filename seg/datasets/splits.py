"""Lists of a split's images as text files, one name a line."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from engine.atomic import write_bytes

from .base import SegmentationDataset, relative_name

__all__ = ["write_splits"]


def write_splits(
    datasets: Sequence[SegmentationDataset], folder: str | os.PathLike[str]
) -> list[Path]:
    """Write ``<split>.txt`` for each dataset: its images, in order, relative to its root.

    Of GTA5, such a file in the root is what its dataset reads the split from.

    Returns:
        the paths, in the order of the datasets.

    Raises:
        ValueError: two datasets of one split; a name with a line break.
    """
    splits = [dataset.split for dataset in datasets]
    if len(set(splits)) < len(splits):
        raise ValueError(f"expected different splits, got {', '.join(splits)}")
    folder = Path(folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for dataset in datasets:
        names = [relative_name(pair.image, dataset.root) for pair in dataset.pairs]
        if broken := [name for name in names if "\n" in name or "\r" in name]:
            raise ValueError(f"a file name with a line break cannot be listed: {broken[0]!r}")
        path = folder / f"{dataset.split}.txt"
        write_bytes(path, "".join(f"{name}\n" for name in names).encode("utf-8", "surrogateescape"))
        written.append(path)
    return written
