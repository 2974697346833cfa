"""Images whose file names say who is on them, in one folder or several: no folder per identity.

``car_0001_cam1.jpg`` is vehicle ``car_0001`` of camera 1 to an ``identity_pattern`` of
``^(.+)_cam`` and a ``camera_pattern`` of ``_cam(\\d)``. Text files may list what is trained on and
what is tested, one image a line.
"""

import os
from collections.abc import Mapping, Sequence
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
from reid.datasets.folder import compile_camera_pattern
from reid.datasets.list_file import read_rows
from reid.datasets.name_pattern import compile_name_pattern, find_names
from reid.datasets.numbering import number_names
from reid.datasets.splitting import automatic_split, split_query_gallery
from reid.registry import DATASETS

__all__ = ["FlatFolder", "parse_flat_folder"]


@DATASETS.register_module()
class FlatFolder(ReIDDataset):
    r"""Images with identities in their names; for the first arguments see :class:`ReIDDataset`.

    Args:
        identity_pattern: a regular expression with one group, searched for in the file's name; the
            group is the identity's name. ``r"^(\d{4})"`` reads 0001 from ``0001002.jpg``.
        camera_pattern: likewise for the camera. None: no camera labels.
        train_list, test_list: text files, relative to ``root`` or absolute, of file names or paths
            below ``root``; both or neither. Images on no list are left out. None: an automatic
            split.
        train_fraction, seed: of the automatic split; the seed also of that of the test images into
            query and gallery.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        transforms: Sequence[Mapping[str, Any]] | Transform | None = None,
        *,
        identity_pattern: str,
        camera: CameraOption = "auto",
        cache: CacheOption = None,
        camera_pattern: str | None = None,
        train_list: str | None = None,
        test_list: str | None = None,
        train_fraction: float = 0.5,
        seed: int = 0,
    ) -> None:
        self.identity_pattern = identity_pattern
        self.camera_pattern = camera_pattern
        self.train_list = train_list
        self.test_list = test_list
        self.train_fraction = train_fraction
        self.seed = seed
        super().__init__(root, split, transforms, camera=camera, cache=cache)

    def parse(self) -> Splits:
        return parse_flat_folder(
            self.root,
            identity_pattern=self.identity_pattern,
            camera=self.camera,
            camera_pattern=self.camera_pattern,
            train_list=self.train_list,
            test_list=self.test_list,
            train_fraction=self.train_fraction,
            seed=self.seed,
        )


def parse_flat_folder(
    root: str | os.PathLike[str],
    *,
    identity_pattern: str | None = None,
    camera: CameraOption = "auto",
    camera_pattern: str | None = None,
    train_list: str | None = None,
    test_list: str | None = None,
    train_fraction: float = 0.5,
    seed: int = 0,
) -> Splits:
    """The lists of all images below ``root``; the arguments are those of :class:`FlatFolder`.

    Identities and cameras keep their numbers when all are numbers, and are numbered in name order
    otherwise.

    Raises:
        FileNotFoundError, NotADirectoryError: ``root`` is no folder, or a list is missing.
        ValueError: no images, a pattern that is missing, not valid or does not match every file, or
            a list that names other images than those that are there.
    """
    check_camera_option(camera)
    if identity_pattern is None:
        raise ValueError(
            "which part of a file's name is the identity? Give an identity_pattern with one "
            "group (--identity-pattern), e.g. '^(.+)_cam' for car_0001_cam1.jpg"
        )
    if (train_list is None) != (test_list is None):
        raise ValueError("train_list and test_list are needed together: give both, or neither")
    pattern = compile_name_pattern(
        identity_pattern, option="identity_pattern", what="identity", example="^(.+)_cam"
    )
    by_camera = compile_camera_pattern(camera_pattern) if camera else None
    folder = existing_folder(root)
    paths = list(list_images(folder, recursive=True))
    if not paths:
        raise ValueError(f"{str(folder)!r} holds no image")
    files = [(path, os.path.basename(path)) for path in paths]  # noqa: PTH119 - strings
    base = str(folder)
    identity_of = find_names(pattern, files, option="identity_pattern", what="identity", root=base)
    camera_of = (
        find_names(by_camera, files, option="camera_pattern", what="camera", root=base)
        if by_camera
        else {}
    )
    pid_of = number_names(identity_of.values())
    camid_of = number_names(camera_of.values())
    records = {
        path: Record(
            path, pid_of[identity_of[path]], camid_of[camera_of[path]] if by_camera else None
        )
        for path in paths
    }
    identities = {number: name for name, number in pid_of.items()}
    notes: tuple[str, ...] = ()
    if train_list is not None and test_list is not None:
        how = f"train and test as listed, query and gallery automatic (seed {seed})"
        train_paths, test_paths = (_listed(folder, n, paths) for n in (train_list, test_list))
        train = tuple(records[path] for path in train_paths)
        query, gallery = split_query_gallery(
            [records[path] for path in test_paths], root=base, seed=seed
        )
        if unused := len(paths) - len({*train_paths, *test_paths}):
            notes = (f"{counted(unused, 'image')} on neither list left out",)
    else:
        how = f"identities split automatically (train_fraction {train_fraction:g}, seed {seed})"
        train, query, gallery = automatic_split(
            list(records.values()),
            identities=identities,
            root=base,
            train_fraction=train_fraction,
            seed=seed,
        )
    source = f"cameras by '{camera_pattern}'" if by_camera else "no cameras"
    return Splits(
        name=folder.resolve().name,
        protocol=f"flat folder, identities by '{identity_pattern}', {how}, {source}",
        train=train,
        query=query,
        gallery=gallery,
        root=base,
        identities=identities,
        cameras={number: name for name, number in camid_of.items()},
        notes=notes,
    )


def _listed(folder: Path, name: str, paths: Sequence[str]) -> list[str]:
    """The paths that a list names, by their place below ``folder`` or by the file's name alone."""
    file = folder / Path(name).expanduser()
    by_name: dict[str, list[str]] = {}
    for path in paths:
        below = relative_name(path, str(folder))
        for key in {below, below.rpartition("/")[2]}:
            by_name.setdefault(key, []).append(path)
    names = [row[0] for row in read_rows(file, "image")]
    missing = [n for n in names if n not in by_name]
    ambiguous = [n for n in names if len(by_name.get(n, ())) > 1]
    for wrong, problem in ((missing, "not"), (ambiguous, "more than once")):
        if wrong:
            raise ValueError(
                f"{str(file)!r} names {counted(len(wrong), 'image')} that "
                f"{'is' if len(wrong) == 1 else 'are'} {problem} below {str(folder)!r}: "
                f"{some(wrong)}; list paths below that folder, one a line"
            )
    if not names:
        raise ValueError(f"the list {str(file)!r} names no image")
    return [by_name[n][0] for n in dict.fromkeys(names)]
