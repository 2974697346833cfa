"""One folder per class: the layout that most image data has, character sets among it.

``<root>/<split>/<class>/<file>``, or ``<root>/<class>/<file>`` without a split, which is then made
by ``fraction`` and ``seed``. Sub-folders of a class are searched too.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cls.datasets.base import ClassificationDataset, Listing
from cls.datasets.class_tree import (
    ClassFiles,
    check_classes,
    class_files,
    labelled,
    ordered,
    subfolders,
)
from cls.datasets.splitting import first_part
from cls.registry import DATASETS
from engine.wording import some
from imaging.files import existing_folder
from imaging.samples import Transform

__all__ = ["SPLIT_FOLDERS", "ClassFolder", "split_folders"]

SPLIT_FOLDERS: dict[str, tuple[str, ...]] = {
    "train": ("train", "training", "Train", "Training"),
    "val": ("val", "valid", "validation", "Val", "Validation"),
    "test": ("test", "testing", "Test", "Testing"),
}
"""Split -> what its folder may be called."""


@DATASETS.register_module()
class ClassFolder(ClassificationDataset):
    """Images in one folder per class; for the first arguments see :class:`ClassificationDataset`.

    Classes are labelled in the order of their names; names that are all digits by value.

    Args:
        split: ``'train'``, ``'val'`` or ``'test'`` as the folders are; where there are no such
            folders ``'train'`` and ``'val'`` are made, and ``'all'`` is everything.
        fraction: of every class for training, where the folders give no split.
        seed: another choice of that part.
        allow_missing_classes: permit that a split lacks some classes.

    Raises:
        ValueError: splits whose class folders differ, or a class without images.
    """

    SPLITS = ("train", "val", "test", "all")

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        transforms: Sequence[Mapping[str, Any]] | Transform | None = None,
        *,
        fraction: float = 0.9,
        seed: int = 0,
        allow_missing_classes: bool = False,
    ) -> None:
        self.fraction = fraction
        self.seed = seed
        self.allow_missing_classes = allow_missing_classes
        super().__init__(root, split, transforms)

    def parse(self) -> Listing:
        folder = existing_folder(self.root)
        notes: list[str] = []
        there = split_folders(folder)
        places = {
            split: class_files(path, folder, notes)
            for split, path in (there or {"": folder}).items()
        }
        if left := [p for p in subfolders(folder) if there and p not in there.values()]:
            notes.append(f"beside the splits, left out: {some(repr(p.name) for p in left)}")
        if not self.allow_missing_classes:
            check_classes(places, "split", "allow_missing_classes=True")
        classes = ordered(name for files in places.values() for name in files)
        files, how, chosen = self._choose(folder, there, places)
        names, labels = labelled(files, classes)
        if chosen is not None:
            part = first_part(names, labels.tolist(), self.fraction, self.seed)
            part = part if chosen == "train" else ~part
            names = [name for name, inside in zip(names, part.tolist(), strict=True) if inside]
            labels = labels[part]
        return Listing(
            name=folder.resolve().name,
            protocol=f"class folders, {how}",
            classes=classes,
            labels=labels,
            names=names,
            root=str(folder),
            notes=tuple(notes),
        )

    def _choose(
        self, folder: Path, there: Mapping[str, Path], places: Mapping[str, ClassFiles]
    ) -> tuple[ClassFiles, str, str | None]:
        """(files, in words how they came about, the part to take if they are to be split)."""
        if there:
            if self.split not in there:
                raise ValueError(
                    f"{str(folder)!r} has no split {self.split!r}: its folders are "
                    f"{', '.join(repr(p.name) for p in there.values())}; choose one of "
                    f"{', '.join(map(repr, there))}"
                )
            return places[self.split], f"{there[self.split].name!r} as in the folders", None
        if self.split == "all":
            return places[""], "all images", None
        if self.split == "test":
            raise ValueError(
                f"{str(folder)!r} has no folder 'test': without split folders there are 'train' "
                f"and 'val' ({self.fraction:g} of every class is 'train'), and 'all'"
            )
        how = (
            f"{self.split!r} of a split by class (train fraction {self.fraction:g}, "
            f"seed {self.seed})"
        )
        return places[""], how, self.split


def split_folders(folder: Path) -> dict[str, Path]:
    """Split -> folder, for those that are there; empty when the classes lie in ``folder`` itself.

    A folder ``train`` with images and no folders inside is a class (of vehicles), not a split.
    """
    return {
        split: folder / name
        for split, names in SPLIT_FOLDERS.items()
        for name in names
        if (folder / name).is_dir() and subfolders(folder / name)
    }
