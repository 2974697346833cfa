"""Market-1501 (Zheng et al., "Scalable Person Re-identification: A Benchmark", ICCV 2015)."""

import os

from reid.datasets.base import CameraOption, ReIDDataset, Splits
from reid.datasets.three_folders import parse_three_folders
from reid.registry import DATASETS

__all__ = ["OFFICIAL_COUNTS", "Market1501", "parse_market1501"]

OFFICIAL_COUNTS = (12_936, 3_368, 15_913)
"""Images of train, query and gallery, junk dropped."""


@DATASETS.register_module()
class Market1501(ReIDDataset):
    """Market-1501, or data of one's own in its layout; see :class:`ReIDDataset`."""

    def parse(self) -> Splits:
        return parse_market1501(self.root, camera=self.camera)


def parse_market1501(root: str | os.PathLike[str], *, camera: CameraOption = "auto") -> Splits:
    """The lists of a Market-1501 tree; for the errors see :func:`parse_three_folders`."""
    return parse_three_folders(
        root,
        name="market1501",
        title="Market-1501",
        example="0002_c1s1_000451_03.jpg",
        official=OFFICIAL_COUNTS,
        camera=camera,
    )
