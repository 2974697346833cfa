"""ACDC, adverse conditions: Sakaridis, Dai, Van Gool, ICCV 2021,
https://arxiv.org/abs/2104.13395.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from seg.registry import DATASETS

from .base import inner_folder, keyed
from .labelled_tree import LabelledTree

CONDITIONS = ("fog", "night", "rain", "snow")


@DATASETS.register_module()
class ACDC(LabelledTree):
    """``rgb_anon/<condition>/<split>/<sequence>/*_rgb_anon.png`` and ``gt/.../*_gt_labelIds.png``.

    The folders ``rgb_anon_trainvaltest`` and ``gt_trainval`` of the archives may be in between.
    1,600 train and 406 val images over four conditions; test labels are withheld.

    Args:
        condition: fog, night, rain or snow; None: all four.
        labels: ``"labelIds"``, ``"labelTrainIds"``, or ``"auto"``: labelIds where there are any.
        **options: see :class:`SegmentationDataset`.
    """

    NAME = "acdc"
    EXPECTED = (
        "ACDC's tree rgb_anon/<condition>/<split>/<sequence>/*_rgb_anon.png and "
        "gt/<condition>/<split>/<sequence>/*_gt_labelIds.png"
    )

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        *,
        condition: str | None = None,
        **options: Any,
    ) -> None:
        if condition is not None and condition not in CONDITIONS:
            raise ValueError(
                f"ACDC's conditions are {', '.join(CONDITIONS)}, or None for all; got {condition!r}"
            )
        self.condition = condition
        super().__init__(root, split, **options)

    @classmethod
    def matches(cls, root: Path) -> bool:
        return inner_folder(root, "rgb_anon") is not None and inner_folder(root, "gt") is not None

    def find(self) -> tuple[dict[str, str], dict[str, str]]:
        conditions = CONDITIONS if self.condition is None else (self.condition,)
        withins = [f"{condition}/{split}" for condition in conditions for split in self.splits]
        images: dict[str, str] = {}
        for within in withins:
            if (folder := inner_folder(self.root, "rgb_anon", *within.split("/"))) is not None:
                images |= keyed(folder.parent.parent, "_rgb_anon.png", within=within)
        kind, labels = self.find_labels("gt", withins, "_gt_{}.png")
        self.protocol = f"ACDC {self.split}: the official folders, {' + '.join(conditions)}, {kind}"
        return images, labels
