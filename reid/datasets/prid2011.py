"""PRID 2011 (Hirzer et al., "Person Re-identification by Descriptive and Discriminative
Classification", SCIA 2011), single-shot: ``single_shot/cam_a/person_0001.png`` and ``cam_b``. 385
people in the one and 749 in the other, the first 200 in both.

Only these 200 are the same in both: from 201 on the two cameras number different people alike.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from imaging.files import list_images
from reid.datasets.half_split import HalfSplitDataset, View
from reid.registry import DATASETS

__all__ = ["PRID2011"]

_IN_BOTH = 200
_NAME = re.compile(r"person_(\d+)\.")


@DATASETS.register_module()
class PRID2011(HalfSplitDataset):
    """PRID 2011, single-shot; see :class:`HalfSplitDataset`."""

    name = "prid2011"
    title = "PRID 2011"
    needed = ("single_shot/cam_a", "single_shot/cam_b")
    official = (200, 100, 649)

    @classmethod
    def views(cls, folder: Path) -> Iterator[View]:
        for path in list_images(folder / "single_shot/cam_a"):
            person = _person(path)
            # a number that camera b does not have
            yield View(path, person if person <= _IN_BOTH else -person, 1, "query")
        for path in list_images(folder / "single_shot/cam_b"):
            yield View(path, _person(path), 2, "gallery")


def _person(path: str) -> int:
    found = _NAME.match(os.path.basename(path))  # noqa: PTH119 - a string
    if not found:
        raise ValueError(f"{path!r} is not named as in PRID 2011, e.g. person_0001.png")
    return int(found[1])
