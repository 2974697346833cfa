"""VERI-Wild (Lou et al., "VERI-Wild: A Large Dataset and a New Method for Vehicle Re-Identification
in the Wild", CVPR 2019).

``images/00001/000001.jpg``, and in ``train_test_split/`` the lists ``train_list`` (or
``train_list_start0``), ``test_3000`` and ``test_3000_query`` (or ``test_3000_id`` ...), with lines
that begin with ``00001/000001``, and ``vehicle_info.txt``, whose lines ``00001/000001;23;...`` give
an image's camera.

Whether matches of the query's own camera count is contradictory in published code: an option here,
and said in the protocol.
"""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from engine.wording import counted, some
from imaging.cache import CacheOption
from reid.datasets.base import (
    CameraOption,
    Record,
    ReIDDataset,
    Splits,
    Transform,
    check_camera_option,
)
from reid.datasets.list_file import raise_missing, read_rows
from reid.datasets.protocol import state_protocol
from reid.datasets.tree import find_tree, first_of
from reid.registry import DATASETS

__all__ = ["OFFICIAL_COUNTS", "VERIWild", "parse_veriwild"]

Size: TypeAlias = Literal["small", "medium", "large"]
SameCamera: TypeAlias = Literal["drop", "keep"]

OFFICIAL_COUNTS: dict[Size, tuple[int, int, int]] = {
    "small": (277_797, 3_000, 38_861),
    "medium": (277_797, 5_000, 64_389),
    "large": (277_797, 10_000, 128_517),
}
"""Images of train, query and gallery."""


@DATASETS.register_module()
class VERIWild(ReIDDataset):
    """VERI-Wild; for the first arguments see :class:`ReIDDataset`.

    Args:
        size: 'small', 'medium' or 'large': 3,000, 5,000 or 10,000 vehicles to test on.
        same_camera: 'drop': matches of the query's own camera do not count, as elsewhere. 'keep':
            they do; query and gallery then carry no camera labels.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        transforms: Sequence[Any] | Transform | None = None,
        *,
        camera: CameraOption = "auto",
        cache: CacheOption = None,
        size: Size = "small",
        same_camera: SameCamera = "drop",
    ) -> None:
        self.size: Size = size
        self.same_camera: SameCamera = same_camera
        super().__init__(root, split, transforms, camera=camera, cache=cache)

    def parse(self) -> Splits:
        return parse_veriwild(
            self.root, camera=self.camera, size=self.size, same_camera=self.same_camera
        )


def parse_veriwild(
    root: str | os.PathLike[str],
    *,
    camera: CameraOption = "auto",
    size: Size = "small",
    same_camera: SameCamera = "drop",
) -> Splits:
    """The lists of a VERI-Wild tree; vehicles and cameras keep their numbers.

    Raises:
        FileNotFoundError: no such tree (one near is named), or images of the lists are missing.
        ValueError: an option that is not one, lines that are not those of VERI-Wild, or images
            without a camera.
    """
    check_camera_option(camera)
    if size not in OFFICIAL_COUNTS:
        raise ValueError(f"size must be {', '.join(OFFICIAL_COUNTS)}, got {size!r}")
    if same_camera not in ("drop", "keep"):
        raise ValueError(f"same_camera must be 'drop' or 'keep', got {same_camera!r}")
    official = OFFICIAL_COUNTS[size]
    folder = find_tree(
        root, ("images", "train_test_split/vehicle_info.txt"), title="a VERI-Wild folder"
    )
    lists = folder / "train_test_split"
    number = official[1]  # of vehicles tested, which is that of the queries
    files = {
        "train": first_of(lists, "train_list.txt", "train_list_start0.txt"),
        "query": first_of(lists, f"test_{number}_query.txt", f"test_{number}_id_query.txt"),
        "gallery": first_of(lists, f"test_{number}.txt", f"test_{number}_id.txt"),
    }
    names = {split: _read(file) for split, file in files.items()}
    for split, file in files.items():
        images = (f"{name}.jpg" for name in names[split])
        raise_missing(folder / "images", images, listed_in=repr(file.name))
    camera_of = _cameras(lists / "vehicle_info.txt") if camera else {}
    if camera:
        listed = dict.fromkeys(name for of_split in names.values() for name in of_split)
        if unknown := [name for name in listed if name not in camera_of]:
            raise ValueError(
                f"{str(lists / 'vehicle_info.txt')!r} has no camera for "
                f"{counted(len(unknown), 'image')} of the lists: {some(unknown)}; use files of "
                "one version of the data, or ignore cameras with camera=None"
            )
    base = str(folder / "images")

    def records(split: str, *, with_camera: bool) -> Iterator[Record]:
        for name in names[split]:
            camid = camera_of[name] if with_camera and camera else None
            yield Record(f"{base}/{name}.jpg", int(name.partition("/")[0]), camid)

    keep = same_camera == "keep"
    rule = "count" if keep else "do not count"
    how = f"{size} test set" + (f", matches of the query's own camera {rule}" if camera else "")
    train, query, gallery = (
        tuple(records(split, with_camera=split == "train" or not keep))
        for split in ("train", "query", "gallery")
    )
    counts = (len(train), len(query), len(gallery))
    return Splits(
        name="veriwild",
        protocol=state_protocol("veriwild", counts, official, how=how, camera=camera),
        train=train,
        query=query,
        gallery=gallery,
        root=str(folder),
        official=official,
    )


def _read(file: Path) -> list[str]:
    """``<vehicle>/<image>`` of each line, without ``.jpg``."""
    names = [row[0].removesuffix(".jpg") for row in read_rows(file, "vehicle/image")]
    if foreign := [name for name in names if not re.fullmatch(r"\d+/[^/]+", name)]:
        raise ValueError(
            f"{str(file)!r} has {counted(len(foreign), 'line')} not as in '00001/000001': "
            f"{some(foreign)}"
        )
    if not names:
        raise ValueError(f"the list {str(file)!r} names no image")
    return names


def _cameras(file: Path) -> dict[str, int]:
    """``<vehicle>/<image>`` -> camera; the first line is a header."""
    rows = read_rows(file, "vehicle/image camera", separator=";")
    if foreign := [";".join(row[:2]) for row in rows[1:] if not row[1].isdecimal()]:
        raise ValueError(
            f"{str(file)!r} has {counted(len(foreign), 'line')} not as in '00001/000001;23;...': "
            f"{some(foreign)}"
        )
    return {row[0].removesuffix(".jpg"): int(row[1]) for row in rows[1:]}
