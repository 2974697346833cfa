"""Recognise a data set by its folders."""

from __future__ import annotations

import os
from pathlib import Path

from .acdc import ACDC
from .base import SegmentationDataset, subfolders
from .bdd100k import BDD100K
from .camvid import CamVid
from .cityscapes import Cityscapes, FoggyCityscapes
from .gta5 import GTA5
from .idd import IDD, IDDLite
from .mapillary import Mapillary
from .synthia import Synthia

__all__ = ["LAYOUTS", "recognise_layout", "types_that_match"]

# In this order: IDD's trees resemble Cityscapes', and clear images beside foggy ones come first.
_TYPES: tuple[type[SegmentationDataset], ...] = (
    IDDLite,
    IDD,
    Cityscapes,
    FoggyCityscapes,
    ACDC,
    Synthia,
    Mapillary,
    BDD100K,
    CamVid,
    GTA5,
)

LAYOUTS: dict[str, str] = {
    t.NAME: f"seg.{t.__name__}" for t in sorted(_TYPES, key=lambda t: t.NAME)
}
"""Name of a layout -> the type that reads it, as configs write it."""


def recognise_layout(root: str | os.PathLike[str]) -> str:
    """The layout's name, a key of :data:`LAYOUTS`.

    Raises:
        FileNotFoundError: no such folder, or no layout that is known; says what is there.
    """
    folder = Path(root).expanduser()
    if not folder.is_dir():
        there = next((p for p in folder.absolute().parents if p.is_dir()), None)
        raise FileNotFoundError(
            f"the folder {str(folder)!r} does not exist; of that path only {str(there)!r} is there"
        )
    for kind in _TYPES:
        if kind.matches(folder):
            return kind.NAME
    below = [(p, k.NAME) for p in subfolders(folder)[:100] for k in _TYPES if k.matches(p)]
    hint = (
        f"; {' and '.join(f'{str(p)!r} ({name})' for p, name in below[:3])} below it can be read"
        if below
        else ""
    )
    names = sorted(p.name for p in folder.iterdir())[:10]
    raise FileNotFoundError(
        f"{str(folder)!r} has none of the known layouts ({', '.join(LAYOUTS)}): it holds "
        f"{', '.join(names) or 'nothing'}{hint}. Own data of any layout: type seg.ImageLabelFolder"
    )


def types_that_match(root: Path) -> list[str]:
    """Types, as configs write them, whose layout ``root`` has."""
    return [LAYOUTS[kind.NAME] for kind in _TYPES if root.is_dir() and kind.matches(root)]
