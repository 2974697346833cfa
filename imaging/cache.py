"""Decoded images, or their files' bytes, kept in memory that all loading processes share.

Decoding costs most of what a small re-ID image costs, and is the same every epoch. A data set takes

- ``cache='resized'``: uint8 pixels after the Resize with which its transforms begin. The transforms
  stay as they are, for a Resize leaves an image that has its size alone: pixels and random draws
  are those of a run without cache.
- ``cache='bytes'``: the files as they are, for slow disks, or where nothing is resized first.
- ``cache=dict(kind=..., upfront=True)``: filled before the first batch, with a bar; otherwise each
  image is kept when it is first read.

What it takes is computed, logged and compared with the memory that is available beforehand. Workers
may be forked or spawned. Each process of torchrun has a cache of its own. Files that change while a
run goes on are not read again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from torch import Tensor
from tqdm import tqdm

from .files import UnreadableImageError, decode_image, read_bytes, read_image
from .samples import Transform, file_size

__all__ = ["CacheOption", "Reader", "available_memory", "image_reader"]

CacheOption: TypeAlias = "str | Mapping[str, Any] | None"
Reader: TypeAlias = Callable[[int], np.ndarray]
"""``position -> (H, W, 3) uint8 RGB``, an array of its own."""

KINDS = ("resized", "bytes")
_RESIZES = ("Resize", "AntialiasedResize")


def image_reader(
    cache: CacheOption,
    paths: Sequence[str],
    transforms: Sequence[Mapping[str, Any]] | Transform | None,
) -> Reader:
    """How a data set gets its images.

    Args:
        cache: None, 'resized', 'bytes', or ``dict(kind=..., upfront=True)``.
        paths: of all images.
        transforms: what the data set was given as such.

    Raises:
        ValueError: another kind, or 'resized' where the transforms do not begin with a Resize.
        MemoryError: it would not fit.
    """
    if cache is None:
        return FileReader(paths)
    options = dict(cache) if isinstance(cache, Mapping) else {"kind": cache}
    kind, upfront = options.pop("kind", None), bool(options.pop("upfront", False))
    if kind not in KINDS or options:
        raise ValueError(
            f"cache: expected None, 'resized', 'bytes' or dict(kind=..., upfront=True), got {cache}"
        )
    kept = ResizedImages(paths, transforms) if kind == "resized" else EncodedImages(paths)
    if upfront:
        kept.fill()
    return kept


class FileReader:
    """Every image is read from its file, every time."""

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = paths

    def __call__(self, position: int) -> np.ndarray:
        return read_image(self.paths[position])


class _Cache:
    """Images by position, each kept when it is first asked for.

    Two processes that meet an image at once both read it and write the same bytes.

    Args:
        paths: of the images.
        size: bytes of memory. what: is kept, for the log.
    """

    def __init__(self, paths: Sequence[str], size: int, what: str) -> None:
        self.paths = paths
        _check_memory(size, f"the cache of {len(paths):,} {what}")
        self.known = _shared(len(paths))

    def __call__(self, position: int) -> np.ndarray:
        raise NotImplementedError

    def fill(self) -> None:
        """Read what is not there yet, with a bar on the main process."""
        quiet = None if is_main_process() else True  # None: where there is a terminal
        for position in tqdm(range(len(self.paths)), "reading images", unit="", disable=quiet):
            if not self.known[position]:
                self(position)


class ResizedImages(_Cache):
    """Pixels after the Resize with which the transforms begin."""

    def __init__(self, paths: Sequence[str], transforms: Any) -> None:
        self.resize, height, width = _first_resize(transforms)
        shape = (len(paths), height, width, 3)
        super().__init__(paths, prod(shape), f"images of {height}x{width}")
        self.pixels = _shared(*shape)

    def __call__(self, position: int) -> np.ndarray:
        place = self.pixels[position]
        if not self.known[position]:
            # (3, H, W), which is (H, W, 3) in memory
            place.copy_(self.resize(read_image(self.paths[position]), 0).permute(1, 2, 0))
            self.known[position] = 1
        return place.numpy().copy()  # a transform may write into what it is given


class EncodedImages(_Cache):
    """The files' bytes, one after the other; decoded every time."""

    def __init__(self, paths: Sequence[str]) -> None:
        sizes = np.array([max(0, file_size(path)) for path in paths], np.int64)
        self.ends = np.cumsum(sizes)
        self.starts = self.ends - sizes
        total = int(sizes.sum())
        super().__init__(paths, total, "image files")
        self.data = _shared(total)

    def __call__(self, position: int) -> np.ndarray:
        path, place = self.paths[position], slice(self.starts[position], self.ends[position])
        if self.known[position]:
            data = self.data[place].numpy().tobytes()
        else:
            data = read_bytes(path)
            if len(data) == place.stop - place.start:  # else it is being written: not kept
                self.data[place] = torch.frombuffer(bytearray(data), dtype=torch.uint8)
                self.known[position] = 1
        try:
            return decode_image(data)
        except ValueError as error:
            raise UnreadableImageError.of(path, str(error)) from None


def available_memory() -> int | None:
    """Bytes that this process and its children may share; None where the system does not say."""
    found = [
        _meminfo(Path("/proc/meminfo")),
        _group_memory(Path("/sys/fs/cgroup")),
        # where torch's shared memory lies on Linux; 64 MB in a container that nobody told otherwise
        shutil.disk_usage("/dev/shm").free if Path("/dev/shm").is_dir() else None,
    ]
    return min((value for value in found if value is not None), default=None)


def _meminfo(file: Path) -> int | None:
    if not file.exists():
        return None
    lines = file.read_text().splitlines()
    return next((int(x.split()[1]) * 1024 for x in lines if x.startswith("MemAvailable:")), None)


def _group_memory(folder: Path) -> int | None:
    """What a container's limit leaves."""
    limit, used = folder / "memory.max", folder / "memory.current"
    if not limit.exists() or not used.exists() or (text := limit.read_text().strip()) == "max":
        return None
    return max(0, int(text) - int(used.read_text()))


def _check_memory(size: int, what: str) -> None:
    """Log what is taken.

    Raises:
        MemoryError: it is more than nine tenths of what is available, all processes of torchrun on
            this machine together.
    """
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    needed, available = size * processes, available_memory()
    each = f" ({processes} processes, {_gigabytes(size)} each)" if processes > 1 else ""
    if available is not None and needed > 0.9 * available:
        raise MemoryError(
            f"{what} needs {_gigabytes(needed)}{each}, and {_gigabytes(available)} of shared "
            "memory are available: leave the cache out, use smaller images, or give a container "
            "more (docker run --shm-size)"
        )
    of = "" if available is None else f" of {_gigabytes(available)} available"
    print_log(f"{what} takes up to {_gigabytes(needed)}{each}{of}", "current")


def _gigabytes(size: int) -> str:
    return f"{size / 2**30:.2f} GB"


def _shared(*shape: int) -> Tensor:
    """Zeros in memory that processes started from this one see, too, forked or spawned."""
    zeros: Tensor = torch.zeros(shape, dtype=torch.uint8).share_memory_()
    return zeros


def _first_resize(transforms: Any) -> tuple[Transform, int, int]:
    """The first step of the transforms as a function, its height and its width."""
    steps = list(transforms) if isinstance(transforms, Sequence) else []
    first = steps[0] if steps else {}
    if first.get("type") not in _RESIZES or first.get("p", 1) != 1:
        raise ValueError(
            "cache='resized' needs transforms that begin with a Resize, e.g. [dict(type='Resize', "
            f"height=256, width=128), ...], got {transforms}; cache='bytes' takes any"
        )
    from .transforms import build_transforms

    return build_transforms([first]), int(first["height"]), int(first["width"])
