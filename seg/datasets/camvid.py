"""CamVid in its 11 classes: Brostow, Fauqueur, Cipolla, Pattern Recognition Letters 2009.

The split into 367 / 101 / 233 images is SegNet's (Badrinarayanan et al., TPAMI 2017,
https://arxiv.org/abs/1511.00561).
"""

from __future__ import annotations

from pathlib import Path

from seg.registry import DATASETS

from .base import IMAGE_SUFFIXES, SegmentationDataset, keyed


@DATASETS.register_module()
class CamVid(SegmentationDataset):
    """``images/{train,val,test}/*`` and ``labels/{train,val,test}/*.png`` with the ids 0..11.

    0..10 are Sky, Building, Pole, Road, Pavement, Tree, SignSymbol, Fence, Car, Pedestrian and
    Bicyclist; 11 is void. The original colour-coded labels of 32 classes are not read.

    Args:
        space: ``"street7"`` (default, shared with IDD-lite), ``"camvid11"`` or ``"cityscapes19"``.
        **options: see :class:`SegmentationDataset`.
    """

    NAME = "camvid"
    EXPECTED = "CamVid's folders images/{train,val,test} and labels/{train,val,test}"
    default_space = "street7"

    @classmethod
    def matches(cls, root: Path) -> bool:
        return all((root / kind / "train").is_dir() for kind in ("images", "labels"))

    def find(self) -> tuple[dict[str, str], dict[str, str]]:
        self.source = "camvid"
        self.protocol = f"CamVid {self.split}: the folders images/ and labels/"
        images: dict[str, str] = {}
        labels: dict[str, str] = {}
        for split in self.splits:
            images |= keyed(Path(self.root) / "images", IMAGE_SUFFIXES, within=split)
            labels |= keyed(Path(self.root) / "labels", ".png", within=split)
        return images, labels
