"""Streets on disk: a tree in GTA5's or Cityscapes' own format, made once and found again."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import operator
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.atomic import write_bytes, write_json

from .appearance import STYLES
from .drawing import Job, draw, is_whole, start_worker

VERSION = 1  # of the drawings: raise it with every change that alters a pixel of them
LAYOUTS = {"gta5": ("train", "val", "test"), "cityscapes": ("train", "val")}  # and their splits
DEFAULT_LAYOUT = {"game": "gta5", "real": "cityscapes"}
DEFAULT_START = {"train": 1, "val": 50001, "test": 75001}
LAST = 99999  # GTA5's file names have five digits
_SHARED = ("version", "style", "layout", "seed", "size", "train_ids")  # by the splits of one root
_REMEDY = "choose another root, or delete it first if it is not needed"


@dataclass(frozen=True, slots=True)
class StreetsReport:
    """What `make_streets` made or found."""

    root: Path
    style: str
    layout: str
    split: str
    images: int  # in the split
    drawn: int  # of them in this call
    reused: bool  # True if nothing had to be drawn
    first: int  # number of the first street
    seed: int
    size: tuple[int, int]  # width, height
    digest: str  # sha256 over the names and bytes of all files of the split


def make_streets(
    root: str | os.PathLike[str],
    style: str,
    *,
    layout: str | None = None,
    split: str = "train",
    images: int = 200,
    size: tuple[int, int] = (512, 256),
    seed: int = 0,
    start: int | None = None,
    train_ids: bool = False,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> StreetsReport:
    """Draw streets and write one split of a data set, or reuse the one that is there.

    Street k of a seed is the same scene in every style, layout and split, whatever the number of
    images and workers: only its looks differ. The splits of one seed have other streets, because
    their numbers start elsewhere.

    Layout "gta5" is ``images/00001.png`` (RGB), ``labels/00001.png`` (palette PNG whose index is
    Cityscapes' label id) and ``<split>.txt`` with a name without suffix per line. Layout
    "cityscapes" is ``leftImg8bit/<split>/<style>/<style>_000001_000019_leftImg8bit.png`` and
    ``gtFine/<split>/<style>/<style>_000001_000019_gtFine_labelIds.png`` (8-bit grey). Splits of one
    style, layout, seed and size may share a root.

    A call that was killed goes on where it stopped. ``streets_<split>.json`` is written last and
    says what was made; missing files of a finished split are drawn again.

    Args:
        root: a folder that does not exist, is empty, or holds streets made by the same arguments.
        style: "game" (saturated, sunny, sharp) or "real" (grey, hazy, noisy, with weather).
        layout: "gta5" or "cityscapes"; default: gta5 for the game, cityscapes for reality.
        split: "train", "val" or, in GTA5's layout, "test".
        images: how many, at least 1.
        size: (width, height) in pixels, at least (64, 32) and at most (4096, 4096).
        seed: any integer >= 0; another seed is another world.
        start: number of the first street, 1..99999; default: 1, 50001 and 75001 for train, val and
            test.
        train_ids: in Cityscapes' layout, also write ``*_gtFine_labelTrainIds.png``.
        workers: processes that draw; default: one a core where it pays, 0 or 1 for none. They are
            spawned: a script that calls this needs its ``if __name__ == "__main__":``.
        progress: called as ``progress(done, total)`` after every image that had to be drawn.

    Raises:
        ValueError: an argument is out of its range.
        FileExistsError: `root` holds something else, other streets, or changed ones.
        RuntimeError: the drawing processes died, e.g. because a script has no main guard.
    """
    wanted = _checked(style, layout, split, images, size, seed, start, train_ids)
    if workers is not None and _whole("workers", workers) < 0:
        raise ValueError(f"workers must be >= 0, got {workers}")
    root = Path(root).expanduser()
    record, marker = root / f"streets_{split}.json", root / f".streets_{split}.json"
    _check_root(root, wanted, record, marker)
    finished = _read(record)
    jobs = _jobs(root, wanted)
    missing = [k for k, job in enumerate(jobs) if not all(is_whole(Path(f)) for f in job.files)]
    if finished is None:
        root.mkdir(parents=True, exist_ok=True)
        write_json(marker, wanted)
    for folder in sorted({Path(file).parent for job in jobs for file in job.files}):
        folder.mkdir(parents=True, exist_ok=True)

    sums: dict[int, list[str]] = {}
    with _drawing(workers, len(missing)) as run:
        for done, (k, drawn) in enumerate(
            zip(missing, run([jobs[k] for k in missing]), strict=True), 1
        ):
            sums[k] = drawn
            if progress is not None:
                progress(done, len(missing))
    digest = _digest(root, jobs, sums)
    if finished is None:
        if wanted["layout"] == "gta5":
            names = "".join(f"{Path(job.image).stem}\n" for job in jobs)
            write_bytes(root / f"{split}.txt", names.encode())
        write_json(record, {**wanted, "digest": digest})
        marker.unlink(missing_ok=True)
    elif finished.get("digest") != digest:
        raise FileExistsError(
            f"{root} holds these streets, but files of the split {split} were changed since; "
            f"{_REMEDY}"
        )
    return StreetsReport(
        root=root,
        style=wanted["style"],
        layout=wanted["layout"],
        split=split,
        images=wanted["images"],
        drawn=len(missing),
        reused=not missing and finished is not None,
        first=wanted["start"],
        seed=wanted["seed"],
        size=(wanted["size"][0], wanted["size"][1]),
        digest=digest,
    )


def _whole(name: str, value: Any) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise ValueError(f"{name} must be a whole number, got {value!r}") from None


def _checked(
    style: str,
    layout: str | None,
    split: str,
    images: int,
    size: tuple[int, int],
    seed: int,
    start: int | None,
    train_ids: bool,
) -> dict[str, Any]:
    """The arguments as JSON values, or a ValueError that says what is allowed."""
    if style not in STYLES:
        raise ValueError(f"unknown style {style!r}; expected {' or '.join(STYLES)}")
    layout = DEFAULT_LAYOUT[style] if layout is None else layout
    if layout not in LAYOUTS:
        raise ValueError(f"unknown layout {layout!r}; expected {' or '.join(LAYOUTS)}")
    if split not in LAYOUTS[layout]:
        raise ValueError(
            f"unknown split {split!r}; layout {layout!r} has {', '.join(LAYOUTS[layout])}"
        )
    if train_ids and layout != "cityscapes":
        raise ValueError("train_ids=True is for layout 'cityscapes'; GTA5 has label ids only")
    if not isinstance(size, (tuple, list)) or len(size) != 2:
        raise ValueError(f"size is (width, height), got {size!r}")
    first = DEFAULT_START[split] if start is None else _whole("start", start)
    numbers = {
        "images": (_whole("images", images), 1, LAST),
        "width of size": (_whole("width of size", size[0]), 64, 4096),
        "height of size": (_whole("height of size", size[1]), 32, 4096),
        "seed": (_whole("seed", seed), 0, 2**63 - 1),
        "start": (first, 1, LAST),
    }
    for name, (number, low, high) in numbers.items():
        if not low <= number <= high:
            raise ValueError(f"{name} must be {low}..{high}, got {number}")
    count = numbers["images"][0]
    if first + count - 1 > LAST:
        raise ValueError(
            f"{count} images from number {first} on would pass {LAST}, the last one (GTA5's names "
            "have five digits); give a smaller start or fewer images"
        )
    return {
        "version": VERSION,
        "style": style,
        "layout": layout,
        "split": split,
        "seed": numbers["seed"][0],
        "size": [numbers["width of size"][0], numbers["height of size"][0]],
        "images": count,
        "start": first,
        "train_ids": bool(train_ids),
    }


def _read(path: Path) -> dict[str, Any] | None:
    """A record of streets, or None where there is none that can be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and "style" in content else None


def _check_root(root: Path, wanted: dict[str, Any], record: Path, marker: Path) -> None:
    """FileExistsError unless the root is free for these streets, or already theirs."""
    if not os.path.lexists(root):
        return
    if not root.is_dir():
        raise FileExistsError(f"{root} is not a folder; {_REMEDY}")
    if not any(root.iterdir()):
        return
    found = {
        path: content
        for split in LAYOUTS["gta5"]
        for path in (root / f"streets_{split}.json", root / f".streets_{split}.json")
        if (content := _read(path)) is not None
    }
    if not found:
        raise FileExistsError(
            f"{root} holds something else: no readable streets_<split>.json in it; {_REMEDY}"
        )
    for path, content in found.items():
        same_split = path in (record, marker)
        keys = list(wanted) if same_split else _SHARED
        differences = [
            f"{key} is {content.get(key)!r} there and {wanted[key]!r} here"
            for key in keys
            if content.get(key) != wanted[key]
        ]
        if differences:
            raise FileExistsError(
                f"{root} holds other streets ({path.name}): {'; '.join(differences)}; {_REMEDY}"
            )
        if not same_split:
            first, count = content.get("start"), content.get("images")
            if not (isinstance(first, int) and isinstance(count, int)):
                raise FileExistsError(f"{path} is damaged: no start and images in it; {_REMEDY}")
            if first < wanted["start"] + wanted["images"] and wanted["start"] < first + count:
                raise ValueError(
                    f"streets {wanted['start']}..{wanted['start'] + wanted['images'] - 1} of the "
                    f"split {wanted['split']} overlap {first}..{first + count - 1} of the split "
                    f"{content.get('split')} in {root}; give another start"
                )


def _jobs(root: Path, wanted: dict[str, Any]) -> list[Job]:
    style, split = wanted["style"], wanted["split"]
    jobs = []
    for number in range(wanted["start"], wanted["start"] + wanted["images"]):
        trained: str | None = None
        if wanted["layout"] == "gta5":
            image = root / "images" / f"{number:05d}.png"
            label = root / "labels" / f"{number:05d}.png"
        else:
            name = f"{style}_{number:06d}_000019"
            image = root / "leftImg8bit" / split / style / f"{name}_leftImg8bit.png"
            label = root / "gtFine" / split / style / f"{name}_gtFine_labelIds.png"
            if wanted["train_ids"]:
                trained = str(label.with_name(f"{name}_gtFine_labelTrainIds.png"))
        size = wanted["size"][0], wanted["size"][1]
        palette = wanted["layout"] == "gta5"
        jobs.append(
            Job(style, number, wanted["seed"], size, str(image), str(label), trained, palette)
        )
    return jobs


@contextmanager
def _drawing(
    workers: int | None, count: int
) -> Iterator[Callable[[list[Job]], Iterator[list[str]]]]:
    """A function that draws jobs in order, in this process or in several."""
    if workers is None:
        # a worker takes as long to start as it takes to draw about eight images
        workers = min(_cores(), count // 8) if _can_spawn() else 0
    workers = min(workers, count)
    if workers < 2:
        yield lambda jobs: map(draw, jobs)
        return
    # spawned, not forked: a copy of a process with threads (torch, OpenCV) may hang
    pool = ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=start_worker
    )
    try:
        yield lambda jobs: pool.map(draw, jobs, chunksize=2)
    except BrokenProcessPool as error:
        raise RuntimeError(
            "the drawing processes ended too early. A script that calls make_streets needs "
            "if __name__ == '__main__': around the call; or draw in one process with workers=0"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _can_spawn() -> bool:
    """False where the main program came through a pipe: a new process could not import it."""
    program = getattr(sys.modules.get("__main__"), "__file__", None)
    return program is None or Path(program).is_file()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _digest(root: Path, jobs: list[Job], known: dict[int, list[str]]) -> str:
    """sha256 over the names and contents of all files; those drawn just now are known."""
    total = hashlib.sha256()
    for k, job in enumerate(jobs):
        sums = known.get(k) or [
            hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in job.files
        ]
        for file, digest in zip(job.files, sums, strict=True):
            total.update(f"{Path(file).relative_to(root).as_posix()} {digest}\n".encode())
    return total.hexdigest()
