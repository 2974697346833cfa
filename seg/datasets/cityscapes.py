"""Cityscapes and Foggy Cityscapes.

Cityscapes: Cordts et al., CVPR 2016, https://arxiv.org/abs/1604.01685. Foggy Cityscapes: Sakaridis,
Dai, Van Gool, IJCV 2018, https://arxiv.org/abs/1708.07819.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar

from seg.registry import DATASETS

from .base import inner_folder, keyed
from .labelled_tree import LabelledTree, has_file


@DATASETS.register_module()
class Cityscapes(LabelledTree):
    """``leftImg8bit/<split>/<city>/*_leftImg8bit.png``, ``gtFine/.../*_gtFine_labelIds.png``.

    The ``*_trainvaltest`` folders of the archives may be in between. Labels of the official test
    set are withheld, so the splits are train (2,975), val (500) and all, which is both.

    Args:
        labels: ``"labelIds"``, ``"labelTrainIds"``, or ``"auto"``: labelIds where there are any.
        **options: see :class:`SegmentationDataset`.
    """

    NAME = "cityscapes"
    SPLITS = ("train", "val")
    EXPECTED = (
        "Cityscapes' tree leftImg8bit/<split>/<city>/*_leftImg8bit.png and "
        "gtFine/<split>/<city>/*_gtFine_labelIds.png"
    )

    @classmethod
    def matches(cls, root: Path) -> bool:
        images, gt = inner_folder(root, "leftImg8bit"), inner_folder(root, "gtFine")
        return (
            images is not None
            and gt is not None
            and has_file(images, "_leftImg8bit.png")
            and any(has_file(gt, f"_gtFine_{kind}.png") for kind in cls.KINDS)
        )

    def find(self) -> tuple[dict[str, str], dict[str, str]]:
        kind, labels = self.find_labels("gtFine", self.splits, "_gtFine_{}.png")
        self.protocol = f"Cityscapes {self.split}: the official folders, {kind}"
        return self._images("leftImg8bit", None, "_leftImg8bit.png"), labels

    def _images(self, name: str, wrapper: str | None, suffix: str) -> dict[str, str]:
        images: dict[str, str] = {}
        for split in self.splits:
            if (folder := inner_folder(self.root, name, split, wrapper=wrapper)) is not None:
                images |= keyed(folder.parent, suffix, within=split)
        return images


@DATASETS.register_module()
class FoggyCityscapes(Cityscapes):
    """``leftImg8bit_foggy/<split>/<city>/*_leftImg8bit_foggy_beta_0.02.png`` and ``gtFine``.

    The variant ``leftImg8bit_foggyDBF`` is read where the plain one is not there. The labels are
    Cityscapes'; where ``gtFine`` lies elsewhere, link it into the root.

    Args:
        beta: attenuation of the fog, 0.005, 0.01 or 0.02 (the thickest, which papers use).
        **options: see :class:`Cityscapes`.
    """

    NAME = "foggy_cityscapes"
    EXPECTED = (
        "Foggy Cityscapes' tree leftImg8bit_foggy/<split>/<city>/"
        "*_leftImg8bit_foggy_beta_<beta>.png and gtFine/<split>/<city>/*_gtFine_labelIds.png"
    )
    FOLDERS: ClassVar[dict[str, str]] = {
        "leftImg8bit_foggy": "leftImg8bit_*_foggy",
        "leftImg8bit_foggyDBF": "leftImg8bit_*_foggyDBF",
    }
    """Folder of the images -> pattern of the archive's folder around it."""

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        *,
        beta: float | str = 0.02,
        **options: Any,
    ) -> None:
        self.beta = float(beta)
        super().__init__(root, split, **options)

    @classmethod
    def matches(cls, root: Path) -> bool:
        return inner_folder(root, "gtFine") is not None and any(
            inner_folder(root, name, wrapper=wrapper) is not None
            for name, wrapper in cls.FOLDERS.items()
        )

    def find(self) -> tuple[dict[str, str], dict[str, str]]:
        _, labels = super().find()
        name, wrapper = next(
            (name, wrapper)
            for name, wrapper in self.FOLDERS.items()
            if inner_folder(self.root, name, wrapper=wrapper) is not None
        )
        images = self._images(name, wrapper, f"_leftImg8bit_foggy_beta_{self.beta:g}.png")
        if not images and (every := self._images(name, wrapper, ".png")):
            betas = sorted({key.rpartition("_beta_")[2] for key in every})
            raise ValueError(
                f"{self}: no image of beta {self.beta:g} in {name}; there are {', '.join(betas)}"
            )
        self.protocol = f"Foggy {self.protocol}, {name}, beta {self.beta:g}"
        return images, labels
