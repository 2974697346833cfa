"""MSMT17 (Wei et al., "Person Transfer GAN to Bridge Domain Gap for Person Re-identification",
CVPR 2018, https://arxiv.org/abs/1711.08565).

``list_{train,val,query,gallery}.txt`` with lines such as ``0000/0000_000_01_0303morning_0008_0.jpg
0``: a file, and its identity; the third field of the file's name is the camera. The images lie in
``train/`` and ``test/`` (V1), or ``mask_train_v2/`` and ``mask_test_v2/`` (V2, faces blurred).

Identities are numbered from 0 in the training lists and from 0 again in the test lists, though
they are other people: here the test ones go on where the training ones end.

Some papers train on ``list_train`` alone, others on ``list_val``, too, and for a transfer to other
data on all lists: numbers that cannot be compared, so the protocol says which.
"""

import os
from collections.abc import Sequence
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
from reid.datasets.tree import find_tree
from reid.registry import DATASETS

__all__ = ["FOLDERS", "MSMT17", "OFFICIAL_COUNTS", "parse_msmt17"]

Train: TypeAlias = Literal["train", "train+val", "all"]

FOLDERS = {"V1": ("train", "test"), "V2": ("mask_train_v2", "mask_test_v2")}
"""Version -> the folders of training and of test images."""
OFFICIAL_COUNTS: dict[Train, tuple[int, int, int]] = {
    "train": (30_248, 11_659, 82_161),
    "train+val": (32_621, 11_659, 82_161),
    "all": (126_441, 0, 0),
}
"""Images of train, query and gallery, by what is trained on."""

_LISTS = {
    "train": ("train",),
    "train+val": ("train", "val"),
    "all": ("train", "val", "query", "gallery"),
}


@DATASETS.register_module()
class MSMT17(ReIDDataset):
    """MSMT17, 15 cameras; for the first arguments see :class:`ReIDDataset`.

    Args:
        train: the lists to train on: 'train', 'train+val', or 'all' four, which leaves nothing to
            test on and is meant for tests on other data.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        transforms: Sequence[Any] | Transform | None = None,
        *,
        camera: CameraOption = "auto",
        cache: CacheOption = None,
        train: Train = "train",
    ) -> None:
        self.train: Train = train
        super().__init__(root, split, transforms, camera=camera, cache=cache)

    def parse(self) -> Splits:
        return parse_msmt17(self.root, camera=self.camera, train=self.train)


def parse_msmt17(
    root: str | os.PathLike[str], *, camera: CameraOption = "auto", train: Train = "train"
) -> Splits:
    """The lists of an MSMT17 tree; cameras are numbered as in the names.

    Raises:
        FileNotFoundError: no such tree (one near is named), or images of the lists are missing.
        ValueError: an option that is not one, or lines that are not those of MSMT17.
    """
    check_camera_option(camera)
    if train not in _LISTS:
        raise ValueError(f"train must be 'train', 'train+val' or 'all', got {train!r}")
    folder = find_tree(
        root,
        *(("list_train.txt", *folders) for folders in FOLDERS.values()),
        title="an MSMT17 folder",
    )
    version, folders = next(
        (v, names) for v, names in FOLDERS.items() if (folder / names[0]).is_dir()
    )
    trained, tested = folders
    # a list that is not asked for may be missing, but the numbers of the test identities must not
    # change with what is trained on
    for_train = [
        "train",
        *(["val"] if (folder / "list_val.txt").is_file() or train != "train" else []),
    ]
    records = {name: _read(folder, name, trained, camera, 0) for name in for_train}
    offset = 1 + max(r.pid for of_list in records.values() for r in of_list)
    records |= {name: _read(folder, name, tested, camera, offset) for name in ("query", "gallery")}
    used = tuple(r for name in _LISTS[train] for r in records[name])
    query, gallery = ((), ()) if train == "all" else (records["query"], records["gallery"])
    how = {
        "train": "trained on list_train alone",
        "train+val": "trained on list_train and list_val",
        "all": "trained on all four lists, nothing left to test on",
    }[train]
    official = OFFICIAL_COUNTS[train]
    counts = (len(used), len(query), len(gallery))
    return Splits(
        name="msmt17",
        protocol=state_protocol("msmt17", counts, official, how=f"{version}, {how}", camera=camera),
        train=used,
        query=query,
        gallery=gallery,
        root=str(folder),
        identities={
            r.pid: f"train {r.pid}" if r.pid < offset else f"test {r.pid - offset}"
            for r in (*used, *query, *gallery)
        },
        official=official,
    )


def _read(
    folder: Path, name: str, images: str, camera: CameraOption, offset: int
) -> tuple[Record, ...]:
    file = folder / f"list_{name}.txt"
    rows = read_rows(file, "image identity")
    base = str(folder / images)
    records, foreign = [], []
    for path, identity, *_ in rows:
        fields = path.rpartition("/")[2].split("_")
        if len(fields) > 2 and fields[2].isdecimal() and identity.isdecimal():
            camid = int(fields[2]) if camera else None
            records.append(Record(f"{base}/{path}", offset + int(identity), camid))
        else:
            foreign.append(f"{path} {identity}")
    if foreign:
        raise ValueError(
            f"{str(file)!r} has {counted(len(foreign), 'line')} not as in "
            f"'0000/0000_000_01_0303morning_0008_0.jpg 0', where 01 is the camera and 0 the "
            f"identity: {some(foreign)}"
        )
    if not records:
        raise ValueError(f"the list {str(file)!r} names no image")
    raise_missing(folder / images, (row[0] for row in rows), listed_in=repr(file.name))
    return tuple(records)
