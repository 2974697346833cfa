"""Recognise how a dataset is laid out, from the names of files and folders alone."""

import os
import re
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Literal, TypeAlias

from imaging.files import existing_folder, list_images
from reid.datasets.base import Splits
from reid.datasets.csv_list import parse_csv_list
from reid.datasets.cuhk03 import BOX_FOLDERS, parse_cuhk03
from reid.datasets.dukemtmc import parse_dukemtmc
from reid.datasets.flat_folder import parse_flat_folder
from reid.datasets.folder import parse_image_folder
from reid.datasets.grid import GRID
from reid.datasets.ilids_vid import ILIDSVID
from reid.datasets.market1501 import parse_market1501
from reid.datasets.msmt17 import parse_msmt17
from reid.datasets.prid2011 import PRID2011
from reid.datasets.three_folders import BOXES
from reid.datasets.vehicleid import parse_vehicleid
from reid.datasets.veri776 import FOLDERS as VERI776_FOLDERS
from reid.datasets.veri776 import parse_veri776
from reid.datasets.veriwild import parse_veriwild
from reid.datasets.viper import VIPeR

__all__ = ["LAYOUTS", "PARSERS", "Layout", "recognise_layout"]

Layout: TypeAlias = Literal[
    "market1501",
    "folder",
    "csv",
    "flat",
    "dukemtmc",
    "cuhk03",
    "msmt17",
    "veri776",
    "vehicleid",
    "veriwild",
    "viper",
    "prid2011",
    "grid",
    "ilids_vid",
]
LAYOUTS: dict[Layout, str] = {
    "market1501": "reid.Market1501",
    "folder": "reid.ImageFolder",
    "csv": "reid.CSVList",
    "flat": "reid.FlatFolder",
    "dukemtmc": "reid.DukeMTMCreID",
    "cuhk03": "reid.CUHK03",
    "msmt17": "reid.MSMT17",
    "veri776": "reid.VeRi776",
    "vehicleid": "reid.VehicleID",
    "veriwild": "reid.VERIWild",
    "viper": "reid.VIPeR",
    "prid2011": "reid.PRID2011",
    "grid": "reid.GRID",
    "ilids_vid": "reid.ILIDSVID",
}
"""Layout -> the registered dataset that reads it."""

PARSERS: dict[Layout, Callable[..., Splits]] = {
    "market1501": parse_market1501,
    "folder": parse_image_folder,
    "csv": parse_csv_list,
    "flat": parse_flat_folder,
    "dukemtmc": parse_dukemtmc,
    "cuhk03": parse_cuhk03,
    "msmt17": parse_msmt17,
    "veri776": parse_veri776,
    "vehicleid": parse_vehicleid,
    "veriwild": parse_veriwild,
    "viper": VIPeR.parse_tree,
    "prid2011": PRID2011.parse_tree,
    "grid": GRID.parse_tree,
    "ilids_vid": ILIDSVID.parse_tree,
}
"""Layout -> the function from a root and the dataset's own options to its lists."""

# Entries that no other layout has together, one tuple an alternative. What is recognised may still
# be incomplete: that is for the parser to explain.
_MARKS: dict[Layout, tuple[tuple[str, ...], ...]] = {
    "cuhk03": (
        *((f"{boxes}/{BOXES['train']}",) for names in BOX_FOLDERS.values() for boxes in names),
        ("images_labeled",),
        ("images_detected",),
        ("cuhk-03.mat",),
    ),
    "msmt17": (("list_train.txt", "train"), ("list_train.txt", "mask_train_v2")),
    "veri776": ((VERI776_FOLDERS["train"],), (VERI776_FOLDERS["gallery"],)),
    "vehicleid": (("image", "train_test_split"),),
    "veriwild": (("images", "train_test_split"),),
    "prid2011": (("single_shot/cam_a",), ("multi_shot/cam_a",)),
    "viper": (("cam_a", "cam_b"),),
    "grid": (("probe", "gallery"),),
    "ilids_vid": (("images/cam1", "images/cam2"),),
}
_FEW = 20  # sub-folders: what an archive was unpacked to, and not one for each identity


def recognise_layout(root: str | os.PathLike[str]) -> Layout:
    """The layout that ``root`` most probably has; whether it is complete is the parser's business.

    A CSV list is a ``.csv`` file, or the only one in a folder, with the columns ``path`` and
    ``pid``. The published sets show in their folders, here or one or two levels away (their parsers
    then name the right folder), and those that share Market-1501's ``bounding_box_*`` folders in
    the names of their images. Everything else is taken for identity folders. ``flat`` is never
    recognised, for it needs a pattern.
    """
    path = Path(root).expanduser()
    if path.is_file() and path.suffix.lower() in (".csv", ".tsv", ".txt"):
        return "csv"
    folder = existing_folder(path)
    parent = folder.absolute().parent
    inside = folder.name in {*BOXES.values(), *VERI776_FOLDERS.values()}
    for place in (folder, parent) if inside else (folder,):
        if found := _published(place):
            return found
    if len([p for p in folder.glob("*.csv") if _has_columns(p)]) == 1:
        return "csv"
    if folder.name == "single_shot":
        return "prid2011"
    for pattern in ("*/", "*/*/"):
        below = list(islice(folder.glob(pattern), _FEW + 1))
        if len(below) > _FEW:
            break
        if found := next(filter(None, map(_published, sorted(below))), None):
            return found
    return "folder"


def _published(folder: Path) -> Layout | None:
    """The published set whose folders lie in ``folder``; None for anything else."""
    if boxes := [p for name in ("train", "gallery") if (p := folder / BOXES[name]).is_dir()]:
        return _of_boxes(boxes[0])
    for layout, alternatives in _MARKS.items():
        if any(all((folder / name).exists() for name in names) for names in alternatives):
            if layout == "viper" and folder.name == "single_shot":
                return "prid2011"
            return layout
    return None


def _of_boxes(folder: Path) -> Layout:
    """Whose images these are: the sets that took over Market-1501's folders name them otherwise."""
    names = [os.path.basename(path) for path in islice(list_images(folder), 3)]  # noqa: PTH119
    if names and all(re.match(r"\d+_c\d_f\d+", name) for name in names):
        return "dukemtmc"
    if names and all(re.fullmatch(r"\d+_c[12]_\d+\.(png|jpg)", name) for name in names):
        return "cuhk03"
    return "market1501"


def _has_columns(file: Path) -> bool:
    with file.open(encoding="utf-8-sig", errors="replace") as lines:
        header = lines.readline(4096).lower().replace(";", ",").replace("\t", ",")
    return {"path", "pid"} <= {cell.strip().strip('"') for cell in header.split(",")}
