"""ImageNet (ILSVRC 2012) as class folders, with validation images in folders or flat with a list.

O. Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge", IJCV 2015,
https://www.image-net.org. Classes are labelled in the order of their WordNet ids (wnids), as in all
published weights.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cls.datasets.base import ClassificationDataset, Listing
from cls.datasets.class_tree import (
    ClassFiles,
    check_classes,
    class_files,
    labelled,
    ordered,
    subfolders,
)
from cls.datasets.list_file import Line, check_files, read_lines
from cls.registry import DATASETS
from engine.wording import counted, some
from imaging.files import existing_folder, list_images
from imaging.samples import Transform

__all__ = ["ImageNet", "imagenet_folder", "is_wnid"]

_BELOW = ("", "ILSVRC/Data/CLS-LOC", "Data/CLS-LOC", "CLS-LOC", "ILSVRC2012", "imagenet")
_LISTS = ("val.txt", "val_map.txt", "LOC_val_solution.csv")
_FULL = {"train": 1_281_167, "val": 50_000}
_CLASSES = 1000


@DATASETS.register_module()
class ImageNet(ClassificationDataset):
    """ImageNet or a subset of its classes; see :class:`ClassificationDataset`.

    Args:
        root: the folder that holds ``train`` and ``val``, or one above it as the archives unpack
            (``ILSVRC/Data/CLS-LOC``).
        split: ``'train'``: ``train/<wnid>/``; ``'val'``: ``val/<wnid>/``, or images in ``val`` and
            a list file.
        val_list: the list of a flat ``val``: lines ``file class`` with a class number from 0 in
            the order of wnids, or a wnid, or Kaggle's ``LOC_val_solution.csv``. None: a
            ``val.txt``, ``val_map.txt`` or ``LOC_val_solution.csv`` in or above the folders.
        allow_missing_classes: permit that ``train`` or ``val`` lacks some classes.

    Raises:
        FileNotFoundError: no such folders, no list for a flat ``val``, missing images.
        ValueError: class folders that differ, a list of other classes.
    """

    SPLITS = ("train", "val")

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        transforms: Sequence[Mapping[str, Any]] | Transform | None = None,
        *,
        val_list: str | os.PathLike[str] | None = None,
        allow_missing_classes: bool = False,
    ) -> None:
        self.val_list = val_list
        self.allow_missing_classes = allow_missing_classes
        super().__init__(root, split, transforms)

    def parse(self) -> Listing:
        folder = imagenet_folder(self.root)
        notes: list[str] = []
        places: dict[str, ClassFiles] = {
            split: class_files(folder / split, folder, notes)
            for split in self.SPLITS
            if (folder / split).is_dir() and subfolders(folder / split)
        }
        if not self.allow_missing_classes:
            check_classes(places, "split", "allow_missing_classes=True")
        classes = ordered(name for files in places.values() for name in files)
        if self.split in places:
            names, labels = labelled(places[self.split], classes)
            how = "class folders"
        elif self.split == "val" and (folder / "val").is_dir():
            file = self._list(folder)
            classes, names, labels = _flat(folder, file, classes, notes)
            how = f"flat folder with {file.name}"
        else:
            raise FileNotFoundError(
                f"{str(folder)!r} has no {self.split!r} folder with images; expected "
                f"{self.split}/<wnid>/<file>"
            )
        return Listing(
            name="ImageNet",
            protocol=_protocol(self.split, how, len(labels), classes),
            classes=classes,
            labels=labels,
            names=names,
            root=str(folder),
            notes=tuple(notes),
        )

    def _list(self, folder: Path) -> Path:
        if self.val_list is not None:
            file = Path(self.val_list).expanduser()
            if not file.is_file():
                raise FileNotFoundError(f"val_list: the file {str(file)!r} does not exist")
            return file
        top = folder.absolute()
        above = [top, top / "val", *list(top.parents)[:3], self.root.absolute()]
        for place in above:
            for name in _LISTS:
                if (place / name).is_file():
                    return place / name
        raise FileNotFoundError(
            f"the images of {str(folder / 'val')!r} lie in no class folders, and there is no list "
            f"that names their classes: expected {' or '.join(_LISTS)} beside it, or val_list="
        )


def imagenet_folder(root: str | os.PathLike[str]) -> Path:
    """The folder with ``train`` or ``val`` in it: ``root``, or below it as archives unpack."""
    folder = existing_folder(root)
    for below in _BELOW:
        place = folder / below
        if (place / "train").is_dir() or (place / "val").is_dir():
            return place
    if folder.name in ("train", "val") and any(is_wnid(p.name) for p in subfolders(folder)):
        raise FileNotFoundError(
            f"{str(folder)!r} is one split of ImageNet; use the folder above it, "
            f"{str(folder.parent)!r}"
        )
    there = some(sorted(p.name for p in folder.iterdir()), 8) or "nothing"
    raise FileNotFoundError(
        f"{str(folder)!r} has no folder 'train' or 'val' (it holds {there}); expected "
        "train/<wnid>/<file>, with root the folder above 'train'"
    )


def is_wnid(name: str) -> bool:
    """Whether a name is a WordNet id such as n01440764."""
    return re.fullmatch(r"n\d{8}", name) is not None


def _flat(
    folder: Path, file: Path, classes: tuple[str, ...], notes: list[str]
) -> tuple[tuple[str, ...], list[str], np.ndarray]:
    """(classes, names, labels) of a folder without class folders; file names in sorted order."""
    lines = list(_val_lines(file, folder / "val"))
    check_files(file, folder / "val", lines)
    by_number = all(line.label.isascii() and line.label.isdigit() for line in lines)
    if not classes:
        classes = (
            tuple(map(str, range(_CLASSES)))
            if by_number
            else tuple(sorted({line.label for line in lines}))
        )
    if by_number:
        label_of = {str(label): label for label in range(len(classes))}
    else:
        label_of = {name: label for label, name in enumerate(classes)}
    if unknown := [line for line in lines if line.label not in label_of]:
        expected = f"0..{len(classes) - 1}" if by_number else f"one of {len(classes):,} wnids"
        raise ValueError(
            f"{str(file)!r}: {counted(len(unknown), 'line')} of a class that is not there "
            f"({some((f'line {x.number}: {x.label[:40]!r}' for x in unknown), 3)}); expected "
            f"{expected}, the sorted folders of 'train': numbers count from 0, and a subset of the "
            "classes needs a list of these alone"
        )
    lines.sort(key=lambda line: line.path)
    listed = {line.path for line in lines}
    left = [p for p in map(os.path.basename, list_images(folder / "val")) if p not in listed]
    if left:
        notes.append(f"{counted(len(left), 'image')} of 'val' not in {file.name}: {some(left)}")
    labels = np.array([label_of[line.label] for line in lines], np.int64)
    return classes, [f"val/{line.path}" for line in lines], labels


def _val_lines(file: Path, folder: Path) -> Iterator[Line]:
    """The lines of a list, of any of the three kinds, with the names of the files as they are."""
    kaggle = file.suffix.lower() == ".csv"
    lines = list(_kaggle_lines(file)) if kaggle else read_lines(file)
    bare = not any(line.path.lower().endswith((".jpeg", ".jpg", ".png")) for line in lines[:100])
    for line in lines:
        path = line.path.removeprefix("./").removeprefix("val/")
        yield Line(line.number, f"{path}.JPEG" if bare else path, line.label)


def _kaggle_lines(file: Path) -> Iterator[Line]:
    """Rows ``ILSVRC2012_val_00048981,n03995372 85 131 499 254``, after a header."""
    with file.open(encoding="utf-8-sig", newline="") as text:
        for number, row in enumerate(csv.reader(text), 1):
            if len(row) < 2 or not row[1].split():
                raise ValueError(
                    f"{str(file)!r}, line {number}: expected 'image,wnid box', got {row!r}"
                )
            if is_wnid(label := row[1].split()[0]):
                yield Line(number, row[0], label)
            elif number > 1:
                raise ValueError(
                    f"{str(file)!r}, line {number}: expected a wnid such as n01440764, got "
                    f"{label!r}"
                )


def _protocol(split: str, how: str, images: int, classes: Sequence[str]) -> str:
    full = _FULL[split]
    kind = {"train": "training", "val": "validation"}[split]
    counts = f"{images:,}" if images == full else f"{images:,} of {full:,}"
    kinds = (
        f"{_CLASSES:,} classes"
        if len(classes) == _CLASSES
        else f"{len(classes):,} of {_CLASSES:,} classes, not comparable with published results"
    )
    return f"{counts} {kind} images ({how}), {kinds}, in the order of wnids"
