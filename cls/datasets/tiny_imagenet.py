"""Tiny-ImageNet: 200 classes of ImageNet at 64 x 64.

Y. Le and X. Yang, "Tiny ImageNet visual recognition challenge", Stanford CS 231N, 2015. Its test
images have no labels, so results are those of ``val``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cls.datasets.base import ClassificationDataset, Listing
from cls.datasets.class_tree import check_classes, class_files, labelled, subfolders
from cls.datasets.list_file import Line, check_files
from cls.registry import DATASETS
from engine.wording import counted, some
from imaging.files import existing_folder

__all__ = ["TinyImageNet", "tiny_imagenet_folder"]

_NAME = "tiny-imagenet-200"
_FULL = {"train": 100_000, "val": 10_000}


@DATASETS.register_module()
class TinyImageNet(ClassificationDataset):
    """Tiny-ImageNet as it unpacks; for the arguments see :class:`ClassificationDataset`.

    ``train/<wnid>/images/``, ``val/images/`` with ``val_annotations.txt`` (or ``val/<wnid>/``,
    which some scripts make of it), ``wnids.txt``, ``words.txt``. Labels follow the sorted wnids;
    classes are called by the first of their words.

    Raises:
        FileNotFoundError: a file or folder of the layout is missing.
        ValueError: class folders and ``wnids.txt`` differ, or annotations of other classes.
    """

    SPLITS = ("train", "val")

    def parse(self) -> Listing:
        folder = tiny_imagenet_folder(self.root)
        wnids = tuple(sorted(set((folder / "wnids.txt").read_text(encoding="utf-8").split())))
        place = folder / self.split
        notes: list[str] = []
        if not place.is_dir():
            raise FileNotFoundError(
                f"{str(folder)!r} has no folder {self.split!r}; unpack it again"
            )
        if [p.name for p in subfolders(place)] == ["images"]:
            names, labels = _annotated(folder, wnids)
        else:
            files = class_files(place, folder, notes)
            check_classes(
                {"wnids.txt": {wnid: ["listed"] for wnid in wnids}, self.split: files}, "split"
            )
            names, labels = labelled(files, wnids)
        full = _FULL[self.split]
        counts = f"{len(names):,}" if len(names) == full else f"{len(names):,} of {full:,}"
        return Listing(
            name="TinyImageNet",
            protocol=f"{counts} {self.split} images, {len(wnids)} classes in the order of wnids",
            classes=_words(folder / "words.txt", wnids),
            labels=labels,
            names=names,
            root=str(folder),
            notes=tuple(notes),
        )


def tiny_imagenet_folder(root: str | Path) -> Path:
    """The folder with ``wnids.txt``: ``root`` or ``tiny-imagenet-200`` in it."""
    folder = existing_folder(root)
    for place in (folder, folder / _NAME):
        if (place / "wnids.txt").is_file():
            return place
    there = some(sorted(p.name for p in folder.iterdir()), 8) or "nothing"
    raise FileNotFoundError(
        f"{str(folder)!r} has no wnids.txt (it holds {there}); expected the folder {_NAME} with "
        "wnids.txt, train and val"
    )


def _annotated(folder: Path, wnids: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """(names, labels) of ``val/images`` by ``val_annotations.txt``: name, wnid, box by tabs."""
    file = folder / "val" / "val_annotations.txt"
    if not file.is_file():
        raise FileNotFoundError(
            f"{str(file)!r}, which names the classes of val/images, does not exist; unpack it again"
        )
    label_of = {wnid: label for label, wnid in enumerate(wnids)}
    lines, wrong = [], []
    for number, row in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        parts = row.split()
        if len(parts) < 2 or parts[1] not in label_of:
            wrong.append(f"line {number}: {row[:60]!r}")
        else:
            lines.append(Line(number, parts[0], parts[1]))
    if wrong:
        raise ValueError(
            f"{str(file)!r}: expected 'image wnid box' with a wnid of wnids.txt, but "
            f"{counted(len(wrong), 'line')} differ ({some(wrong, 3)})"
        )
    check_files(file, folder / "val" / "images", lines)
    labels = np.array([label_of[line.label] for line in lines], np.int64)
    return [f"val/images/{line.path}" for line in lines], labels


def _words(file: Path, wnids: Sequence[str]) -> tuple[str, ...]:
    """The first word of each class, with the wnid where two classes share it."""
    if not file.is_file():
        return tuple(wnids)
    rows = (row.partition("\t") for row in file.read_text(encoding="utf-8").splitlines())
    words = {wnid: text.partition(",")[0].strip() for wnid, _, text in rows}
    names = [words.get(wnid) or wnid for wnid in wnids]
    shared = Counter(names)
    return tuple(
        name if shared[name] == 1 else f"{name} ({wnid})"
        for name, wnid in zip(names, wnids, strict=True)
    )
