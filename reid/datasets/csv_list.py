"""A table of images: ``path,pid`` and, if you have them, ``camera`` and ``split``."""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from engine.atomic import write_file
from engine.wording import counted, some
from imaging.cache import CacheOption
from imaging.files import existing_folder, relative_name
from reid.datasets.base import (
    CameraOption,
    Record,
    ReIDDataset,
    Splits,
    Transform,
    check_camera_option,
)
from reid.datasets.numbering import number_names
from reid.datasets.splitting import automatic_split, split_query_gallery
from reid.registry import DATASETS

__all__ = ["CSVList", "find_csv", "parse_csv_list", "write_csv_list"]

_SPLITS = ("train", "query", "gallery", "test")
_JUNK = "-1"


@DATASETS.register_module()
class CSVList(ReIDDataset):
    """Images listed in a CSV file with a header; for the first arguments see :class:`ReIDDataset`.

    Args:
        root: the CSV file itself (relative image paths then start at its folder), or the folder
            where relative image paths start.
        csv_file: where ``root`` is a folder: the file, relative to ``root`` or absolute; None
            takes the only ``*.csv`` in the folder.
        train_fraction, seed: of the automatic split, used when there is no ``split`` column.

    Columns, in any order, others are ignored: ``path``; ``pid``, any text, -1 is left out as junk;
    ``camera``, any text, in all rows or in none; ``split``: train, query, gallery, or test, which
    is divided into query and gallery automatically. Commas, semicolons and tabs separate.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        transforms: Sequence[Mapping[str, Any]] | Transform | None = None,
        *,
        camera: CameraOption = "auto",
        cache: CacheOption = None,
        csv_file: str | os.PathLike[str] | None = None,
        train_fraction: float = 0.5,
        seed: int = 0,
    ) -> None:
        self.csv_file = csv_file
        self.train_fraction = train_fraction
        self.seed = seed
        super().__init__(root, split, transforms, camera=camera, cache=cache)

    def parse(self) -> Splits:
        return parse_csv_list(
            self.root,
            camera=self.camera,
            csv_file=self.csv_file,
            train_fraction=self.train_fraction,
            seed=self.seed,
        )


class _Row(NamedTuple):
    line: int
    path: str
    pid: str
    camera: str
    split: str


def parse_csv_list(
    root: str | os.PathLike[str],
    *,
    camera: CameraOption = "auto",
    csv_file: str | os.PathLike[str] | None = None,
    train_fraction: float = 0.5,
    seed: int = 0,
) -> Splits:
    """The lists of a CSV file. Identities and cameras keep their numbers when all are numbers,
    and are numbered in name order otherwise.

    Raises:
        FileNotFoundError: no such file or folder.
        ValueError: the header or rows are wrong, or images are missing: with the line numbers.
    """
    check_camera_option(camera)
    folder, file = find_csv(root, csv_file)
    columns, rows = _read(file)
    junk = sum(row.pid == _JUNK for row in rows)
    rows = [row for row in rows if row.pid != _JUNK]
    if not rows:
        raise ValueError(f"{str(file)!r} lists no image")
    with_camera = camera is not None and any(row.camera for row in rows)
    with_split = "split" in columns
    paths = [_place(folder, row.path) for row in rows]
    _check_rows(file, rows, paths, with_camera=with_camera, with_split=with_split)

    pid_of = number_names(row.pid for row in rows)
    camid_of = number_names(row.camera for row in rows) if with_camera else {}
    identities = {number: name for name, number in pid_of.items()}
    lists: dict[str, list[Record]] = {split: [] for split in ("", *_SPLITS)}
    for row, path in zip(rows, paths, strict=True):
        camid = camid_of[row.camera] if with_camera else None
        lists[row.split if with_split else ""].append(Record(path, pid_of[row.pid], camid))

    if not with_split:
        how = f"identities split automatically (train_fraction {train_fraction:g}, seed {seed})"
        train, query, gallery = automatic_split(
            lists[""],
            identities=identities,
            root=str(folder),
            train_fraction=train_fraction,
            seed=seed,
        )
    elif lists["test"]:
        how = f"train and test as listed, query and gallery automatic (seed {seed})"
        train = tuple(lists["train"])
        query, gallery = split_query_gallery(lists["test"], root=str(folder), seed=seed)
    else:
        how = "splits as listed"
        train, query, gallery = (tuple(lists[s]) for s in ("train", "query", "gallery"))
    return Splits(
        name=file.stem,
        protocol=f"CSV list, {how}, {'cameras as listed' if with_camera else 'no cameras'}",
        train=train,
        query=query,
        gallery=gallery,
        root=str(folder),
        identities=identities,
        cameras={number: name for name, number in camid_of.items()},
        notes=(f"{counted(junk, 'row')} of identity -1 (junk) left out",) if junk else (),
    )


def write_csv_list(splits: Splits, file: str | os.PathLike[str]) -> Path:
    """Write the lists of any data set as a table that :class:`CSVList` reads.

    Paths are relative to the file's folder where they lie below it, so that both can be moved
    together, and absolute elsewhere. Identities and cameras keep their names.
    """
    target = Path(file).expanduser()
    base = os.path.join(target.absolute().parent.resolve(), "")  # noqa: PTH118
    records = [(split, r) for split in ("train", "query", "gallery") for r in splits.records(split)]
    with_camera = all(r.camid is not None for _, r in records)
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "pid", *(["camera"] if with_camera else []), "split"])
    root = os.path.join(Path(splits.root).resolve(), "")  # noqa: PTH118 - strings, 100,000 of them
    for split, record in records:
        path = relative_name(record.path, splits.root)
        if not os.path.isabs(path):  # noqa: PTH117
            path = root + path
        below = path.removeprefix(base).replace(os.sep, "/")
        camera = [] if record.camid is None else [splits.cameras.get(record.camid, record.camid)]
        pid = splits.identities.get(record.pid, record.pid)
        writer.writerow([below, pid, *(camera if with_camera else []), split])
    return write_file(target, text.getvalue().encode("utf-8", "surrogateescape"))


def find_csv(
    root: str | os.PathLike[str], csv_file: str | os.PathLike[str] | None = None
) -> tuple[Path, Path]:
    """(folder that relative image paths start at, the CSV file)."""
    given = Path(root).expanduser()
    if csv_file is None and given.is_file():
        return given.parent, given
    folder = existing_folder(given)
    if csv_file is not None:
        file = folder / Path(csv_file).expanduser()
        if not file.is_file():
            raise FileNotFoundError(f"the CSV file {str(file)!r} does not exist")
        return folder, file
    files = sorted(folder.glob("*.csv"))
    if len(files) != 1:
        raise FileNotFoundError(
            f"{str(folder)!r} holds {len(files)} CSV files ({some(f.name for f in files)}); name "
            "one with csv_file"
            if files
            else f"{str(folder)!r} holds no CSV file; name one with csv_file"
        )
    return folder, files[0]


def _read(file: Path) -> tuple[list[str], list[_Row]]:
    """(columns, rows); blank lines are skipped."""
    try:
        text = file.read_text(encoding="utf-8-sig")  # spreadsheets write a byte order mark
    except UnicodeDecodeError as error:
        line = file.read_bytes()[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{str(file)!r}, line {line}: not UTF-8; save the table as 'CSV UTF-8'"
        ) from None
    first = text.partition("\n")[0]
    separator = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    columns = [cell.strip().lower() for cell in next(reader, [])]
    missing = [name for name in ("path", "pid") if name not in columns]
    repeated = sorted({c for c in columns if c and columns.count(c) > 1})
    if missing or repeated:
        problem = (
            f"the header lacks {' and '.join(missing)}"
            if missing
            else f"the header repeats {some(repeated)}"
        )
        raise ValueError(
            f"{str(file)!r}, line 1: {problem}; it must name the columns path, pid and, if there "
            f"are any, camera and split; found {first.strip()!r}"
        )
    rows, problems = [], []
    try:
        for cells in reader:
            line = reader.line_num
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(columns):
                problems.append(f"line {line}: {len(cells)} cells, the header has {len(columns)}")
                continue
            row = {c: cell.strip() for c, cell in zip(columns, cells, strict=True)}
            rows.append(
                _Row(
                    line,
                    row["path"],
                    row["pid"],
                    row.get("camera", ""),
                    row.get("split", "").lower(),
                )
            )
    except csv.Error as error:
        problems.append(f"line {reader.line_num}: {error}")
    _raise_problems(file, problems)
    return columns, rows


def _check_rows(
    file: Path,
    rows: Sequence[_Row],
    paths: Sequence[str],
    *,
    with_camera: bool,
    with_split: bool,
) -> None:
    """All mistakes of the table at once, by line: a user should not need a run for each."""
    problems = []
    seen: dict[tuple[str, str], int] = {}
    divided = with_split and any(row.split in ("query", "gallery") for row in rows)
    for row, path in zip(rows, paths, strict=True):
        where = f"line {row.line}"
        if not row.path or not row.pid:
            problems.append(f"{where}: the {'pid' if row.path else 'path'} is empty")
        elif not os.path.isfile(path):  # noqa: PTH113 - a string, for every image
            problems.append(f"{where}: {path!r} does not exist")
        if with_camera and not row.camera:
            problems.append(f"{where}: the camera is empty, though other rows have one")
        if with_split and row.split not in _SPLITS:
            problems.append(f"{where}: the split is {row.split!r}, not {', '.join(_SPLITS)}")
        elif divided and row.split == "test":
            problems.append(f"{where}: the split is 'test', though other rows say query or gallery")
        first = seen.setdefault((path, row.split), row.line)
        if first != row.line:
            problems.append(f"{where}: {row.path!r} is already listed on line {first}")
    _raise_problems(file, problems)


def _place(folder: Path, path: str) -> str:
    """``path``, from ``folder`` where it is relative; as pathlib has it, at a fifth of the time."""
    if path.startswith("~") or "./" in path or "//" in path:
        return str(folder / Path(path).expanduser())
    return os.path.join(folder, path)  # noqa: PTH118


def _raise_problems(file: Path, problems: Sequence[str], limit: int = 10) -> None:
    if problems:
        more = [f"and {len(problems) - limit:,} more"] if len(problems) > limit else []
        listed = "\n  ".join([*problems[:limit], *more])
        raise ValueError(f"{str(file)!r} has {counted(len(problems), 'problem')}:\n  {listed}")
