"""Market-1501 (Zheng et al., "Scalable Person Re-identification: A Benchmark", ICCV 2015).

Layout: ``bounding_box_train``, ``query``, ``bounding_box_test`` with names such as
``0002_c1s1_000451_03.jpg``: identity 2, camera 1. Identity -1 (junk: bad detections) is dropped
everywhere; identity 0 (distractors) stays in the gallery, where it matches no query.

The camera number may have several digits, so that data of one's own in this layout with ten and
more cameras is read rightly; the official names, with one digit, read the same either way.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from engine.wording import counted, some
from imaging.files import existing_folder, list_images
from reid.datasets.base import CameraOption, Record, ReIDDataset, Splits, check_camera_option
from reid.registry import DATASETS

__all__ = ["FOLDERS", "OFFICIAL_COUNTS", "Market1501", "parse_market1501"]

FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
OFFICIAL_COUNTS = (12_936, 3_368, 15_913)
"""Images of train, query and gallery, junk dropped."""

_NAME = re.compile(r"(-?\d+)_c(\d+)")
_JUNK = -1


@DATASETS.register_module()
class Market1501(ReIDDataset):
    """Market-1501, or data of one's own in its layout; see :class:`ReIDDataset`."""

    def parse(self) -> Splits:
        return parse_market1501(self.root, camera=self.camera)


def parse_market1501(root: str | os.PathLike[str], *, camera: CameraOption = "auto") -> Splits:
    """The lists of a Market-1501 tree; numbers of identities and cameras are those of the names.

    Counts other than the official ones are no error, but the protocol says so.

    Raises:
        FileNotFoundError: no such folder, or one without the three sub-folders; when a folder
            above or below has them, it is named.
        ValueError: a sub-folder without images, or image names of another pattern.
    """
    check_camera_option(camera)
    folder = existing_folder(root)
    _check_layout(folder)
    lists: dict[str, tuple[Record, ...]] = {}
    notes = []
    for split, name in FOLDERS.items():
        records = _parse_folder(folder / name, with_camera=camera is not None)
        lists[split] = tuple(r for r in records if r.pid != _JUNK)
        if not lists[split]:
            raise ValueError(f"{str(folder / name)!r} holds only images of identity -1 (junk)")
        if dropped := len(records) - len(lists[split]):
            notes.append(f"{name}: {counted(dropped, 'image')} of identity -1 (junk) left out")
    return Splits(
        name="market1501",
        protocol=_protocol([len(records) for records in lists.values()], camera),
        train=lists["train"],
        query=lists["query"],
        gallery=lists["gallery"],
        root=str(folder),
        notes=tuple(notes),
    )


def _protocol(counts: Sequence[int], camera: CameraOption) -> str:
    found = "/".join(f"{n:,}" for n in counts)
    official = tuple(counts) == OFFICIAL_COUNTS
    words = (
        f"market1501 official split, {found} images"
        if official
        else f"market1501 layout, {found} images: not the official split"
    )
    return words if camera else f"{words}; camera labels ignored"


def _check_layout(folder: Path) -> None:
    missing = [name for name in FOLDERS.values() if not (folder / name).is_dir()]
    if not missing:
        return
    remedy = "give the folder that contains all of " + ", ".join(FOLDERS.values())
    if better := _market_folder_near(folder):
        remedy = f"use {str(better)!r} instead, which has them"
    elif len(missing) == len(FOLDERS):
        remedy += "; for one folder per identity use reid.ImageFolder"
    raise FileNotFoundError(
        f"{str(folder)!r} is not a Market-1501 folder: {', '.join(missing)} "
        f"{'is' if len(missing) == 1 else 'are'} missing; {remedy}"
    )


def _market_folder_near(folder: Path) -> Path | None:
    """A complete tree above or up to two levels below, where unpacking often leaves it."""
    near = [folder.absolute().parent, *sorted(folder.glob("*/")), *sorted(folder.glob("*/*/"))]
    return next((p for p in near if all((p / f).is_dir() for f in FOLDERS.values())), None)


def _parse_folder(folder: Path, *, with_camera: bool) -> list[Record]:
    records, foreign = [], []
    for path in list_images(folder):
        found = _NAME.match(os.path.basename(path))  # noqa: PTH119 - a string, for every image
        if found:
            camid = int(found[2]) if with_camera else None
            records.append(Record(path, int(found[1]), camid))
        else:
            foreign.append(os.path.basename(path))  # noqa: PTH119
    if foreign:
        number = counted(len(foreign), "image name")
        raise ValueError(
            f"{str(folder)!r} has {number} not of Market-1501's pattern "
            f"<identity>_c<camera>..., as in 0002_c1s1_000451_03.jpg: {some(foreign)}; rename or "
            "remove them, or describe the data with reid.ImageFolder or reid.CSVList"
        )
    if not records:
        nested = next(list_images(folder, recursive=True), None)
        hint = f"; images must lie directly in it, not as {nested!r}" if nested else ""
        raise ValueError(f"{str(folder)!r} holds no image{hint}")
    return records
