"""Explain what is wrong with a dataset before a training run does, and what to do about it.

Each check is a small function from the splits (and what was learned from reading the images) to
findings. Reading runs in a thread pool; OpenCV decodes outside Python's lock.
"""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from engine.findings import Finding, Findings, by_level
from engine.wording import counted
from imaging.files import (
    UnreadableImageError,
    decode_image,
    image_format,
    read_bytes,
    relative_name,
)
from reid.datasets.base import Record, Splits

__all__ = ["SplitCounts", "ValidationReport", "validate"]

_LISTS = ("train", "query", "gallery")
_SMALL = (32, 16)  # (height, width) in pixels, below which a person is a handful of pixels
_SLENDER = 6.0  # longer to shorter side; a whole standing person is about 2 to 4
_EXTENSIONS = {
    "JPEG": {".jpg", ".jpeg"},
    "PNG": {".png"},
    "BMP": {".bmp"},
    "WebP": {".webp"},
    "TIFF": {".tif", ".tiff"},
    "PNM": {".ppm", ".pgm", ".pnm", ".pbm"},
}


@dataclass(frozen=True)
class SplitCounts:
    """The size of a split; ``cameras`` is 0 when there are no camera labels.

    ``official`` is the number of images that the published split has, None where there is none.
    """

    split: str
    images: int
    identities: int
    cameras: int
    official: int | None = None


@dataclass(frozen=True)
class ValidationReport(Findings):
    """What :func:`validate` found, errors first. ``images_read`` is 0 when none were to be read."""

    name: str
    protocol: str
    table: tuple[SplitCounts, ...]
    findings: tuple[Finding, ...]
    images_read: int

    def as_dict(self) -> dict[str, Any]:
        """For a JSON file."""
        return {**asdict(self), "ok": self.ok}


@dataclass(frozen=True, slots=True)
class _Content:
    """What reading a file told: a reason when it failed, otherwise the rest."""

    reason: str = ""
    kind: str | None = None
    digest: bytes = b""
    height: int = 0
    width: int = 0
    blank: bool = False


def validate(
    splits: Splits,
    *,
    read_images: bool = True,
    progress: Callable[[int, int], None] | None = None,
    workers: int | None = None,
) -> ValidationReport:
    """Check the lists of a dataset and, unless ``read_images=False``, every image in them.

    Args:
        progress: called as ``progress(done, total)`` while images are read.
        workers: threads that read; None: the number of processors, at most 16.
    """
    contents = _read_all(splits, progress, workers) if read_images else {}
    findings = chain(
        _check_files(splits, contents) if read_images else _check_existence(splits),
        _check_repeated(splits),
        _check_official(splits),
        _check_train(splits),
        _check_test(splits),
        _check_overlap(splits),
        _check_cameras(splits),
        _check_duplicates(splits, contents),
        _check_shapes(splits, contents),
        (Finding("note", note) for note in splits.notes),
    )
    return ValidationReport(
        name=splits.name,
        protocol=splits.protocol,
        table=tuple(
            _counts(split, splits.records(split), official)
            for split, official in zip(_LISTS, splits.official or (None,) * 3, strict=True)
        ),
        findings=by_level(findings),
        images_read=len(contents),
    )


# ------------------------------------------------------------------------------- the files


def _check_existence(splits: Splits) -> Iterator[Finding]:
    missing = [p for p in _paths(splits) if not Path(p).is_file()]
    if missing:
        yield Finding(
            "error",
            f"{_are(missing, 'image')} not there: copy the files, or correct the list",
            tuple(relative_name(p, splits.root) for p in missing),
        )
    yield Finding(
        "note",
        "the images were not opened, so damaged files, duplicates and sizes are unchecked",
    )


def _check_files(splits: Splits, contents: Mapping[str, _Content]) -> Iterator[Finding]:
    broken = {p: c.reason for p, c in contents.items() if c.reason}
    if broken:
        yield Finding(
            "error",
            f"{_are(broken, 'image')} unreadable, where a training run would stop: replace or "
            "delete the files",
            tuple(f"{relative_name(p, splits.root)}: {reason}" for p, reason in broken.items()),
        )
    misnamed = {
        p: c.kind
        for p, c in contents.items()
        if c.kind and Path(p).suffix.lower() not in _EXTENSIONS.get(c.kind, {""})
    }
    if misnamed:
        kinds = " and ".join(sorted(set(misnamed.values())))
        names = " and ".join(sorted({Path(p).suffix.lower() for p in misnamed}))
        yield Finding(
            "note",
            f"{_are(misnamed, 'file')} named {names} but {kinds} inside: read correctly "
            "here, by their bytes; rename them if other software stumbles",
            tuple(relative_name(p, splits.root) for p in misnamed),
        )
    blank = [p for p, c in contents.items() if c.blank]
    if blank:
        yield Finding(
            "warning",
            f"{_are(blank, 'image')} of one single colour, so nothing can be "
            "recognised: delete them",
            tuple(relative_name(p, splits.root) for p in blank),
        )


def _check_duplicates(splits: Splits, contents: Mapping[str, _Content]) -> Iterator[Finding]:
    same: dict[bytes, list[tuple[str, Record]]] = defaultdict(list)
    for split in _LISTS:
        for record in splits.records(split):
            content = contents.get(record.path)
            if content and content.digest:
                same[content.digest].append((split, record))
    groups = [group for group in same.values() if len(group) > 1]

    def example(group: Sequence[tuple[str, Record]]) -> str:
        return " = ".join(f"{s}: {relative_name(r.path, splits.root)}" for s, r in group)

    shared = [g for g in groups if _matches_itself(g)]
    if shared:
        yield Finding(
            "warning",
            f"{_are(shared, 'image')} in query and in gallery with the same bytes: a "
            "sure match that tells nothing; remove one of the two",
            tuple(map(example, shared)),
        )
    leaked = [g for g in groups if "train" in (found := {s for s, _ in g}) and len(found) > 1]
    if leaked:
        yield Finding(
            "warning",
            f"{_are(leaked, 'image')} both trained on and tested with (same bytes): "
            "remove them from one side",
            tuple(map(example, leaked)),
        )
    disputed = [g for g in groups if len({r.pid for _, r in g}) > 1]
    if disputed:
        yield Finding(
            "warning",
            f"{_are(disputed, 'image')} stored under several identities with the "
            "same bytes: one label is wrong, or the identities are one person; merge or delete",
            tuple(map(example, disputed)),
        )
    told = {id(g) for g in chain(shared, leaked, disputed)}
    copies = [g for g in groups if id(g) not in told]
    if copies:
        yield Finding(
            "note",
            f"{_are(copies, 'image')} stored more than once under the same "
            "identity: harmless here, but the copies add nothing; delete them",
            tuple(map(example, copies)),
        )


def _matches_itself(group: Sequence[tuple[str, Record]]) -> bool:
    """Whether a query finds its own copy in the gallery, and that match counts."""
    queries = [r for split, r in group if split == "query"]
    gallery = [r for split, r in group if split == "gallery"]
    return any(
        q.pid != g.pid or q.camid is None or q.camid != g.camid for q in queries for g in gallery
    )


def _check_shapes(splits: Splits, contents: Mapping[str, _Content]) -> Iterator[Finding]:
    good = {p: c for p, c in contents.items() if not c.reason}
    if not good:
        return
    small = [p for p, c in good.items() if c.height < _SMALL[0] or c.width < _SMALL[1]]
    slender = [
        p for p, c in good.items() if max(c.height, c.width) > _SLENDER * min(c.height, c.width)
    ]

    def examples(paths: Iterable[str]) -> tuple[str, ...]:
        return tuple(
            f"{relative_name(p, splits.root)} ({good[p].height}x{good[p].width})" for p in paths
        )

    if small:
        yield Finding(
            "warning",
            f"{_are(small, 'image')} smaller than {_SMALL[0]}x{_SMALL[1]} pixels "
            "(height x width), too little to recognise anyone: consider deleting them",
            examples(small),
        )
    if slender:
        yield Finding(
            "warning",
            f"{_are(slender, 'image')} more than {_SLENDER:g} times longer than "
            "wide, or wider than long: check that the boxes were cut out rightly",
            examples(slender),
        )
    wide = [p for p, c in good.items() if c.width > c.height]
    if len(wide) > len(good) / 2:
        yield Finding(
            "note",
            f"most images ({len(wide):,} of {len(good):,}) are wider than high, unlike standing "
            "people: choose an input size to suit, such as 256x256 for vehicles, and check that "
            "these are cut-outs and not whole frames",
        )
    sizes = Counter((c.height, c.width) for c in good.values())
    common = ", ".join(f"{h}x{w} ({n:,})" for (h, w), n in sizes.most_common(3))
    heights, widths = zip(*sizes, strict=True)
    yield Finding(
        "note",
        f"image sizes (height x width): {common}"
        if len(sizes) <= 3
        else f"image sizes: height {min(heights)} to {max(heights)}, width {min(widths)} to "
        f"{max(widths)} pixels; most frequent {common}",
    )


# ------------------------------------------------------------------------------- the lists


def _check_repeated(splits: Splits) -> Iterator[Finding]:
    """One file under two entries of the lists; files of the same bytes are found by reading."""
    times = Counter(r.path for split in _LISTS for r in splits.records(split))
    if repeated := [path for path, count in times.items() if count > 1]:
        yield Finding(
            "error",
            f"{_are(repeated, 'file')} listed more than once, so trained on or counted more than "
            "once: remove all but one entry of each",
            tuple(relative_name(path, splits.root) for path in repeated),
        )


def _check_official(splits: Splits) -> Iterator[Finding]:
    if splits.official is None or splits.counts == splits.official:
        return
    told = ", ".join(
        f"{split} {found:,} instead of {official:,}"
        for split, found, official in zip(_LISTS, splits.counts, splits.official, strict=True)
        if found != official
    )
    yield Finding(
        "note",
        f"the numbers of images are not the published ones ({told}), so results cannot be "
        "compared with published ones: unpack the data again if it should be the whole set",
    )


def _check_train(splits: Splits) -> Iterator[Finding]:
    images = Counter(r.pid for r in splits.train)
    if not images:
        yield Finding(
            "note",
            "there are no training images: the data can be evaluated on, but not trained on",
        )
        return
    if len(images) == 1:
        yield Finding(
            "error",
            f"all {len(splits.train):,} training images are of one identity "
            f"({_identity(splits, *images)}), from which nothing can be told apart: check that "
            "each identity has a folder or pid of its own, or give an identity_pattern that finds "
            "it in the names of the files",
        )
    single = [pid for pid, count in images.items() if count == 1]
    if single and len(images) > 1:
        yield Finding(
            "warning",
            f"{len(single):,} of {len(images):,} training identities have a single image, so a "
            "metric loss finds no positive for them: add images or remove these identities",
            tuple(_identity(splits, pid) for pid in single),
        )


def _check_test(splits: Splits) -> Iterator[Finding]:
    if not splits.query and not splits.gallery:
        yield Finding(
            "warning",
            "there are no query and gallery images, so a trained model cannot be evaluated: lower "
            "train_fraction, or add these splits",
        )
        return
    if not splits.query or not splits.gallery:
        yield Finding(
            "error",
            "the gallery is empty, so no query can find a match: add gallery images"
            if splits.query
            else f"there are no queries, so nothing can be evaluated: {_why_no_query(splits)}",
        )
        return
    everyone = {r.pid for r in splits.gallery}
    pairs: dict[int, set[int | None]] = defaultdict(set)  # identity -> cameras in the gallery
    for record in splits.gallery:
        pairs[record.pid].add(record.camid)
    absent = [r for r in splits.query if r.pid not in everyone]
    same_camera = [r for r in splits.query if r.pid in everyone and not _positive(r, pairs[r.pid])]
    lost = len(absent) + len(same_camera)
    if lost == len(splits.query):
        remedy = (
            "their identities are not in the gallery at all: check that both use the same names"
            if len(absent) == lost
            else "matches seen by the query's own camera do not count: correct the camera labels, "
            "or ignore them with camera=None"
        )
        yield Finding(
            "error",
            f"no query has a match that counts in the gallery, so every result would be empty; "
            f"{remedy}",
            _identities(splits, chain(absent, same_camera)),
        )
    else:
        if absent:
            yield Finding(
                "warning",
                f"{len(absent):,} of {len(splits.query):,} queries are of identities that are not "
                "in the gallery; the usual evaluation skips them: add gallery images, or remove "
                "these queries",
                _identities(splits, absent),
            )
        if same_camera:
            yield Finding(
                "warning",
                f"{len(same_camera):,} of {len(splits.query):,} queries have matches only from "
                "their own camera, which do not count, so the usual evaluation skips them: add "
                "images from another camera, or ignore cameras with camera=None",
                _identities(splits, same_camera),
            )
    searched = {r.pid for r in splits.query}
    distractors = [r for r in splits.gallery if r.pid not in searched]
    if distractors:
        yield Finding(
            "note",
            f"{len(distractors):,} of {len(splits.gallery):,} gallery images are distractors, of "
            f"{counted(len({r.pid for r in distractors}), 'identity')} that no query is of",
        )


def _why_no_query(splits: Splits) -> str:
    if any(r.camid is not None for r in splits.gallery):
        return (
            "no test identity was seen by two cameras; correct the camera labels, or ignore them "
            "with camera=None"
        )
    return "no test identity has two images; add images"


def _check_overlap(splits: Splits) -> Iterator[Finding]:
    overlap = {r.pid for r in splits.train} & {r.pid for r in splits.records("test")}
    if overlap:
        yield Finding(
            "error",
            f"{_are(overlap, 'identity')} in train and in test, so results "
            "would be too good: move each to one side, or leave out the split to have one made",
            tuple(_identity(splits, pid) for pid in sorted(overlap)),
        )


def _check_cameras(splits: Splits) -> Iterator[Finding]:
    records = splits.train + splits.records("test")
    labelled = {r.camid for r in records if r.camid is not None}
    unlabelled = sum(r.camid is None for r in records)
    tested = {r.camid is None for r in splits.records("test")}
    if not labelled:
        yield Finding(
            "note",
            "there are no camera labels: all matches count, also from the query's own camera, "
            "which reads better than the usual cross-camera results",
        )
    elif tested == {True} and all(r.camid is not None for r in splits.train):
        yield Finding(
            "note",
            "query and gallery have no camera labels, while train has: all matches count, also "
            "from the query's own camera, which reads better than cross-camera results",
        )
    elif unlabelled:
        yield Finding(
            "error",
            f"{unlabelled:,} of {len(records):,} images have no camera label while the others "
            "have: complete the labels, or ignore them with camera=None",
        )
    elif len(labelled) == 1:
        (camera,) = labelled
        yield Finding(
            "error" if splits.query else "warning",
            f"all images are of one camera ({splits.cameras.get(camera, str(camera))}), and "
            "matches from the query's own camera do not count: correct the labels, or ignore "
            "them with camera=None",
        )


# ------------------------------------------------------------------------------- reading


def _read_all(
    splits: Splits, progress: Callable[[int, int], None] | None, workers: int | None
) -> dict[str, _Content]:
    """path -> content, in the order of the lists."""
    paths = _paths(splits)
    contents: dict[str, _Content] = {}
    with ThreadPoolExecutor(workers or min(16, os.cpu_count() or 1)) as pool:
        for batch in _batches(paths, 256):
            contents.update(zip(batch, pool.map(_inspect, batch), strict=True))
            if progress:
                progress(len(contents), len(paths))
    return contents


def _inspect(path: str) -> _Content:
    try:
        data = read_bytes(path)
        image = decode_image(data)
    except UnreadableImageError as error:
        return _Content(reason=error.reason)
    except ValueError as error:
        return _Content(reason=str(error))
    height, width = image.shape[:2]
    return _Content(
        kind=image_format(data),
        digest=hashlib.blake2b(data, digest_size=16).digest(),
        height=height,
        width=width,
        blank=bool((image == image[0, 0]).all()),
    )


def _batches(items: Iterable[str], size: int) -> Iterator[list[str]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


# ------------------------------------------------------------------------------- words


def _paths(splits: Splits) -> list[str]:
    return list(dict.fromkeys(r.path for split in _LISTS for r in splits.records(split)))


def _counts(split: str, records: Sequence[Record], official: int | None) -> SplitCounts:
    cameras = {r.camid for r in records} - {None}
    return SplitCounts(split, len(records), len({r.pid for r in records}), len(cameras), official)


def _positive(query: Record, cameras: set[int | None]) -> bool:
    """Whether a gallery with this identity in ``cameras`` holds a match that counts."""
    return query.camid is None or bool(cameras - {query.camid})


def _identity(splits: Splits, pid: int) -> str:
    return splits.identities.get(pid, str(pid))


def _identities(splits: Splits, records: Iterable[Record]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_identity(splits, r.pid) for r in records))


def _are(items: Sized, noun: str) -> str:
    """``1 image is``, ``3 images are``."""
    return f"{counted(len(items), noun)} {'is' if len(items) == 1 else 'are'}"
