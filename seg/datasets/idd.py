"""The India Driving Dataset and its "lite" edition: Varma et al., WACV 2019,
https://arxiv.org/abs/1811.10200.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from seg.registry import DATASETS

from .base import SegmentationDataset, inner_folder, keyed
from .labelled_tree import LabelledTree, has_file


@DATASETS.register_module()
class IDD(LabelledTree):
    """``leftImg8bit/<split>/<drive>/*_leftImg8bit.{png,jpg}`` and ``gtFine/...``.

    IDD ships polygons; its public code (AutoNUE) draws label files from them: labelcsTrainIds are
    Cityscapes' trainIds, labellevel3Ids IDD's own 26 classes, which fit ``"street7"``, too. At
    level 3 some classes are merged that Cityscapes tells apart (animals are persons, rail tracks
    terrain), so csTrainIds are preferred. Test labels are withheld.

    Args:
        labels: ``"labelcsTrainIds"``, ``"labellevel3Ids"``, or ``"auto"``: the first that is there.
        **options: see :class:`SegmentationDataset`.
    """

    NAME = "idd"
    KINDS: ClassVar[dict[str, str]] = {"labelcsTrainIds": "trainids", "labellevel3Ids": "idd"}
    EXPECTED = (
        "IDD's tree leftImg8bit/<split>/<drive>/*_leftImg8bit.png (or .jpg) and "
        "gtFine/<split>/<drive>/*_gtFine_labelcsTrainIds.png (or _labellevel3Ids.png; drawn from "
        "IDD's polygons by its public code)"
    )

    @classmethod
    def matches(cls, root: Path) -> bool:
        images, gt = inner_folder(root, "leftImg8bit"), inner_folder(root, "gtFine")
        return (
            images is not None
            and gt is not None
            and (
                any(has_file(gt, f"_gtFine_{kind}.png") for kind in cls.KINDS)
                or has_file(images, "_leftImg8bit.jpg")
            )
        )

    def find(self) -> tuple[dict[str, str], dict[str, str]]:
        images: dict[str, str] = {}
        for split in self.splits:
            if (folder := inner_folder(self.root, "leftImg8bit", split)) is not None:
                endings = ("_leftImg8bit.png", "_leftImg8bit.jpg")
                images |= keyed(folder.parent, endings, within=split)
        kind, labels = self.find_labels("gtFine", self.splits, "_gtFine_{}.png")
        self.protocol = f"IDD {self.split}: the official folders, {kind}"
        return images, labels


@DATASETS.register_module()
class IDDLite(SegmentationDataset):
    """``leftImg8bit/<split>/<drive>/*_image.jpg`` and ``gtFine/<split>/<drive>/*_label.png``.

    Seven classes, which are the space ``"street7"``; 255 is void.
    """

    NAME = "idd_lite"
    SPLITS = ("train", "val")
    EXPECTED = (
        "IDD-lite's tree leftImg8bit/<split>/<drive>/*_image.jpg and "
        "gtFine/<split>/<drive>/*_label.png"
    )
    default_space = "street7"

    @classmethod
    def matches(cls, root: Path) -> bool:
        images, gt = inner_folder(root, "leftImg8bit"), inner_folder(root, "gtFine")
        return images is not None and gt is not None and has_file(images, "_image.jpg")

    def find(self) -> tuple[dict[str, str], dict[str, str]]:
        self.source = "idd_lite"
        self.protocol = f"IDD-lite {self.split}: the official folders"
        images: dict[str, str] = {}
        labels: dict[str, str] = {}
        for split in self.splits:
            if (folder := inner_folder(self.root, "leftImg8bit", split)) is not None:
                endings = ("_image.jpg", "_image.png")
                images |= keyed(folder.parent, endings, within=split)
            if (folder := inner_folder(self.root, "gtFine", split)) is not None:
                labels |= keyed(
                    folder.parent, "_label.png", within=split, skip=("_inst_label.png",)
                )
        return images, labels
