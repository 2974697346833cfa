"""VehicleID (Liu et al., "Deep Relative Distance Learning: Tell the Difference Between Similar
Vehicles", CVPR 2016).

``image/0000001.jpg``, and ``train_test_split/{train_list,test_list_800}.txt`` with lines such as
``0108798 1``: an image's name without ``.jpg``, and its vehicle. There are no cameras.

One random image of each vehicle is the gallery, all others are queries; the result is the mean
over ten such draws. The draws depend on (seed, names) alone.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

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
from reid.datasets.splitting import draw_one_each
from reid.datasets.tree import find_tree
from reid.registry import DATASETS

__all__ = ["OFFICIAL_COUNTS", "VehicleID", "parse_vehicleid"]

Size: TypeAlias = Literal["small", "medium", "large"]

OFFICIAL_COUNTS: dict[Size, tuple[int, int, int]] = {
    "small": (113_346, 5_693, 800),
    "medium": (113_346, 11_777, 1_600),
    "large": (113_346, 17_377, 2_400),
}
"""Images of train, and of query and gallery in each draw."""


@DATASETS.register_module()
class VehicleID(ReIDDataset):
    """VehicleID; for the first arguments see :class:`ReIDDataset`.

    Args:
        size: 'small', 'medium' or 'large': 800, 1,600 or 2,400 vehicles to test on.
        draws: of the gallery; ``metainfo['trials']`` has one entry for each. The splits 'query'
            and 'gallery' are the first draw.
        seed: of the draws.
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
        draws: int = 10,
        seed: int = 0,
    ) -> None:
        self.size: Size = size
        self.draws = draws
        self.seed = seed
        super().__init__(root, split, transforms, camera=camera, cache=cache)

    def parse(self) -> Splits:
        return parse_vehicleid(
            self.root, camera=self.camera, size=self.size, draws=self.draws, seed=self.seed
        )


def parse_vehicleid(
    root: str | os.PathLike[str],
    *,
    camera: CameraOption = "auto",
    size: Size = "small",
    draws: int = 10,
    seed: int = 0,
) -> Splits:
    """The lists of a VehicleID tree; vehicles keep their numbers.

    Raises:
        FileNotFoundError: no such tree (one near is named), or images of the lists are missing.
        ValueError: an option that is not one, or lines that are not those of VehicleID.
    """
    check_camera_option(camera)
    if size not in OFFICIAL_COUNTS:
        raise ValueError(f"size must be {', '.join(OFFICIAL_COUNTS)}, got {size!r}")
    official = OFFICIAL_COUNTS[size]
    folder = find_tree(
        root, ("image", "train_test_split/train_list.txt"), title="a VehicleID folder"
    )
    train = _read(folder, "train_list.txt")
    test = _read(folder, f"test_list_{official[2]}.txt")
    galleries = draw_one_each(test, draws=draws, root=str(folder), seed=seed)
    first = set(galleries[0])
    query = [k for k in range(len(test)) if k not in first]
    # the split 'test' is query and gallery of the first draw; every trial points into it
    place = np.empty(len(test), np.int64)
    place[[*query, *galleries[0]]] = np.arange(len(test))
    trials = []
    for chosen in galleries:
        searched = np.ones(len(test), bool)
        searched[place[chosen]] = False
        trials.append((np.flatnonzero(searched), np.sort(place[chosen])))
    counts = (len(train), len(query), len(first))
    return Splits(
        name="vehicleid",
        protocol=state_protocol(
            "vehicleid",
            counts,
            official,
            how=f"{size} test set, one random gallery image a vehicle and the rest queries, mean "
            f"of {counted(draws, 'draw')} (seed {seed}), no cameras",
        ),
        train=train,
        query=tuple(test[k] for k in query),
        gallery=tuple(test[k] for k in galleries[0]),
        root=str(folder),
        official=official,
        trials=tuple(trials),
    )


def _read(folder: Path, name: str) -> tuple[Record, ...]:
    file = folder / "train_test_split" / name
    base = str(folder / "image")
    rows = read_rows(file, "image vehicle")
    if foreign := [f"{image} {vehicle}" for image, vehicle, *_ in rows if not vehicle.isdecimal()]:
        raise ValueError(
            f"{str(file)!r} has {counted(len(foreign), 'line')} without the vehicle's number, as "
            f"in '0108798 1': {some(foreign)}"
        )
    if not rows:
        raise ValueError(f"the list {str(file)!r} names no image")
    files = [f"{image.removesuffix('.jpg')}.jpg" for image, *_ in rows]
    raise_missing(folder / "image", files, listed_in=repr(name))
    return tuple(
        Record(f"{base}/{image}", int(row[1]), None) for image, row in zip(files, rows, strict=True)
    )
