"""How many pixels of each class every image has: counted once, kept in a cache.

Class-aware samplers and the class tables of ``tools/prepare_data.py`` live on this. Counting reads
each label file once, as it lies on disk (ids of the source), and maps the histogram of ids, not
the pixels, to classes. The result is a small .npz file in the user's cache, so that no file has to
be written into a dataset.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import torch
from mmengine.dist import broadcast, get_rank, is_distributed
from mmengine.logging import print_log

from engine.atomic import write_bytes
from seg.label_spaces import SPACES, UNKNOWN, label_table
from seg.transforms.loading import read_labels

__all__ = [
    "ClassStatistics",
    "class_counts",
    "class_statistics",
    "id_histogram",
    "map_in_threads",
    "save_statistics",
    "statistics_folder",
    "unknown_ids",
]

Progress = Callable[[int, int], None]
T = TypeVar("T")
R = TypeVar("R")

_EXACT = 2**24  # up to here float32, in which OpenCV gives its histograms, counts without gaps


@dataclass(frozen=True)
class ClassStatistics:
    """Pixels by image and class.

    Attributes:
        counts: (N, C + 1) int64, images in the dataset's order; the last column holds the ignored
            pixels.
        classes: C names. space: of labels, that the classes belong to.
    """

    counts: np.ndarray
    classes: tuple[str, ...]
    space: str = ""

    def __post_init__(self) -> None:
        if self.counts.ndim != 2 or self.counts.shape[1] != len(self.classes) + 1:
            raise ValueError(
                f"counts must be (N, {len(self.classes) + 1}), pixels of {len(self.classes)} "
                f"classes and of ignored ones, got {self.counts.shape}"
            )

    @property
    def pixels(self) -> np.ndarray:
        """(C,) int64: labelled pixels of each class in all images."""
        return self.counts[:, :-1].sum(axis=0)  # type: ignore[no-any-return]

    @property
    def frequencies(self) -> np.ndarray:
        """(C,) float64: each class's share, 0..1, of all labelled pixels; or zeros."""
        pixels = self.pixels
        return pixels / max(int(pixels.sum()), 1)

    @property
    def ignored(self) -> float:
        """Share, 0..1, of all pixels that are ignored."""
        return float(self.counts[:, -1].sum() / max(int(self.counts.sum()), 1))

    def images_with(self, index: int, min_pixels: int = 1) -> np.ndarray:
        """(M,) int64: indices of the images with at least ``min_pixels`` of a class, in order."""
        if not 0 <= index < len(self.classes):
            raise ValueError(f"class index must be in 0..{len(self.classes) - 1}, got {index}")
        return np.flatnonzero(self.counts[:, index] >= min_pixels)


def class_statistics(
    dataset: Any,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> ClassStatistics:
    """Count the pixels of each class in each image of a dataset, or read the counts of last time.

    With several processes the first one reads and the others receive its counts.

    Args:
        dataset: with ``pairs``, ``source``, ``space`` and ``metainfo`` of the seg datasets.
        workers: threads that read; None: the number of processors, at most 16.
        progress: called as ``progress(done, total)``; None shows a bar on a terminal.
        cache_dir: default: ``$REIDSEG_CACHE/segmentation``, or ``~/.cache/reidseg/segmentation``.
            A folder that cannot be written costs the counting next time, and is no error. An entry
            that is damaged is made again.

    Raises:
        ValueError: an image has no label file, or a file cannot be read. Ids that the source does
            not define are counted as ignored and named in the log; loading such a file is what
            decides whether it is an error.
    """
    if not is_distributed():
        return _statistics(dataset, workers, progress, cache_dir)
    # The failure travels, too: processes that waited for a count in vain would hang.
    statistics, failure = None, None
    if get_rank() == 0:
        try:
            statistics = _statistics(dataset, workers, progress, cache_dir)
        except Exception as error:
            failure = error
    good = torch.tensor(int(failure is None))
    broadcast(good)
    if failure is not None:
        raise failure
    if not good.item():
        raise RuntimeError("the first process could not count the labels; its message says why")
    classes = SPACES[dataset.space].classes
    counts = torch.zeros(len(dataset.pairs), len(classes) + 1, dtype=torch.int64)
    if statistics is not None:
        counts.copy_(torch.from_numpy(statistics.counts))
    broadcast(counts)
    return ClassStatistics(counts.numpy(), classes, dataset.space)


def save_statistics(
    dataset: Any,
    statistics: ClassStatistics,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Path | None:
    """Put statistics where :func:`class_statistics` looks; None if no file could be written."""
    path = _cache_file(dataset, cache_dir)
    if path is None:
        return None
    content = io.BytesIO()
    np.savez_compressed(content, key=np.array(_key(dataset)), counts=statistics.counts)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content.getvalue())
    except OSError as error:
        print_log(f"the class statistics are not kept: {error}", "current")
        return None
    return path


def statistics_folder() -> Path | None:
    """Where class statistics are kept; None if this user has no home."""
    if folder := os.environ.get("REIDSEG_CACHE"):
        return Path(folder).expanduser() / "segmentation"
    if folder := os.environ.get("XDG_CACHE_HOME"):
        return Path(folder, "reidseg", "segmentation")
    try:
        return Path.home() / ".cache" / "reidseg" / "segmentation"
    except RuntimeError:
        return None


# ------------------------------------------------------------------------------- counting


def id_histogram(labels: np.ndarray) -> np.ndarray:
    """How often each id stands in a label map.

    Args:
        labels: (H, W) uint8 or uint16.

    Returns:
        (256,) or (65536,) int64.
    """
    if labels.ndim != 2 or labels.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"expected (H, W) uint8 or uint16, got {labels.shape} {labels.dtype}")
    bins = 256 if labels.dtype == np.uint8 else 65536
    counts = np.zeros(bins, np.int64)
    # A third of np.bincount's time. It counts in float32: hence bands of rows.
    rows = max(1, _EXACT // max(1, labels.shape[1]))
    for top in range(0, labels.shape[0], rows):
        band = np.ascontiguousarray(labels[top : top + rows])
        if band.size:
            counts += cv2.calcHist([band], [0], None, [bins], [0, bins]).ravel().astype(np.int64)
    return counts


def class_counts(ids: np.ndarray, table: np.ndarray, num_classes: int) -> np.ndarray:
    """A histogram of ids as one of classes.

    Args:
        ids: (256,) or (65536,) int64, of :func:`id_histogram`.
        table: (256,) or (65536,) uint8, of :func:`seg.label_spaces.label_table`.

    Returns:
        (num_classes + 1,) int64; the last entry holds the ignored pixels, and those of ids that the
        source does not define (:func:`unknown_ids`).
    """
    classes = _classes(table, len(ids))
    column = np.where(classes < num_classes, classes, num_classes)
    # float64 weights count exactly up to 2^53
    return np.bincount(column, weights=ids, minlength=num_classes + 1).astype(np.int64)


def unknown_ids(ids: np.ndarray, table: np.ndarray) -> dict[int, int]:
    """id -> pixels, of the ids in a histogram that the source does not define."""
    found = np.flatnonzero((ids > 0) & (_classes(table, len(ids)) == UNKNOWN))
    return {int(i): int(ids[i]) for i in found}


def _classes(table: np.ndarray, size: int) -> np.ndarray:
    """(size,): the classes of ids 0 .. size - 1; what lies beyond the table is unknown."""
    return np.append(table[:size], np.full(max(0, size - len(table)), UNKNOWN, np.uint8))


def _count(
    path: str, source: str, table: np.ndarray, num_classes: int
) -> tuple[np.ndarray, dict[int, int]]:
    ids = id_histogram(read_labels(path, source))
    return class_counts(ids, table, num_classes), unknown_ids(ids, table)


def _statistics(
    dataset: Any,
    workers: int | None,
    progress: Progress | None,
    cache_dir: str | os.PathLike[str] | None,
) -> ClassStatistics:
    classes = SPACES[dataset.space].classes
    cached = _load(dataset, len(classes) + 1, cache_dir)
    if cached is not None:
        return ClassStatistics(cached, classes, dataset.space)
    paths = [pair.label for pair in dataset.pairs]
    if None in paths:
        first = dataset.pairs[paths.index(None)].image
        raise ValueError(
            f"{paths.count(None):,} of {len(paths):,} images have no label file, e.g. {first}: "
            "classes cannot be counted; choose another split or complete the labels"
        )
    count = partial(
        _count,
        source=dataset.source,
        table=label_table(dataset.source, dataset.space),
        num_classes=len(classes),
    )
    counts = np.zeros((len(paths), len(classes) + 1), np.int64)
    strange: dict[str, dict[int, int]] = {}
    with _bar(progress) as report:
        for row, (found, unknown) in enumerate(map_in_threads(count, paths, workers)):
            counts[row] = found
            if unknown:
                strange[paths[row]] = unknown
            report(row + 1, len(paths))
    if strange:
        path, ids = next(iter(strange.items()))
        print_log(
            f"{len(strange):,} label files have ids that the source {dataset.source!r} does not "
            f"define, counted as ignored here; e.g. {path}: {', '.join(map(str, ids))}. "
            "`python tools/prepare_data.py seg ROOT` lists them",
            "current",
            logging.WARNING,
        )
    statistics = ClassStatistics(counts, classes, dataset.space)
    save_statistics(dataset, statistics, cache_dir=cache_dir)
    return statistics


def map_in_threads(
    function: Callable[[T], R], items: Iterable[T], workers: int | None = None
) -> Iterator[R]:
    """Results in the order of the items, some hundred items ahead of the reader at most.

    OpenCV and pillow decode outside Python's lock, so that threads are enough.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be 1 or more, got {workers}")
    iterator = iter(items)
    with ThreadPoolExecutor(workers or min(16, os.cpu_count() or 1)) as pool:
        while batch := list(islice(iterator, 256)):
            yield from pool.map(function, batch)


@contextmanager
def _bar(progress: Progress | None) -> Iterator[Progress]:
    """The caller's progress, or a bar on stderr if that is a terminal."""
    if progress is not None:
        yield progress
        return
    from tqdm import tqdm

    with tqdm(desc="counting classes", unit="image", leave=False, disable=None) as bar:

        def report(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield report


# ------------------------------------------------------------------------------- the cache


def _key(dataset: Any) -> str:
    """Of all that the counts depend on; of label files the names, sizes and times of change."""
    table = label_table(dataset.source, dataset.space)
    key = hashlib.sha256()
    for part in ("1", dataset.metainfo["fingerprint"], dataset.source, dataset.space):
        key.update(f"{part}\0".encode())
    key.update(str(len(dataset.pairs)).encode() + b"\0" + table.tobytes())
    for pair in dataset.pairs:
        key.update(f"{_changed(pair.label)}\0".encode())
    return key.hexdigest()


def _changed(path: str | None) -> int:
    """When a file was last written, in ns; -1 where there is none."""
    try:
        return -1 if path is None else os.stat(path).st_mtime_ns  # noqa: PTH116 - 25,000 of them
    except OSError:
        return -1


def _cache_file(dataset: Any, cache_dir: str | os.PathLike[str] | None) -> Path | None:
    folder = statistics_folder() if cache_dir is None else Path(cache_dir).expanduser()
    if folder is None:
        return None
    name = re.sub(r"\W+", "_", f"{dataset.source}_{dataset.split}_{dataset.space}")
    return folder / f"{name}_{_key(dataset)[:16]}.npz"


def _load(
    dataset: Any, columns: int, cache_dir: str | os.PathLike[str] | None
) -> np.ndarray | None:
    """The counts in the cache; None where there are none, or none to be trusted."""
    path = _cache_file(dataset, cache_dir)
    if path is None:
        return None
    try:
        with np.load(path, allow_pickle=False) as content:
            counts, key = content["counts"], str(content["key"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        print_log(f"{path} is damaged ({error}) and made again", "current")
        return None
    good = (
        key == _key(dataset)
        and counts.dtype == np.int64
        and counts.shape == (len(dataset.pairs), columns)
        and not (counts < 0).any()
    )
    if not good:
        print_log(f"{path} is of other data and made again", "current")
        return None
    return counts  # type: ignore[no-any-return]
