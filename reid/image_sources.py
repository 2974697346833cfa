"""What is to be embedded: folders, lists, tables, data sets and boxes in videos, as one list.

Every entry is an :class:`Item`: where its pixels are, and the record that its feature is kept with.
Order and repetitions are the source's own, so that a feature is found again by its place; the boxes
of a video are sorted by frame, for a video is read from its beginning to its end, once.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from engine.wording import some
from imaging.files import IMAGE_EXTENSIONS, list_images

if TYPE_CHECKING:
    from .datasets import ReIDDataset

__all__ = ["VIDEO_EXTENSIONS", "Box", "Item", "dataset_items", "fingerprint", "list_items"]

VIDEO_EXTENSIONS = frozenset(
    (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".ts")
)

Box: TypeAlias = tuple[float, float, float, float]
"""x and y of the left upper corner, width, height: pixels of the frame."""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to embed: an image file, or a box in a frame of a video.

    ``record`` is what is known of it, JSON values by name: ``image`` (the file's absolute path),
    where known ``pid``, ``camera`` and ``time``, and whatever else the source had.
    """

    path: str
    record: Mapping[str, Any] = field(default_factory=dict)
    frame: int | None = None
    box: Box | None = None

    @property
    def name(self) -> str:
        """What a message calls it."""
        if self.frame is None or self.box is None:
            return self.path
        return f"{self.path}, frame {self.frame}, box {', '.join(f'{v:g}' for v in self.box)}"


def list_items(paths: Sequence[str | os.PathLike[str]], boxes: Sequence[str] = ()) -> list[Item]:
    """Folders, files and lists, in this order, as items.

    Args:
        paths: an image; a folder, searched with all that lies below it; a ``.txt`` file with a path
            a line; a ``.csv`` file with a column ``path`` and any others, which the records keep;
            a video. Paths in a list are relative to the list's folder. A path that stands twice
            is embedded twice.
        boxes: for each video in ``paths`` a CSV file: ``frame,x,y,w,h`` and any others; frames
            count from 0, boxes are in pixels from the left upper corner.

    Raises:
        FileNotFoundError: no such file or folder. ValueError: nothing to embed, a file of another
            kind, or a table without a column that it needs.
    """
    videos = [p for p in map(Path, paths) if p.suffix.lower() in VIDEO_EXTENSIONS]
    if len(videos) != len(boxes):
        raise ValueError(
            f"a video needs the boxes to cut out of it, a CSV file with frame,x,y,w,h: got "
            f"{len(videos)} videos and {len(boxes)} files of boxes"
        )
    tables = iter(boxes)
    found: list[Item] = []
    for path in map(Path, paths):
        kind = path.suffix.lower()
        if path.is_dir():
            items = [_image(file) for file in list_images(path, recursive=True)]
            nothing = f"images ({', '.join(sorted(IMAGE_EXTENSIONS))})"
        elif not path.is_file():
            raise FileNotFoundError(f"no image, list, video or folder at {path}")
        elif kind == ".csv":
            items, nothing = _table_items(path), "rows below its header"
        elif kind in VIDEO_EXTENSIONS:
            table = Path(next(tables))
            items, nothing = _video_items(path, table), f"boxes in {table}"
        elif kind == ".txt":
            lines = path.read_text(encoding="utf-8-sig").splitlines()
            items = [_image(path.parent / line.strip()) for line in lines if line.strip()]
            nothing = "lines"
        elif kind in IMAGE_EXTENSIONS:
            items, nothing = [_image(path)], ""
        else:
            raise ValueError(
                f"{path}: expected an image, a folder, a list (.txt: a path a line; .csv: a column "
                f"path) or a video, got a file ending in {kind or 'nothing'!r}"
            )
        if not items:
            raise ValueError(f"no {nothing} in {path}: nothing to embed")
        found += items
    if not found:
        raise ValueError("nothing to embed: no image, list, video or folder was given")
    return found


def dataset_items(dataset: ReIDDataset) -> list[Item]:
    """A split of a data set, with the data's own names of identities and cameras.

    The records tell the split, too: ``query`` or ``gallery`` of the split 'test'.
    """
    pids, cameras = dataset.splits.identities, dataset.splits.cameras
    items = []
    for position, record in enumerate(dataset.records):
        split = dataset.split
        if split == "test":
            split = "query" if position < dataset.num_query else "gallery"
        known = {
            "image": _absolute(record.path),
            "pid": pids.get(record.pid, record.pid),
            "camera": None if record.camid is None else cameras.get(record.camid, record.camid),
            "split": split,
        }
        items.append(Item(record.path, known))
    return items


def fingerprint(items: Iterable[Item]) -> str:
    """sha256 over places and records, in their order: whether two lists are the same one."""
    digest = hashlib.sha256()
    for item in items:
        path = item.record.get("image", item.path)  # the same one from any working directory
        line = (path, item.frame, item.box, sorted(item.record.items()))
        digest.update(f"{line!r}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _image(path: str | Path) -> Item:
    return Item(str(path), {"image": _absolute(path)})


def _absolute(path: str | Path) -> str:
    return os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111 - a million of them


def _table_items(file: Path) -> list[Item]:
    columns, rows = _read_table(file, ("path",))
    if "image" in columns:
        raise ValueError(f"{file}: path says where the image is; remove or rename the column image")
    items: list[Item] = []
    for row in zip(*columns.values(), strict=True) if rows else ():
        known = {name: value for name, value in zip(columns, row, strict=True) if value != ""}
        path = file.parent / Path(str(known.pop("path", ""))).expanduser()
        if path == file.parent:
            raise ValueError(f"{file}: row {len(items) + 1} has no path")
        items.append(Item(str(path), {"image": _absolute(path), **known}))
    return items


def _video_items(video: Path, file: Path) -> list[Item]:
    if not file.is_file():
        raise FileNotFoundError(f"no boxes at {file}: expected a CSV file with frame,x,y,w,h")
    columns, rows = _read_table(file, ("frame", "x", "y", "w", "h"))
    for name in ("frame", "x", "y", "w", "h"):
        for number, value in enumerate(columns[name], 1):
            wrong = isinstance(value, str) or not math.isfinite(value)
            if wrong or (name == "frame" and (value < 0 or value != int(value))):
                raise ValueError(
                    f"{file}: {name} of row {number} is {value!r}; expected a "
                    + ("number of a frame, from 0" if name == "frame" else "number of pixels")
                )
    items = []
    for i in range(rows):
        known = {name: column[i] for name, column in columns.items() if column[i] != ""}
        known["frame"] = frame = int(known["frame"])
        x, y, w, h = (float(known[name]) for name in ("x", "y", "w", "h"))
        record = {**known, "image": _absolute(video)}
        items.append(Item(str(video), record, frame, (x, y, w, h)))
    return sorted(items, key=lambda item: item.frame or 0)


def _read_table(file: Path, needed: Sequence[str]) -> tuple[dict[str, list[Any]], int]:
    """The columns of a CSV file by name, numbers where a whole column is numbers, and its length.

    Commas, semicolons and tabs separate; names count without case and surrounding space.
    """
    text = file.read_text(encoding="utf-8-sig")
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    lines = list(csv.reader(io.StringIO(text), delimiter=delimiter))
    lines = [[cell.strip() for cell in line] for line in lines if any(map(str.strip, line))]
    names = [name.lower() for name in lines[0]] if lines else []
    if absent := [name for name in needed if name not in names]:
        raise ValueError(
            f"{file} has no column {some(map(repr, absent))}; its first line must name the columns,"
            f" e.g. {','.join(needed)}; it reads {header.strip()!r}"
        )
    if len(set(names)) < len(names):
        raise ValueError(f"{file}: two columns of one name in {header.strip()!r}")
    for number, line in enumerate(lines[1:], 1):
        if len(line) != len(names):
            raise ValueError(
                f"{file}: row {number} has {len(line)} cells, the header {len(names)}: {line}"
            )
    cells = list(zip(*lines[1:], strict=True)) or [()] * len(names)
    columns = {
        name: _values(column, {"path": (), "pid": (int,), "camera": (int,)}.get(name, (int, float)))
        for name, column in zip(names, cells, strict=True)
    }
    return columns, len(lines) - 1


_NUMBERS = {int: r"-?(0|[1-9]\d{0,17})", float: r"-?(0|[1-9]\d*)(\.\d*)?([eE][-+]?\d+)?"}


def _values(column: Sequence[str], kinds: Sequence[type]) -> list[Any]:
    """Numbers of the first of ``kinds`` that all cells are of, else text; ``001`` is a name.

    Empty cells stay empty text.
    """
    filled = [cell for cell in column if cell]
    for kind in kinds if filled else ():
        if all(re.fullmatch(_NUMBERS[kind], cell) for cell in filled):
            return [kind(cell) if cell else cell for cell in column]
    return list(column)
