"""Three flat folders, of train, query and gallery, whose file names say identity and camera.

Market-1501 began it, with names such as ``0002_c1s1_000451_03.jpg``: identity 2, camera 1. Identity
-1 (junk: bad detections) is dropped everywhere; identity 0 (distractors) stays in the gallery,
where it matches no query.

The camera number may have several digits, so that data of one's own in this layout with ten and
more cameras is read rightly; the official names read the same either way.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from engine.wording import counted, some
from imaging.files import list_images
from reid.datasets.base import CameraOption, Record, Splits, check_camera_option
from reid.datasets.protocol import state_protocol
from reid.datasets.tree import find_tree

__all__ = ["BOXES", "parse_three_folders"]

BOXES = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
"""Split -> folder, as Market-1501 calls them."""

_NAME = re.compile(r"(-?\d+)_c(\d+)")
_JUNK = -1


def parse_three_folders(
    root: str | os.PathLike[str],
    *,
    name: str,
    title: str,
    example: str,
    official: tuple[int, int, int],
    folders: Mapping[str, str] = BOXES,
    how: str = "",
    camera: CameraOption = "auto",
) -> Splits:
    """The lists of such a tree; numbers of identities and cameras are those of the file names.

    Counts other than the official ones are no error, but the protocol says so.

    Args:
        name: of the layout. title: of the data set, for messages. example: of a file name.
        official: numbers of images of train, query and gallery, junk dropped.
        how: for the protocol, see :func:`state_protocol`.

    Raises:
        FileNotFoundError: no such folder, or one without the three sub-folders; when a folder
            above or below has them, it is named.
        ValueError: a sub-folder without images, or image names of another pattern.
    """
    check_camera_option(camera)
    folder = find_tree(
        root,
        tuple(folders.values()),
        title=f"a {title} folder",
        remedy="for one folder per identity use reid.ImageFolder",
    )
    lists: dict[str, tuple[Record, ...]] = {}
    notes = []
    for split, below in folders.items():
        records = _parse_folder(folder / below, title, example, with_camera=camera is not None)
        lists[split] = tuple(r for r in records if r.pid != _JUNK)
        if not lists[split]:
            raise ValueError(f"{str(folder / below)!r} holds only images of identity -1 (junk)")
        if dropped := len(records) - len(lists[split]):
            notes.append(f"{below}: {counted(dropped, 'image')} of identity -1 (junk) left out")
    counts = (len(lists["train"]), len(lists["query"]), len(lists["gallery"]))
    return Splits(
        name=name,
        protocol=state_protocol(name, counts, official, how=how, camera=camera),
        train=lists["train"],
        query=lists["query"],
        gallery=lists["gallery"],
        root=str(folder),
        notes=tuple(notes),
        official=official,
    )


def _parse_folder(folder: Path, title: str, example: str, *, with_camera: bool) -> list[Record]:
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
            f"{str(folder)!r} has {number} not of {title}'s pattern "
            f"<identity>_c<camera>..., as in {example}: {some(foreign)}; rename or "
            "remove them, or describe the data with reid.ImageFolder or reid.CSVList"
        )
    if not records:
        nested = next(list_images(folder, recursive=True), None)
        hint = f"; images must lie directly in it, not as {nested!r}" if nested else ""
        raise ValueError(f"{str(folder)!r} holds no image{hint}")
    return records
