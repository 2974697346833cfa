"""Folders whose names are classes: what is in them, in which order, and how they differ."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path

import numpy as np

from engine.wording import counted, some
from imaging.files import list_images, relative_name

__all__ = [
    "ClassFiles",
    "check_classes",
    "class_files",
    "labelled",
    "loosely",
    "ordered",
    "subfolders",
]

ClassFiles = dict[str, list[str]]
"""Class -> its images relative to the data's root, both sorted; a class may have none."""


def subfolders(folder: Path) -> list[Path]:
    """Visible folders inside a folder, by name."""
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def class_files(folder: Path, root: Path, notes: list[str]) -> ClassFiles:
    """The images of ``<folder>/<class>/``, sub-folders of a class included.

    Raises:
        ValueError: no class folders, no image in any of them, or one level too high or too deep.
    """
    children = subfolders(folder)
    files = {p.name: list(list_images(p, recursive=True)) for p in children}
    loose = [Path(path).name for path in list_images(folder)]
    if not any(files.values()):
        if loose:
            raise ValueError(
                f"images lie directly in {str(folder)!r} ({some(loose, 3)}); expected "
                f"<class>/<file>: if {folder.resolve().name!r} is one class, use the folder above "
                "it, otherwise sort them into one folder per class or list them for cls.ListFile"
            )
        what = "only empty folders" if children else "no folder"
        raise ValueError(f"{str(folder)!r} holds {what}; expected <class>/<file> with images")
    _check_depth(folder, files)
    if loose:
        notes.append(
            f"{counted(len(loose), 'image')} directly in {str(folder)!r}, so of no class, left "
            f"out: {some(loose)}"
        )
    prefix = os.path.join(root, "")  # noqa: PTH118 - as list_images joins; absent below "."
    return {
        name: [path.removeprefix(prefix).replace(os.sep, "/") for path in paths]
        for name, paths in files.items()
    }


def ordered(names: Iterable[str]) -> tuple[str, ...]:
    """Classes in the order of their labels.

    By name, as everywhere, so that labels agree with those of other programs; numbers (all names
    are digits) by value: 0, 1, 2, ... 10, and not 0, 1, 10, 2.
    """
    distinct = set(names)
    if all(name.isascii() and name.isdigit() for name in distinct):
        return tuple(sorted(distinct, key=lambda name: (int(name), name)))
    return tuple(sorted(distinct))


def check_classes(places: Mapping[str, ClassFiles], what: str, option: str = "") -> None:
    """Refuse places (splits or domains) whose class folders differ, and classes without images.

    Args:
        places: name of the split or domain -> its classes.
        what: ``'split'`` or ``'domain'``.
        option: how the caller may permit it.

    Raises:
        ValueError: what is missing where.
    """
    everything = ordered(name for classes in places.values() for name in classes)
    having = {
        name: [place for place, classes in places.items() if name in classes] for name in everything
    }
    rare = {name for name, there in having.items() if 2 * len(there) < len(places)}
    problems = []
    for place, classes in places.items():
        at = f"{what} {place!r}" if place else "the data"
        if absent := [n for n in everything if n not in classes and n not in rare]:
            problems.append(
                f"{at} has no folder for {_some_classes(absent)} (it has "
                f"{counted(len(classes), 'folder')})"
            )
        if alone := [name for name in everything if name in rare and name in classes]:
            problems.append(f"{at} has a folder for {_some_classes(alone)}, which most others lack")
        if empty := [name for name in everything if name in classes and not classes[name]]:
            problems.append(f"{at} has no image of {_some_classes(empty)}: the folder is empty")
    if problems:
        raise ValueError(
            f"class folders {'differ' if len(places) > 1 else 'are incomplete'}: "
            f"{'; '.join(problems)}. Add what is missing, correct the names of the folders"
            f"{f', or permit it with {option}' if option else ''}"
        )


def labelled(files: ClassFiles, classes: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Class folders -> N names and (N,) int64 labels, in the order of the classes."""
    names = [name for kind in classes for name in files.get(kind, ())]
    counts = [len(files.get(kind, ())) for kind in classes]
    return names, np.repeat(np.arange(len(classes), dtype=np.int64), counts)


def loosely(name: str) -> str:
    """A class name without what people write differently: case, spaces, dashes."""
    return re.sub(r"[\W_]+", "", name).casefold()


def _some_classes(names: Sequence[str]) -> str:
    kinds = "class" if len(names) == 1 else f"{len(names):,} classes:"
    return f"{kinds} {some(map(repr, names))}"


def _check_depth(folder: Path, files: Mapping[str, Sequence[str]]) -> None:
    """A single 'class' that consists of folders: the classes lie deeper."""
    if len(files) != 1:
        return
    ((name, paths),) = files.items()
    parts = [relative_name(path, str(folder / name)).split("/")[:-1] for path in paths]
    if not all(parts):
        return
    shared = [level[0] for level in takewhile(_all_equal, zip(*parts, strict=False))]
    if all(part == shared for part in parts):  # a single leaf: the last folder is the class
        return
    raise ValueError(
        f"{str(folder)!r} holds a single folder, {name!r}, which consists of folders; use "
        f"{str(folder.joinpath(name, *shared))!r} if that is where the class folders lie"
    )


def _all_equal(level: Sequence[str]) -> bool:
    return len(set(level)) == 1
