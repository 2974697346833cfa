"""Batches of prepared images, decoded by other processes ahead of the network that takes them."""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from imaging.files import UnreadableImageError, read_image
from imaging.samples import Transform, collate_samples

from .image_sources import Item
from .video import read_crops

__all__ = ["Batch", "batch_ranges", "default_workers", "load_batches", "read_ahead", "stack"]

T = TypeVar("T")


class Batch(NamedTuple):
    """Some items, those that could be read as one tensor."""

    inputs: Tensor | None
    """(B, 3, H, W) uint8 RGB; None where B = 0."""
    positions: list[int]
    """B places in the list of items, ascending."""
    failed: list[tuple[int, str]]
    """Places of the others, and why."""


def batch_ranges(start: int, stop: int, batch_size: int) -> list[range]:
    """Positions start .. stop - 1 in batches; the last one may be shorter."""
    return [range(i, min(i + batch_size, stop)) for i in range(start, stop, batch_size)]


def load_batches(
    items: Sequence[Item],
    batches: Iterable[range],
    transforms: Transform,
    *,
    workers: int = 0,
    pin_memory: bool = False,
) -> Iterator[Batch]:
    """Read, cut out and transform items, batch by batch, in order.

    Args:
        items: all of them; ``batches`` are ranges of their positions. Each range comes back as one
            batch, or as several where it holds images and videos.
        workers: processes that decode; 0 does it here. A video takes one, for its frames come one
            after the other.
        pin_memory: for fast copies to a GPU.
    """
    parts = [part for batch in batches for part in _by_source(items, batch)]
    for video, group in itertools.groupby(parts, key=lambda part: _video(items[part[0]])):
        ranges = list(group)
        source: Any
        if video is None:
            source, processes = _Images(items, ranges, transforms), min(workers, len(ranges))
        else:
            source, processes = _Crops(items, ranges, transforms), min(workers, 1)
        yield from read_ahead(source, processes, pin_memory)


def read_ahead(source: Dataset[T], processes: int, pin_memory: bool) -> DataLoader[T]:
    """Whole batches, as ``source`` makes them, by processes that work ahead; 0 does it here."""
    return DataLoader(
        source,
        batch_size=None,
        num_workers=processes,
        pin_memory=pin_memory,
        prefetch_factor=4 if processes else None,
        worker_init_fn=_start,
        # forked, the list is shared and not sent; elsewhere the platform's own way
        multiprocessing_context="fork" if processes and sys.platform == "linux" else None,
    )


def default_workers(device_type: str) -> int:
    """Processes that decode: on a GPU what the processor has left, up to 16; on a CPU one.

    A CPU's cores belong to the network, whose share is fifty times that of a small JPEG. With
    several processes on the machine (torchrun) each takes its part.
    """
    if device_type == "cpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    return min(max((cores or 1) // processes - 1, 1), 16)


def stack(images: Sequence[Tensor]) -> Tensor:
    """B tensors (3, H, W) -> (B, 3, H, W), in their memory format.

    Raises:
        ValueError: images of different sizes.
    """
    batch: Tensor = collate_samples([{"inputs": i, "path": ""} for i in images], ())["inputs"]
    return batch


class _Images(Dataset[Batch]):
    """Batches of image files, each made in one go."""

    def __init__(
        self, items: Sequence[Item], ranges: Sequence[range], transforms: Transform
    ) -> None:
        self.items, self.ranges, self.transforms = items, ranges, transforms

    def __len__(self) -> int:
        return len(self.ranges)

    def __getitem__(self, number: int) -> Batch:
        return _batch(self.ranges[number], map(self._read, self.ranges[number]), self.transforms)

    def _read(self, position: int) -> np.ndarray | str:
        try:
            return read_image(self.items[position].path)
        except UnreadableImageError as error:
            return error.reason


class _Crops(IterableDataset[Batch]):
    """Batches of boxes of one video."""

    def __init__(
        self, items: Sequence[Item], ranges: Sequence[range], transforms: Transform
    ) -> None:
        self.items, self.ranges, self.transforms = items, ranges, transforms

    def __iter__(self) -> Iterator[Batch]:
        wanted = [self.items[position] for part in self.ranges for position in part]
        boxes = [(item.frame, item.box) for item in wanted]
        crops = read_crops(wanted[0].path, boxes)  # type: ignore[arg-type]  # of videos, not None
        for part in self.ranges:
            yield _batch(part, itertools.islice(crops, len(part)), self.transforms)


def _batch(
    positions: Iterable[int], images: Iterable[np.ndarray | str], transforms: Transform
) -> Batch:
    batch = Batch(None, [], [])
    prepared = []
    for position, image in zip(positions, images, strict=True):
        if isinstance(image, str):
            batch.failed.append((position, image))
        else:
            batch.positions.append(position)
            prepared.append(transforms(image, None))
    return batch._replace(inputs=stack(prepared)) if prepared else batch


def _by_source(items: Sequence[Item], batch: range) -> Iterator[range]:
    """A range in parts of image files, or of one video."""
    start = batch.start
    for _, group in itertools.groupby(batch, key=lambda position: _video(items[position])):
        stop = start + sum(1 for _ in group)
        yield range(start, stop)
        start = stop


def _video(item: Item) -> str | None:
    return None if item.frame is None else item.path


def _start(_: int) -> None:
    """Ctrl-C reaches the whole process group; the main process ends its workers itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(0)  # the processes are the parallelism
