"""Recognise how a data set is laid out, from the names of files and folders alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import islice
from pathlib import Path

from cls.datasets.cifar import CIFAR10, CIFAR100
from cls.datasets.class_folder import split_folders
from cls.datasets.class_tree import subfolders
from cls.datasets.imagenet import imagenet_folder, is_wnid
from cls.datasets.tiny_imagenet import tiny_imagenet_folder
from engine.wording import some
from imaging.files import existing_folder, list_images

__all__ = ["LAYOUTS", "recognise_layout", "splits_of"]

LAYOUTS: dict[str, str] = {
    "cifar10": "cls.CIFAR10",
    "cifar100": "cls.CIFAR100",
    "imagenet": "cls.ImageNet",
    "tiny_imagenet": "cls.TinyImageNet",
    "domains": "cls.DomainFolder",
    "folder": "cls.ClassFolder",
    "list": "cls.ListFile",
}
"""Layout -> the registered data set that reads it."""

_SPLITS = ("train", "val", "test")


def recognise_layout(root: str | os.PathLike[str]) -> str:
    """The layout that ``root`` has, a key of :data:`LAYOUTS`; whether it is complete is the
    parser's business.

    Raises:
        FileNotFoundError, NotADirectoryError: no such folder.
        ValueError: no layout that is known; says what is there, and which folder above or below
            can be read.
    """
    path = Path(root).expanduser()
    if path.is_file():
        if path.suffix.lower() in (".txt", ".lst", ".list"):
            return "list"
        raise ValueError(
            f"{str(path)!r} is a file; expected a folder, or a list of 'path class' lines (.txt)"
            + (
                "; unpack it first"
                if path.suffix.lower() in (".gz", ".tar", ".tgz", ".zip")
                else ""
            )
        )
    folder = existing_folder(path)
    if layout := _layout(folder):
        _check_not_inside(folder, layout)
        return layout
    raise ValueError(
        f"{str(folder)!r} has none of the known layouts ({', '.join(LAYOUTS)}): it holds "
        f"{some(sorted(p.name for p in folder.iterdir()), 4) or 'nothing'}{_hint(folder)}. "
        "Expected <class>/<file>, <split>/<class>/<file> or <domain>/<class>/<file>"
    )


def splits_of(root: str | os.PathLike[str], layout: str) -> tuple[str, ...]:
    """The splits that data of a layout comes with; ``'all'`` where it is not split."""
    path = Path(root).expanduser()
    if layout in ("cifar10", "cifar100"):
        return ("train", "test")
    if layout in ("imagenet", "tiny_imagenet"):
        find = imagenet_folder if layout == "imagenet" else tiny_imagenet_folder
        folder = find(path)
        return tuple(split for split in ("train", "val") if (folder / split).is_dir())
    if layout == "folder":
        return tuple(split_folders(existing_folder(path))) or ("all",)
    if layout == "list" and path.is_dir():
        return tuple(split for split in _SPLITS if (path / f"{split}.txt").is_file())
    if layout == "list" and path.stem in _SPLITS:
        return (path.stem,)
    return ("all",)


def _layout(folder: Path) -> str | None:
    cifar = [
        name
        for name, kind in (("cifar10", CIFAR10), ("cifar100", CIFAR100))
        if _finds(kind.folder, folder)
    ]
    if len(cifar) > 1:
        raise ValueError(
            f"{str(folder)!r} holds CIFAR-10 and CIFAR-100; give one of {CIFAR10.FOLDER!r} and "
            f"{CIFAR100.FOLDER!r} in it"
        )
    if cifar:
        return cifar[0]
    if _finds(tiny_imagenet_folder, folder):
        return "tiny_imagenet"
    if _finds(imagenet_folder, folder) and _has_wnids(imagenet_folder(folder)):
        return "imagenet"
    if split_folders(folder):
        return "folder"
    children = subfolders(folder)
    if _are_domains(children):
        return "domains"
    classes = sum(map(_has_images, children))
    if (bottom := _bottom(folder)) != folder and len(subfolders(bottom)) > 1:
        return None  # one or more levels too high
    if classes < 2 and any((folder / f"{split}.txt").is_file() for split in _SPLITS):
        return "list"  # a single folder beside lists holds the images of all classes
    return "folder" if classes else None


def _finds(find: Callable[[Path], Path], folder: Path) -> bool:
    try:
        find(folder)
    except FileNotFoundError:
        return False
    return True


def _has_wnids(folder: Path) -> bool:
    """Folders of wnids in ``train`` or ``val``, or the original names in a flat ``val``."""
    for split in ("train", "val"):
        place = folder / split
        if not place.is_dir():
            continue
        names = [p.name for p in subfolders(place)]
        if names and all(map(is_wnid, names)):
            return True
        if not names and any(p.name.startswith("ILSVRC2012_val_") for p in place.iterdir()):
            return True
    return False


def _are_domains(children: list[Path]) -> bool:
    """Several folders without images of their own, whose folders share at least two names."""
    inside = [{p.name for p in subfolders(child)} for child in children]
    inside = [names for child, names in zip(children, inside, strict=True) if names]
    if len(inside) < 2:
        return False
    direct = any(_images_in(child) for child in children if subfolders(child))
    largest = max(inside, key=len)
    return not direct and sum(len(largest & names) >= 2 for names in inside) >= 2


def _bottom(folder: Path) -> Path:
    """Where a chain of single folders ends: in images, or in several folders."""
    while len(below := subfolders(folder)) == 1 and not _images_in(folder):
        folder = below[0]
    return folder


def _images_in(folder: Path) -> bool:
    return next(iter(list_images(folder)), None) is not None


def _has_images(folder: Path) -> bool:
    return next(iter(list_images(folder, recursive=True)), None) is not None


def _check_not_inside(folder: Path, layout: str) -> None:
    """A folder of classes that is itself one split of several."""
    above = folder.absolute().parent
    if layout != "folder" or split_folders(folder):
        return
    splits = split_folders(above)
    if folder.absolute() in splits.values() and len(splits) > 1:
        raise ValueError(
            f"{str(folder)!r} is one split of {some(repr(p.name) for p in splits.values())}; "
            f"give the folder above it, {str(above)!r}"
        )


def _hint(folder: Path) -> str:
    """Where a folder that can be read lies, one level up or down."""
    for place in islice([_bottom(folder), *subfolders(folder)], 100):
        if place == folder:
            continue
        if layout := _layout(place):
            return f"; {str(place)!r} below it can be read ({layout})"
    above = folder.absolute().parent
    if _images_in(folder) and (layout := _layout(above)):
        return (
            f". Its images seem to be of one class; {str(above)!r} above it can be read ({layout})"
        )
    return ""
