"""VIPeR (Gray et al., "Evaluating Appearance Models for Recognition, Reacquisition, and Tracking",
PETS 2007): 632 people, one image each in ``cam_a/000_45.bmp`` and ``cam_b/000_90.bmp``, whose names
begin with the person.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from imaging.files import list_images
from reid.datasets.half_split import HalfSplitDataset, View
from reid.registry import DATASETS

__all__ = ["VIPeR"]


@DATASETS.register_module()
class VIPeR(HalfSplitDataset):
    """VIPeR; see :class:`HalfSplitDataset`."""

    name = "viper"
    title = "VIPeR"
    needed = ("cam_a", "cam_b")
    official = (632, 316, 316)

    @classmethod
    def views(cls, folder: Path) -> Iterator[View]:
        for path in list_images(folder / "cam_a"):
            yield View(path, _person(path), 1, "query")
        for path in list_images(folder / "cam_b"):
            yield View(path, _person(path), 2, "gallery")


def _person(path: str) -> int:
    person = os.path.basename(path).partition("_")[0]  # noqa: PTH119 - a string
    if not person.isdecimal():
        raise ValueError(f"{path!r} is not named as in VIPeR, e.g. 000_45.bmp of person 0")
    return int(person)
