"""A city on disk: the Market1501 tree, made in one piece or not at all."""

from __future__ import annotations

import hashlib
import json
import operator
import os
import re
import secrets
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from .city import CITIES, Studio

VERSION = 1  # of the drawings: raise it with every change that alters a byte of them
TRAIN, QUERY, GALLERY = "bounding_box_train", "query", "bounding_box_test"
MANIFEST = "city.json"
_NAME = re.compile(r"([-\d]+)_c(\d)")


@dataclass(frozen=True, slots=True)
class CitySummary:
    """What `make_city` made or found; counts are images unless they say identities."""

    root: Path
    city: str
    train_identities: int
    test_identities: int
    cameras: int
    train: int
    query: int
    gallery: int  # all of bounding_box_test, with distractors and junk
    distractors: int  # pid 0000: bare background and strangers
    junk: int  # pid -1: badly cropped pictures, which every protocol drops
    digest: str  # sha256 over the names and bytes of all images
    reused: bool  # True if the city was there already


class _Shot(NamedTuple):
    """One image to take. The file name follows from the numbers; `who` is None for background."""

    folder: str
    pid: int
    camera: int  # from 0
    frame: int
    who: tuple[object, ...] | None

    @property
    def path(self) -> str:
        pid = "-1" if self.pid < 0 else f"{self.pid:04d}"
        return f"{self.folder}/{pid}_c{self.camera + 1}s1_{151 + 25 * self.frame:06d}_00.jpg"


def make_city(
    root: str | Path,
    city: str = "noon",
    *,
    identities: int = 100,
    cameras: int = 4,
    images_per_camera: int = 5,
    train_fraction: float = 0.5,
    size: tuple[int, int] = (128, 64),
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> CitySummary:
    """Draw a city and write it to `root` as a Market1501 tree, or reuse the one that is there.

    `root` gets ``bounding_box_train``, ``query`` and ``bounding_box_test`` with file names such as
    ``0001_c1s1_000151_00.jpg``, and ``city.json`` with the parameters, counts and a digest. Every
    identity is seen by every camera. The first ``round(identities * train_fraction)`` identities
    (at least one, at most all but one) are for training. Of every other identity, one image per
    camera is a query and the rest is in the gallery, with distractors (pid 0000) and junk (pid -1)
    added: about 8 % and 2 % of it, at least two and one per camera.

    The tree is built in a hidden folder beside `root` and renamed at the end: an interrupted call
    leaves nothing half-made under `root`.

    Args:
        root: a folder that does not exist, is empty, or holds the same city.
        city: a name in `CITIES`.
        identities: 2..9999, training and test together.
        cameras: 2..9 (a Market1501 file name has one digit for the camera).
        images_per_camera: images of each identity by each camera, at least 2 (query and gallery).
        train_fraction: strictly between 0 and 1.
        size: (height, width) in pixels, at least (32, 16).
        seed: any integer >= 0; another seed is another city of the same style.
        progress: called as ``progress(done, total)`` after every image.

    Raises:
        ValueError: a parameter is out of its range.
        FileExistsError: `root` holds something else, another city, or a damaged one.
    """
    parameters = _checked_parameters(
        city, identities, cameras, images_per_camera, train_fraction, size, seed
    )
    root = Path(root).expanduser()
    if os.path.lexists(root) and (not root.is_dir() or any(root.iterdir())):
        return _reuse(root, parameters)

    target = root.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    building = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    try:
        manifest = _build(building, parameters, progress)
        with suppress(OSError):  # missing, or not empty any more: then renaming tells
            target.rmdir()  # empty: not every system renames onto a folder
        try:
            building.rename(target)
        except OSError:
            if not target.is_dir():
                raise
            return _reuse(root, parameters)  # somebody else finished the same city first
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return _summary(root, manifest, reused=False)


def _checked_parameters(
    city: str,
    identities: int,
    cameras: int,
    images_per_camera: int,
    train_fraction: float,
    size: tuple[int, int],
    seed: int,
) -> dict[str, Any]:
    """The parameters as JSON values, or a ValueError that says what is allowed."""
    if city not in CITIES:
        raise ValueError(f"unknown city {city!r}; expected one of {', '.join(sorted(CITIES))}")
    if len(size) != 2:
        raise ValueError(f"size is (height, width), got {size!r}")
    whole: dict[str, tuple[int, int, float, str]] = {
        "identities": (identities, 2, 9999, "at least one to train and one to test, four digits"),
        "cameras": (cameras, 2, 9, "re-identification is across cameras, and names have one digit"),
        "images_per_camera": (images_per_camera, 2, 9999, "one for the query, one for the gallery"),
        "height of size": (size[0], 32, 4096, "pixels"),
        "width of size": (size[1], 16, 4096, "pixels"),
        "seed": (seed, 0, float("inf"), "seeds are not negative"),
    }
    for name, (value, low, high, why) in whole.items():
        try:
            number = operator.index(value)
        except TypeError:
            raise ValueError(f"{name} must be a whole number, got {value!r}") from None
        if not low <= number <= high:
            limits = f"{low}..{high}" if high < float("inf") else f">= {low}"
            raise ValueError(f"{name} must be {limits} ({why}), got {number}")
    if not 0 < train_fraction < 1:
        raise ValueError(
            f"train_fraction must be strictly between 0 and 1, got {train_fraction!r}: "
            "a city has identities for training and others for testing"
        )
    return {
        "city": city,
        "identities": operator.index(identities),
        "cameras": operator.index(cameras),
        "images_per_camera": operator.index(images_per_camera),
        "train_fraction": float(train_fraction),
        "size": [operator.index(size[0]), operator.index(size[1])],
        "seed": operator.index(seed),
    }


def _plan(parameters: dict[str, Any]) -> Iterator[_Shot]:
    """All images of a city, without drawing any."""
    identities, cameras = parameters["identities"], parameters["cameras"]
    per_camera = parameters["images_per_camera"]
    train = min(max(round(identities * parameters["train_fraction"]), 1), identities - 1)
    for pid in range(1, identities + 1):
        for camera in range(cameras):
            for frame in range(per_camera):
                test_folder = QUERY if frame == 0 else GALLERY
                folder = TRAIN if pid <= train else test_folder
                yield _Shot(folder, pid, camera, frame, (pid,))
    seen = (identities - train) * (per_camera - 1)  # gallery images of one camera
    for camera in range(cameras):
        for frame in range(max(2, round(0.08 * seen))):
            stranger = ("stranger", camera, frame) if frame % 2 else None
            yield _Shot(GALLERY, 0, camera, frame, stranger)
        for frame in range(max(1, round(0.02 * seen))):
            pid = train + 1 + frame % (identities - train)
            yield _Shot(GALLERY, -1, camera, frame, (pid,))


def _build(
    folder: Path, parameters: dict[str, Any], progress: Callable[[int, int], None] | None
) -> dict[str, Any]:
    """Write the tree into a new folder; returns the manifest."""
    for name in (TRAIN, QUERY, GALLERY):
        (folder / name).mkdir(parents=True)
    height, width = parameters["size"]
    studio = Studio.open(
        parameters["city"], parameters["seed"], (height, width), parameters["cameras"]
    )
    shots = sorted(_plan(parameters), key=lambda shot: shot.path)  # the order of the digest
    digest = hashlib.sha256()
    for done, shot in enumerate(shots, 1):
        who = None if shot.who is None else studio.person(*shot.who)
        picture = studio.shoot(who, shot.camera, shot.pid, shot.frame, misaligned=shot.pid < 0)
        data = studio.cameras[shot.camera].encode(picture)
        (folder / shot.path).write_bytes(data)
        _update(digest, shot.path, data)
        if progress is not None:
            progress(done, len(shots))

    def images(name: str, *pids: int) -> int:
        return sum(s.folder == name and (not pids or s.pid in pids) for s in shots)

    manifest = {
        "maker": {"name": "reid.synthetic", "version": VERSION},
        "parameters": parameters,
        "counts": {
            "train_identities": len({s.pid for s in shots if s.folder == TRAIN}),
            "test_identities": len({s.pid for s in shots if s.folder == QUERY}),
            "cameras": parameters["cameras"],
            "train": images(TRAIN),
            "query": images(QUERY),
            "gallery": images(GALLERY),
            "distractors": images(GALLERY, 0),
            "junk": images(GALLERY, -1),
        },
        "digest": digest.hexdigest(),
        "style": asdict(CITIES[parameters["city"]]),
    }
    # Images are not fsynced one by one: the digest tells a tree that a power cut has damaged.
    with (folder / MANIFEST).open("w", encoding="utf-8") as file:
        json.dump(manifest, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    return manifest


def _update(digest: Any, path: str, data: bytes) -> None:
    digest.update(f"{path} {len(data)}\n".encode())
    digest.update(data)


def _digest_on_disk(root: Path) -> str:
    """The digest of the images that lie under `root` now."""
    files = [path for name in (TRAIN, QUERY, GALLERY) for path in (root / name).glob("*.jpg")]
    paths = [path.relative_to(root).as_posix() for path in files]
    digest = hashlib.sha256()
    for path in sorted(paths):
        _update(digest, path, (root / path).read_bytes())
    return digest.hexdigest()


def _reuse(root: Path, parameters: dict[str, Any]) -> CitySummary:
    """The city under `root` if it is whole and the one asked for; FileExistsError otherwise."""
    remedy = "choose another root, or delete it first if it is not needed"
    if not root.is_dir():
        raise FileExistsError(f"{root} is not a folder; {remedy}")
    try:
        manifest = json.loads((root / MANIFEST).read_text(encoding="utf-8"))
        version, found = manifest["maker"]["version"], dict(manifest["parameters"])
        summary = _summary(root, manifest, reused=True)
    except (OSError, ValueError, KeyError, TypeError):
        raise FileExistsError(
            f"{root} holds something else: no readable {MANIFEST} of a city in it; {remedy}"
        ) from None
    differences = [
        f"{key} is {found.get(key)!r} there and {parameters.get(key)!r} here"
        for key in sorted(found.keys() | parameters.keys())
        if found.get(key) != parameters.get(key)
    ]
    if version != VERSION:
        differences.append(f"it was drawn by version {version}, this is version {VERSION}")
    if not differences and manifest.get("style") != _as_json(CITIES[parameters["city"]]):
        differences.append(f"the style {parameters['city']!r} has been changed since")
    if differences:
        raise FileExistsError(f"{root} holds another city: {'; '.join(differences)}; {remedy}")
    if _digest_on_disk(root) != summary.digest:
        raise FileExistsError(
            f"{root} holds this city, but images were changed, added or lost since; {remedy}"
        )
    return summary


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(asdict(value)))


def _summary(root: Path, manifest: dict[str, Any], *, reused: bool) -> CitySummary:
    return CitySummary(
        root=root,
        city=manifest["parameters"]["city"],
        digest=manifest["digest"],
        reused=reused,
        **manifest["counts"],
    )


def contact_sheet(
    root: str | Path,
    *,
    identities: int = 8,
    images_per_camera: int = 1,
    split: Literal["train", "test"] = "test",
    gap: int = 2,
) -> NDArray[np.uint8]:
    """A picture of a data set: one row per identity, one group of columns per camera.

    Works for any Market1501 tree. Cells without an image stay grey; images of another size than
    the first one are resized.

    Args:
        root: the folder that holds ``bounding_box_train`` and so on.
        identities: how many rows at most; identities come in the order of their pids.
        images_per_camera: columns per camera.
        split: ``"test"`` shows query and gallery together.
        gap: pixels between cells; between cameras it is three times as wide.

    Returns:
        H x W x 3 uint8, RGB.

    Raises:
        ValueError: a bad argument, an unreadable image, or no image of a person.
        FileNotFoundError: a folder is missing.
    """
    from imaging.files import read_image

    folders = {"train": (TRAIN,), "test": (QUERY, GALLERY)}
    if split not in folders:
        raise ValueError(f"split must be 'train' or 'test', got {split!r}")
    if identities < 1 or images_per_camera < 1 or gap < 0:
        raise ValueError(
            "identities and images_per_camera must be at least 1 and gap at least 0, got "
            f"{identities}, {images_per_camera} and {gap}"
        )
    cells: defaultdict[int, defaultdict[int, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for name in folders[split]:
        folder = Path(root).expanduser() / name
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is missing; expected a Market1501 tree at {root}")
        for path in sorted(folder.glob("*.jpg")):
            match = _NAME.match(path.name)
            if match and int(match[1]) > 0:
                cells[int(match[1])][int(match[2])].append(path)
    if not cells:
        raise ValueError(f"no image of a person in {', '.join(folders[split])} of {root}")

    pids = sorted(cells)[:identities]
    cameras = sorted({camera for pid in pids for camera in cells[pid]})
    height, width = read_image(cells[pids[0]][min(cells[pids[0]])][0]).shape[:2]
    group = images_per_camera * (width + gap) + 2 * gap
    sheet = np.full(
        (len(pids) * (height + gap) + gap, len(cameras) * group - gap, 3), 224, np.uint8
    )
    for row, pid in enumerate(pids):
        for column, camera in enumerate(cameras):
            for k, path in enumerate(cells[pid][camera][:images_per_camera]):
                image = read_image(path)
                if image.shape[:2] != (height, width):
                    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
                y, x = gap + row * (height + gap), gap + column * group + k * (width + gap)
                sheet[y : y + height, x : x + width] = image
    return sheet
