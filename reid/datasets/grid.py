"""QMUL GRID (Loy et al., "Multi-camera Activity Correlation Analysis", CVPR 2009): 250 people, one
image each in ``probe/`` and ``gallery/``, and 775 of other people, ``0000_...``, in the gallery.
Names such as ``0001_1_25004_107_32_106_221.jpeg``: person 1, camera 1, of eight.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from imaging.files import list_images
from reid.datasets.half_split import HalfSplitDataset, View
from reid.registry import DATASETS

__all__ = ["GRID"]

_NAME = re.compile(r"(\d+)_(\d+)_")


@DATASETS.register_module()
class GRID(HalfSplitDataset):
    """QMUL GRID; see :class:`HalfSplitDataset`. Its 775 distractors are one identity, 0."""

    name = "grid"
    title = "GRID"
    needed = ("probe", "gallery")
    official = (250, 125, 900)
    how = "queries of the folder probe, gallery of the folder gallery with its distractors"

    @classmethod
    def views(cls, folder: Path) -> Iterator[View]:
        for path in list_images(folder / "probe"):
            yield View(path, *_numbers(path), "query")
        for path in list_images(folder / "gallery"):
            yield View(path, *_numbers(path), "gallery")


def _numbers(path: str) -> tuple[int, int]:
    found = _NAME.match(os.path.basename(path))  # noqa: PTH119 - a string
    if not found:
        raise ValueError(
            f"{path!r} is not named as in GRID, <person>_<camera>_..., e.g. "
            "0001_1_25004_107_32_106_221.jpeg"
        )
    return int(found[1]), int(found[2])
