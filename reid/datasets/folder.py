"""One folder per identity: the layout that data of one's own usually has.

``<root>/<identity>/<file>``, with any names; or ``<root>/train``, ``<root>/query`` and
``<root>/gallery`` with such identity folders inside (``<root>/test`` instead of the last two is
split automatically). Sub-folders of an identity are searched too.
"""

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from engine.wording import counted, some
from imaging.cache import CacheOption
from imaging.files import existing_folder, list_images, relative_name
from reid.datasets.base import (
    CameraOption,
    Record,
    ReIDDataset,
    Splits,
    Transform,
    check_camera_option,
)
from reid.datasets.name_pattern import compile_name_pattern, find_names
from reid.datasets.splitting import automatic_split, split_query_gallery
from reid.registry import DATASETS

__all__ = ["ImageFolder", "compile_camera_pattern", "guess_camera_pattern", "parse_image_folder"]

_SUBTREES = ("train", "query", "gallery", "test")


@DATASETS.register_module()
class ImageFolder(ReIDDataset):
    r"""Images in one folder per identity; for the first arguments see :class:`ReIDDataset`.

    Args:
        camera_pattern: a regular expression with one group, searched for in the file's path below
            its identity folder (mostly that is the file name); the group is the camera's name.
            ``r"^(\d+)_"`` reads camera 01 from ``01_3.jpg``, ``r"^([^/]+)/"`` from ``01/3.jpg``.
            None: no camera labels.
        train_fraction: part of the identities to train on where the tree gives no split; 0 makes
            all of them test identities.
        seed: of the automatic split.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        transforms: Sequence[Mapping[str, Any]] | Transform | None = None,
        *,
        camera: CameraOption = "auto",
        cache: CacheOption = None,
        camera_pattern: str | None = None,
        train_fraction: float = 0.5,
        seed: int = 0,
    ) -> None:
        self.camera_pattern = camera_pattern
        self.train_fraction = train_fraction
        self.seed = seed
        super().__init__(root, split, transforms, camera=camera, cache=cache)

    def parse(self) -> Splits:
        return parse_image_folder(
            self.root,
            camera=self.camera,
            camera_pattern=self.camera_pattern,
            train_fraction=self.train_fraction,
            seed=self.seed,
        )


def parse_image_folder(
    root: str | os.PathLike[str],
    *,
    camera: CameraOption = "auto",
    camera_pattern: str | None = None,
    train_fraction: float = 0.5,
    seed: int = 0,
) -> Splits:
    """The lists of a tree of identity folders; identities and cameras are numbered in name order.

    Raises:
        FileNotFoundError, NotADirectoryError: ``root`` is no folder, or ``query`` lacks
            ``gallery``.
        ValueError: no identity folders or no images in them, one folder too high or too deep, a
            pattern that is not valid or does not match every file.
    """
    check_camera_option(camera)
    pattern = compile_camera_pattern(camera_pattern) if camera else None
    folder = existing_folder(root)
    subtrees = _subtrees(folder)
    notes: list[str] = []
    files = {  # sub-tree -> identity name -> paths
        subtree: _identity_files(folder / subtree, notes) for subtree in subtrees or ("",)
    }
    if not subtrees:
        _check_depth(folder, files[""])
    identities = dict(enumerate(sorted({name for tree in files.values() for name in tree})))
    camera_of = _camera_names(files, folder, pattern)
    cameras = dict(enumerate(sorted(set(camera_of.values()))))
    pid_of = {name: pid for pid, name in identities.items()}
    camid_of = {name: camid for camid, name in cameras.items()}
    lists = {
        subtree: tuple(
            Record(path, pid_of[name], camid_of[camera_of[path]] if pattern else None)
            for name, paths in tree.items()
            for path in paths
        )
        for subtree, tree in files.items()
    }

    if not subtrees:
        how = f"identities split automatically (train_fraction {train_fraction:g}, seed {seed})"
        train, query, gallery = automatic_split(
            lists[""],
            identities=identities,
            root=str(folder),
            train_fraction=train_fraction,
            seed=seed,
        )
    elif "test" in subtrees:
        how = f"train and test as in the folders, query and gallery automatic (seed {seed})"
        train = lists.get("train", ())
        query, gallery = split_query_gallery(lists["test"], root=str(folder), seed=seed)
    else:
        how = f"{', '.join(subtrees)} as in the folders"
        train, query, gallery = (lists.get(s, ()) for s in ("train", "query", "gallery"))
    source = f"cameras by '{camera_pattern}'" if pattern else "no cameras"
    return Splits(
        name=folder.resolve().name,
        protocol=f"image folder, {how}, {source}",
        train=train,
        query=query,
        gallery=gallery,
        root=str(folder),
        identities=identities,
        cameras=cameras,
        notes=tuple(notes),
    )


def guess_camera_pattern(names: Iterable[str]) -> str | None:
    """A pattern that probably finds the camera in such file names; a hint for the user, no more.

    It must match every name and give between 2 and 64 cameras with many images each.
    """
    names = list(names)
    for pattern in (r"_c(\d+)", r"[cC]am(?:era)?[_-]?(\d+)", r"^[cC](\d+)[_-]", r"^(\d+)_"):
        found = [m[1] for m in map(re.compile(pattern).search, names) if m]
        counts = Counter(found)
        if len(found) == len(names) and 2 <= len(counts) <= 64 and min(counts.values()) >= 4:
            return pattern
    return None


def compile_camera_pattern(camera_pattern: str | None) -> re.Pattern[str] | None:
    """None for None, else see :func:`compile_name_pattern`."""
    if camera_pattern is None:
        return None
    return compile_name_pattern(
        camera_pattern, option="camera_pattern", what="camera", example=r"^(\d+)_"
    )


def _subtrees(folder: Path) -> tuple[str, ...]:
    """The sub-trees that hold the splits; empty when the identity folders lie in ``folder``."""
    if (folder / "bounding_box_train").is_dir():
        raise ValueError(f"{str(folder)!r} has Market-1501's layout; use reid.Market1501 for it")
    there = [name for name in _SUBTREES if (folder / name).is_dir()]
    if not there:
        return ()
    if ("query" in there) != ("gallery" in there):
        missing = "gallery" if "query" in there else "query"
        raise FileNotFoundError(
            f"{str(folder)!r} has {', '.join(there)} but no {missing!r}: query and gallery are "
            "needed together; without both, put all test identities into 'test' for an automatic "
            "split"
        )
    if "test" in there and "query" in there:
        raise ValueError(
            f"{str(folder)!r} has 'test' beside 'query' and 'gallery', so it is unclear what to "
            "evaluate on; rename one of them"
        )
    return tuple(there)


def _identity_files(folder: Path, notes: list[str]) -> dict[str, list[str]]:
    """Identity name -> image paths, both sorted; what is left out goes into ``notes``."""
    children = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    files = {p.name: list(list_images(p, recursive=True)) for p in children}
    loose = [Path(p).name for p in list_images(folder)]
    if not any(files.values()):
        if loose:
            raise ValueError(
                f"images lie directly in {str(folder)!r} ({some(loose, 3)}); expected "
                f"<root>/<identity>/<file>: if {folder.resolve().name!r} is one identity, use "
                f"{str(folder.parent)!r}; if the file names say who it is, use reid.FlatFolder "
                "(--identity-pattern); otherwise sort them into one folder per identity or list "
                "them for reid.CSVList"
            )
        what = "only empty folders" if children else "no folder"
        raise ValueError(
            f"{str(folder)!r} holds {what}; expected <root>/<identity>/<file> with images"
        )
    if empty := [name for name, paths in files.items() if not paths]:
        notes.append(f"no image in {counted(len(empty), 'identity folder')}: {some(empty)}")
    if loose:
        notes.append(
            f"{counted(len(loose), 'image')} directly in {str(folder)!r}, so of no identity, left "
            f"out: {some(loose)}"
        )
    return {name: paths for name, paths in files.items() if paths}


def _check_depth(folder: Path, identities: Mapping[str, Sequence[str]]) -> None:
    """A single 'identity' that consists of folders: the identities lie deeper."""
    if len(identities) != 1:
        return
    ((name, paths),) = identities.items()
    parts = [relative_name(path, str(folder / name)).split("/")[:-1] for path in paths]
    if all(parts):
        shared = [level[0] for level in takewhile(_all_equal, zip(*parts, strict=False))]
        if all(part == shared for part in parts):  # a single leaf: the last folder is an identity
            shared = shared[:-1]
        better = folder.joinpath(name, *shared)
        raise ValueError(
            f"{str(folder)!r} holds a single folder, {name!r}, which consists of folders; use "
            f"{str(better)!r} if that is where the identity folders lie"
        )


def _all_equal(level: Sequence[str]) -> bool:
    return len(set(level)) == 1


def _camera_names(
    files: Mapping[str, Mapping[str, Sequence[str]]],
    folder: Path,
    pattern: re.Pattern[str] | None,
) -> dict[str, str]:
    """path -> camera name; empty without a pattern."""
    if pattern is None:
        return {}
    found = (
        (path, str(folder / subtree / identity))
        for subtree, tree in files.items()
        for identity, paths in tree.items()
        for path in paths
    )
    below_identity = ((path, relative_name(path, base)) for path, base in found)
    return find_names(
        pattern, below_identity, option="camera_pattern", what="camera", root=str(folder)
    )
