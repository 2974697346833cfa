"""VeRi-776 (Liu et al., "A Deep Learning-Based Approach to Progressive Vehicle Re-identification
for Urban Surveillance", ECCV 2016).

``image_train``, ``image_query``, ``image_test``, with names such as ``0001_c001_00016450_0.jpg``:
vehicle 1, camera 1, of twenty. The protocol is image-to-image: every gallery image counts for
itself, and those of the query's own camera do not count. ``name_*.txt`` and the index files of the
image-to-track protocol are not needed.
"""

import os

from reid.datasets.base import CameraOption, ReIDDataset, Splits
from reid.datasets.three_folders import parse_three_folders
from reid.registry import DATASETS

__all__ = ["FOLDERS", "OFFICIAL_COUNTS", "VeRi776", "parse_veri776"]

FOLDERS = {"train": "image_train", "query": "image_query", "gallery": "image_test"}
OFFICIAL_COUNTS = (37_778, 1_678, 11_579)
"""Images of train, query and gallery."""


@DATASETS.register_module()
class VeRi776(ReIDDataset):
    """VeRi-776; see :class:`ReIDDataset`."""

    def parse(self) -> Splits:
        return parse_veri776(self.root, camera=self.camera)


def parse_veri776(root: str | os.PathLike[str], *, camera: CameraOption = "auto") -> Splits:
    """The lists of a VeRi-776 tree; for the errors see :func:`parse_three_folders`."""
    return parse_three_folders(
        root,
        name="veri776",
        title="VeRi-776",
        example="0001_c001_00016450_0.jpg",
        official=OFFICIAL_COUNTS,
        folders=FOLDERS,
        how="image-to-image",
        camera=camera,
    )
