"""Recognise how a dataset is laid out, from the names of files and folders alone."""

import os
from pathlib import Path
from typing import Literal, TypeAlias

from imaging.files import existing_folder
from reid.datasets.market1501 import FOLDERS

__all__ = ["LAYOUTS", "Layout", "recognise_layout"]

Layout: TypeAlias = Literal["market1501", "folder", "csv"]
LAYOUTS: dict[Layout, str] = {
    "market1501": "reid.Market1501",
    "folder": "reid.ImageFolder",
    "csv": "reid.CSVList",
}
"""Layout -> the registered dataset that reads it."""


def recognise_layout(root: str | os.PathLike[str]) -> Layout:
    """The layout that ``root`` most probably has; whether it is complete is the parser's business.

    Market-1501 shows in ``bounding_box_*`` folders, here or one level above or below (its parser
    then names the right folder); a CSV list is a ``.csv`` file, or the only one in a folder, with
    the columns ``path`` and ``pid``; everything else is taken for identity folders.
    """
    path = Path(root).expanduser()
    if path.is_file() and path.suffix.lower() in (".csv", ".tsv", ".txt"):
        return "csv"
    folder = existing_folder(path)
    boxes = {FOLDERS["train"], FOLDERS["gallery"]}
    near = (folder, folder.absolute().parent) if folder.name in FOLDERS.values() else (folder,)
    if any((place / name).is_dir() for place in near for name in boxes):
        return "market1501"
    tables = [p for p in folder.glob("*.csv") if _has_columns(p)]
    if len(tables) == 1:
        return "csv"
    if any(p.is_dir() for name in boxes for p in folder.glob(f"*/{name}")):
        return "market1501"
    return "folder"


def _has_columns(file: Path) -> bool:
    with file.open(encoding="utf-8-sig", errors="replace") as lines:
        header = lines.readline(4096).lower().replace(";", ",").replace("\t", ",")
    return {"path", "pid"} <= {cell.strip().strip('"') for cell in header.split(",")}
