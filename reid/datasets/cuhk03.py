"""CUHK03 (Li et al., "DeepReID: Deep Filter Pairing Neural Network for Person Re-identification",
CVPR 2014), in the two forms in which people have it.

- CUHK03-NP (Zhong et al., CVPR 2017, https://arxiv.org/abs/1701.08398): Market-1501's three
  folders below ``labeled`` and ``detected``; the new protocol only.
- ``images_labeled``, ``images_detected`` and ``splits_{new,classic}_{labeled,detected}.json``, as
  torchreid extracts them: both protocols. Names such as ``1_001_2_07.png``: camera pair 1, person
  1 of it, view 2, image 7. Of the JSON files only the file names are used, for their numbers of
  identities begin at 0 in train and in test alike.

The classic protocol searches 100 people: the queries are their images of view 1, the gallery is
one random image of each of view 2, and the result is the mean over ten draws. It comes with 20
test sets of 100 people, ``test_set=0`` to ``19``; published numbers are means over them.
"""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from engine.wording import some
from imaging.cache import CacheOption
from imaging.files import existing_folder
from reid.datasets.base import (
    CameraOption,
    Record,
    ReIDDataset,
    Splits,
    Transform,
    check_camera_option,
)
from reid.datasets.list_file import raise_missing
from reid.datasets.protocol import state_protocol
from reid.datasets.splitting import draw_gallery
from reid.datasets.three_folders import BOXES, parse_three_folders
from reid.datasets.tree import find_tree
from reid.registry import DATASETS

__all__ = ["BOX_FOLDERS", "CUHK03", "OFFICIAL_COUNTS", "parse_cuhk03"]

Protocol: TypeAlias = Literal["new", "classic"]
Boxes: TypeAlias = Literal["labelled", "detected"]

BOX_FOLDERS = {"labelled": ("labeled", "labelled"), "detected": ("detected",)}
OFFICIAL_COUNTS = {"labelled": (7_368, 1_400, 5_328), "detected": (7_365, 1_400, 5_332)}
"""Images of train, query and gallery under the new protocol."""

_CLASSIC_IDENTITIES = (1_367, 100)  # trained on and tested; the images depend on the test set
_DRAWS = 10
_NAME = re.compile(r"(\d+)_(\d+)_([12])_(\d+)\.png")


@DATASETS.register_module()
class CUHK03(ReIDDataset):
    """CUHK03; for the first arguments see :class:`ReIDDataset`.

    Args:
        protocol: 'new' (767 identities to train on, 700 to test), or 'classic', see above.
        boxes: cut out by hand, 'labelled', or by a program, 'detected'. None: those that ``root``
            is named after, else the labelled ones.
        test_set: 0 to 19, of the classic protocol.
        seed: of its draws.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        transforms: Sequence[Any] | Transform | None = None,
        *,
        camera: CameraOption = "auto",
        cache: CacheOption = None,
        protocol: Protocol = "new",
        boxes: Boxes | None = None,
        test_set: int = 0,
        seed: int = 0,
    ) -> None:
        self.protocol: Protocol = protocol
        self.boxes: Boxes | None = boxes
        self.test_set = test_set
        self.seed = seed
        super().__init__(root, split, transforms, camera=camera, cache=cache)

    def parse(self) -> Splits:
        return parse_cuhk03(
            self.root,
            camera=self.camera,
            protocol=self.protocol,
            boxes=self.boxes,
            test_set=self.test_set,
            seed=self.seed,
        )


def parse_cuhk03(
    root: str | os.PathLike[str],
    *,
    camera: CameraOption = "auto",
    protocol: Protocol = "new",
    boxes: Boxes | None = None,
    test_set: int = 0,
    seed: int = 0,
) -> Splits:
    """The lists of CUHK03; the arguments are those of :class:`CUHK03`.

    Raises:
        FileNotFoundError: neither of the two forms is there; ``cuhk-03.mat`` alone is no form that
            can be read, and the message says how to convert it.
        ValueError: an option that is not one, or names of files that are not those of CUHK03.
    """
    check_camera_option(camera)
    if protocol not in ("new", "classic"):
        raise ValueError(f"protocol must be 'new' or 'classic', got {protocol!r}")
    if boxes not in (None, *BOX_FOLDERS):
        raise ValueError(f"boxes must be 'labelled' or 'detected', got {boxes!r}")
    folder = existing_folder(root)
    named = next((b for b, names in BOX_FOLDERS.items() if folder.resolve().name in names), None)
    own = (folder / BOXES["train"]).is_dir()  # the folder of one kind of boxes itself
    if own and named and boxes and boxes != named:
        raise ValueError(
            f"{str(folder)!r} holds the {named} boxes, not the {boxes} ones: give the folder "
            f"above it, or boxes={named!r}"
        )
    chosen: Boxes = boxes or (named if own and named else "labelled")  # type: ignore[assignment]
    below = next((folder / n for n in BOX_FOLDERS[chosen] if (folder / n).is_dir()), None)
    if own or below is not None:
        if protocol == "classic":
            raise ValueError(
                f"{str(folder)!r} holds the new protocol's folders, which do not say who is in the "
                "classic test sets; that needs images_labeled/, images_detected/ and "
                "splits_classic_*.json"
            )
        return parse_three_folders(
            folder if own else below or folder,
            name="cuhk03",
            title="CUHK03",
            example="0001_c1_1.png",
            official=OFFICIAL_COUNTS[chosen],
            how=f"new protocol, {chosen} boxes",
            camera=camera,
        )
    return _parse_release(
        _release(folder, protocol, chosen), chosen, protocol, test_set, seed, camera
    )


def _release(folder: Path, protocol: Protocol, boxes: Boxes) -> Path:
    """The folder of images and JSON lists, or what to do when there is none."""
    spelt = {"labelled": "labeled", "detected": "detected"}[boxes]
    mat = next(
        (p for p in (folder, folder / "cuhk03_release") if (p / "cuhk-03.mat").is_file()), None
    )
    needed = (f"images_{spelt}", f"splits_{protocol}_{spelt}.json")
    if mat is not None and not (folder / needed[0]).is_dir():
        inside = folder / "cuhk03_release"
        if all((inside / name).exists() for name in needed):
            return inside
        raise FileNotFoundError(
            f"{str(mat / 'cuhk-03.mat')!r} is an HDF5 file, which is not read here: extract it "
            f"once to {needed[0]}/ and {needed[1]}, as torchreid does when it first loads CUHK03 "
            "(that needs h5py and scipy), or get CUHK03-NP, whose folders labeled/ and detected/ "
            "hold the new protocol as images"
        )
    folders = (f"{spelt}/{BOXES['train']}",), tuple(BOXES.values())
    return find_tree(
        folder,
        needed,
        *(folders if protocol == "new" else ()),
        title=f"a CUHK03 folder with {boxes} boxes and lists of the {protocol} protocol",
        remedy=f"as torchreid extracts it: {' and '.join(needed)}",
    )


def _parse_release(
    folder: Path,
    boxes: Boxes,
    protocol: Protocol,
    test_set: int,
    seed: int,
    camera: CameraOption,
) -> Splits:
    spelt = {"labelled": "labeled", "detected": "detected"}[boxes]
    images = folder / f"images_{spelt}"
    lists = folder / f"splits_{protocol}_{spelt}.json"
    names = _read_lists(lists, test_set if protocol == "classic" else 0)
    raise_missing(
        images, (n for split in names.values() for n in split), listed_in=repr(str(lists))
    )
    records = {
        split: tuple(_record(images, n, lists, camera) for n in of_split)
        for split, of_split in names.items()
    }
    identities = {
        r.pid: f"pair {r.pid // 1000} person {r.pid % 1000}"
        for of_split in records.values()
        for r in of_split
    }
    if protocol == "new":
        counts = (len(names["train"]), len(names["query"]), len(names["gallery"]))
        official = OFFICIAL_COUNTS[boxes]
        words = state_protocol(
            "cuhk03", counts, official, how=f"new protocol, {boxes} boxes", camera=camera
        )
        return Splits(
            name="cuhk03",
            protocol=words,
            train=records["train"],
            query=records["query"],
            gallery=records["gallery"],
            root=str(folder),
            identities=identities,
            official=official,
        )
    tested = sorted({*names["query"], *names["gallery"]})  # the lists hold both views in both
    query = tuple(_record(images, n, lists, camera) for n in tested if _view(n) == 1)
    gallery = tuple(_record(images, n, lists, camera) for n in tested if _view(n) == 2)
    found = tuple(len({r.pid for r in side}) for side in (records["train"], query + gallery))
    whole = "official" if found == _CLASSIC_IDENTITIES else "not the official"
    ignored = "" if camera else "; camera labels ignored"
    return Splits(
        name="cuhk03",
        protocol=(
            f"cuhk03 classic protocol, {boxes} boxes, test set {test_set} (customary: the mean of "
            f"0 to 19), {found[0]:,} identities trained on and {found[1]:,} tested: {whole} "
            f"numbers; queries of view 1, one random gallery image of view 2 an identity, mean of "
            f"{_DRAWS} draws (seed {seed}){ignored}"
        ),
        train=records["train"],
        query=query,
        gallery=gallery,
        root=str(folder),
        identities=identities,
        trials=draw_gallery(query, gallery, draws=_DRAWS, root=str(folder), seed=seed),
    )


def _read_lists(file: Path, place: int) -> dict[str, list[str]]:
    """Split -> file names; the folders before them are those of the computer that wrote them."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if not 0 <= place < len(content):
            raise ValueError(f"test_set must be from 0 to {len(content) - 1}, got {place}")
        return {
            split: [re.split(r"[/\\]", entry[0])[-1] for entry in content[place][split]]
            for split in ("train", "query", "gallery")
        }
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, IndexError, TypeError) as error:
        raise ValueError(
            f"{str(file)!r} is not a list of splits with [path, identity, camera] in train, query "
            f"and gallery ({type(error).__name__}: {error}); extract it again"
        ) from error


def _record(images: Path, name: str, lists: Path, camera: CameraOption) -> Record:
    found = _NAME.fullmatch(name)
    if not found:
        raise ValueError(
            f"{str(lists)!r} names {some([name])}, which is not "
            "<camera pair>_<person>_<view>_<image>.png, as in 1_001_2_07.png"
        )
    pid = 1000 * int(found[1]) + int(found[2])  # a pair of cameras has fewer than 1,000 people
    return Record(str(images / name), pid, int(found[3]) if camera else None)


def _view(name: str) -> int:
    found = _NAME.fullmatch(name)
    assert found is not None  # all names have become records
    return int(found[3])
