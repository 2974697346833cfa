"""Mapillary Vistas 1.2 and 2.0: Neuhold et al., ICCV 2017."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from seg.label_spaces import SOURCES
from seg.registry import DATASETS

from .base import IMAGE_SUFFIXES, SegmentationDataset, keyed, resolve_source

_FOLDERS = {"train": "training", "val": "validation"}

_CLASSES = {
    "construction--flat--road": "road",
    "object--manhole": "road",
    "construction--barrier--curb": "sidewalk",
    "construction--flat--sidewalk": "sidewalk",
    "construction--structure--building": "building",
    "construction--barrier--wall": "wall",
    "construction--barrier--fence": "fence",
    "object--support--pole": "pole",
    "object--support--utility-pole": "pole",
    "nature--vegetation": "vegetation",
    "nature--terrain": "terrain",
    "nature--sky": "sky",
    "human--person": "person",
    "object--vehicle--car": "car",
    "object--vehicle--truck": "truck",
    "object--vehicle--bus": "bus",
    "object--vehicle--on-rails": "train",
    "object--vehicle--motorcycle": "motorcycle",
    "object--vehicle--bicycle": "bicycle",
}


def class_of(name: str) -> str | None:
    """Mapillary's name of a class -> Cityscapes' name, or None to ignore it.

    Version 2.0 splits classes of 1.2 (lane markings, persons, traffic lights and signs); its parts
    go where RobustNet's list for 1.2 puts the whole: markings but zebra crossings are road, the
    backs of signs are ignored.
    """
    if name in _CLASSES:
        return _CLASSES[name]
    if name.startswith("human--person--"):
        return "person"
    if name.startswith("human--rider--"):
        return "rider"
    if name.startswith(("marking--", "marking-only--")):
        return None if "crosswalk" in name else "road"
    if name.startswith("object--traffic-light"):
        return "traffic light"
    if name.startswith("object--traffic-sign--") and not name.endswith("back"):
        return "traffic sign"
    return None


@DATASETS.register_module()
class Mapillary(SegmentationDataset):
    """``{training,validation}/images/*.jpg`` and ``labels/*.png`` (or ``v1.2/labels``, ...).

    18,000 and 2,000 images; train is ``training``, val is ``validation``. Ids of version 1.2 (66)
    are known; those of 2.0 (124) are read by name from the ``config_v2.0.json`` that ships with
    the data. Both go onto 19 classes as in RobustNet.

    Args:
        version: ``"1.2"``, ``"2.0"``, or ``"auto"``: 1.2 where there is a folder of its labels.
        **options: see :class:`SegmentationDataset`.
    """

    NAME = "mapillary"
    SPLITS = ("train", "val")
    EXPECTED = (
        "Mapillary Vistas' folders {training,validation}/images and {training,validation}/labels "
        "(or v1.2/labels, v2.0/labels below them)"
    )

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        *,
        version: str = "auto",
        **options: Any,
    ) -> None:
        if version not in ("auto", "1.2", "2.0"):
            raise ValueError(f"Mapillary's version is '1.2', '2.0' or 'auto', got {version!r}")
        self.version = version
        super().__init__(root, split, **options)

    @classmethod
    def matches(cls, root: Path) -> bool:
        return any(
            (root / folder / "images").is_dir()
            and any((root / folder / p).is_dir() for p in ("labels", "v1.2/labels", "v2.0/labels"))
            for folder in _FOLDERS.values()
        )

    def find(self) -> tuple[dict[str, str], dict[str, str]]:
        root = Path(self.root)
        folders = [root / _FOLDERS[s] for s in self.splits]
        version = self._version(folders)
        if version == "1.2":
            self.source = self._source_12(root)
        else:
            self.source = self._source_20(root)
        self.protocol = (
            f"Mapillary Vistas {version} {self.split}: the official folder"
            f"{'s' if len(folders) > 1 else ''} {', '.join(f.name for f in folders)}"
        )
        images: dict[str, str] = {}
        labels: dict[str, str] = {}
        for folder in folders:
            found = {
                f"{folder.name}/{k}": p for k, p in keyed(folder / "images", IMAGE_SUFFIXES).items()
            }
            images |= found
            where = folder / f"v{version}" / "labels"
            if not where.is_dir():
                where = folder / "labels"
            labels |= {f"{folder.name}/{k}": p for k, p in keyed(where, ".png").items()}
        return images, labels

    def _version(self, folders: list[Path]) -> str:
        for version in ("1.2", "2.0"):
            if self.version in ("auto", version) and any(
                (f / f"v{version}" / "labels").is_dir() for f in folders
            ):
                return version
        if any((f / "labels").is_dir() for f in folders) and self.version != "2.0":
            return "1.2"  # only 1.2 came without a folder for its version
        there = sorted({p.parent.name for f in folders for p in f.glob("v*/labels")})
        raise FileNotFoundError(
            f"Mapillary: no labels of version {self.version} below "
            f"{', '.join(map(str, folders))}; there are {', '.join(there) or 'none'}"
        )

    def _source_12(self, root: Path) -> str:
        for name in ("config_v1.2.json", "config.json"):
            if (root / name).is_file():
                ids = _ids_from(root / name)
                wrong = [
                    i for i, c in SOURCES["mapillary12"].ids.items() if ids.get(i, "absent") != c
                ]
                if wrong:
                    raise ValueError(
                        f"{str(root / name)!r} gives other classes than Mapillary Vistas 1.2 to "
                        f"the ids {', '.join(map(str, wrong[:8]))}: are the labels of another "
                        "version? Say version='2.0', or remove the file"
                    )
        return "mapillary12"

    def _source_20(self, root: Path) -> str:
        path = root / "config_v2.0.json"
        if not path.is_file():
            raise FileNotFoundError(
                f"Mapillary 2.0: {str(path)!r} is not there. It ships with the data and names the "
                "124 ids; copy it to the root, or say version='1.2'"
            )
        return resolve_source(_ids_from(path))


def _ids_from(path: Path) -> dict[int, str | None]:
    """A config file of Mapillary -> {id: class}; the id is the place in its list of labels."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["labels"]
        return {number: class_of(entry["name"]) for number, entry in enumerate(entries)}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{str(path)!r} is not a config of Mapillary Vistas (expected a list 'labels' of "
            f"entries with a 'name'): {error!r}"
        ) from None
