"""Images named in a text file, ``path class`` a line: the lists of Caffe and of the SN code."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cls.datasets.base import ClassificationDataset, Listing
from cls.registry import DATASETS
from engine.wording import counted, some
from imaging.files import existing_folder
from imaging.samples import Transform

__all__ = ["Line", "ListFile", "check_files", "read_lines"]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a list: its number from 1, the path, and the class as it is written."""

    number: int
    path: str
    label: str


@DATASETS.register_module()
class ListFile(ClassificationDataset):
    """Images of a list; for the first arguments see :class:`ClassificationDataset`.

    A line is a path, white space, and a class number from 0; paths may contain spaces.

    Args:
        root: the list, or a folder that holds ``<split>.txt``.
        split: what the list is for; the file that is read, where ``root`` is a folder.
        source: the folder that paths are relative to; None: the list's own.
        classes: names by class number; None: the numbers.
        num_classes: how many classes there are; None: as many as ``classes``, or up to the highest
            number in the list. Give one of the two where lists of several splits belong together.

    Raises:
        FileNotFoundError: no such list, or files that it names are not there.
        ValueError: a line without a class, a class that is no whole number or out of range.
    """

    SPLITS = ("train", "val", "test", "all")

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        transforms: Sequence[Mapping[str, Any]] | Transform | None = None,
        *,
        source: str | os.PathLike[str] | None = None,
        classes: Sequence[str] | None = None,
        num_classes: int | None = None,
    ) -> None:
        if classes is not None and num_classes not in (None, len(classes)):
            raise ValueError(
                f"num_classes is {num_classes}, but classes has {counted(len(classes), 'name')}"
            )
        self.source = source
        self.class_names = None if classes is None else tuple(classes)
        self.num_classes = num_classes if classes is None else len(classes)
        super().__init__(root, split, transforms)

    def parse(self) -> Listing:
        file = _list_file(self.root, self.split)
        source = existing_folder(file.parent if self.source is None else self.source)
        lines = read_lines(file)
        labels = _labels(file, lines, self.num_classes)
        check_files(file, source, lines)
        number = self.num_classes or int(labels.max(initial=-1)) + 1
        classes = self.class_names or tuple(map(str, range(number)))
        return Listing(
            name=file.stem,
            protocol=f"list file {file.name}, classes 0..{number - 1}",
            classes=classes,
            labels=labels,
            names=[line.path for line in lines],
            root=str(source),
            notes=tuple(_notes(lines, labels, number)),
        )


def read_lines(file: Path) -> list[Line]:
    """The lines of a list, split at their last white space; empty lines are skipped.

    Raises:
        ValueError: a line of a path alone, with its number.
    """
    lines = []
    alone = []
    # what is no UTF-8 comes back as the same bytes when the file is opened
    with file.open(encoding="utf-8-sig", errors="surrogateescape") as text:
        for number, row in enumerate(text, 1):
            parts = row.strip().rsplit(maxsplit=1)
            if len(parts) == 2:
                lines.append(Line(number, *parts))
            elif parts:
                alone.append(f"line {number}: {parts[0][:80]!r}")
    if alone:
        raise ValueError(
            f"{str(file)!r}: expected 'path class' on every line, but "
            f"{counted(len(alone), 'line')} have no white space in them ({some(alone, 3)})"
        )
    return lines


def check_files(file: Path, source: Path, lines: Iterable[Line]) -> None:
    """Refuse a list that names files which are not there; every folder is listed only once.

    Raises:
        FileNotFoundError: how many, and the first few of them.
    """
    by_folder: dict[str, list[Line]] = defaultdict(list)
    total = 0
    for line in lines:
        by_folder[line.path.rpartition("/")[0]].append(line)
        total += 1
    missing: list[Line] = []
    for folder, members in by_folder.items():
        # an empty name and the root differ: /a.jpg lies in "/"
        top = "/" if not folder and members[0].path.startswith("/") else folder
        there = _file_names(os.path.join(source, top))  # noqa: PTH118 - an absolute one stays
        missing += [line for line in members if line.path.rpartition("/")[2] not in there]
    if missing:
        missing.sort(key=lambda line: line.number)
        shown = some((f"line {line.number}: {line.path!r}" for line in missing), 3)
        raise FileNotFoundError(
            f"{str(file)!r} names {counted(total, 'file')}, of which {len(missing):,} are not "
            f"below {str(source)!r} ({shown}): set source= to the folder that the paths are "
            "relative to, copy the files, or take their lines out"
        )


def _file_names(folder: str) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_file()}
    except OSError:
        return set()


def _list_file(root: Path, split: str) -> Path:
    if root.is_dir():
        root = root / f"{split}.txt"
    if root.is_file():
        return root
    there = sorted(p.name for p in root.parent.glob("*.txt")) if root.parent.is_dir() else []
    hint = f"; its folder has {some(there)}" if there else ""
    raise FileNotFoundError(f"the list file {str(root)!r} does not exist{hint}")


def _labels(file: Path, lines: Sequence[Line], num_classes: int | None) -> np.ndarray:
    labels = np.zeros(len(lines), np.int64)
    wrong: list[str] = []
    for place, line in enumerate(lines):
        number = _number(line.label)
        if number is None:
            wrong.append(f"line {line.number}: {line.label[:40]!r} is no whole number")
        elif not 0 <= number < (num_classes or 1 << 31):
            wrong.append(f"line {line.number}: {number}")
        else:
            labels[place] = number
    if wrong:
        allowed = f"0..{num_classes - 1}" if num_classes else "0 and up"
        raise ValueError(
            f"{str(file)!r}: expected 'path class' with classes {allowed}, but "
            f"{counted(len(wrong), 'line')} differ ({some(wrong, 3)}); classes count from 0"
        )
    return labels


def _number(text: str) -> int | None:
    digits = text.removeprefix("-")
    return int(text) if digits.isascii() and digits.isdigit() and len(digits) < 12 else None


def _notes(lines: Sequence[Line], labels: np.ndarray, num_classes: int) -> Iterable[str]:
    counts = np.bincount(labels, minlength=num_classes)
    if len(labels) and not counts[0] and counts[1:].all():
        yield "no image of class 0, but of all others: do the classes count from 1?"
    repeated = [path for path, n in Counter(line.path for line in lines).items() if n > 1]
    if repeated:
        yield f"{counted(len(repeated), 'file')} named more than once: {some(repeated)}"
