"""Removed rows that still lie in segments, as ranges of ids in a small file of their own."""

import io

import numpy as np
from numpy.typing import NDArray

Ranges = NDArray[np.int64]
"""(R, 2) disjoint ascending ranges [start, stop)."""

NO_RANGES: Ranges = np.empty((0, 2), dtype=np.int64)


def make_ranges(ids: NDArray[np.int64]) -> Ranges:
    """(n,) ids in any order, without repetitions -> ranges."""
    ids = np.sort(ids)
    if not len(ids):
        return NO_RANGES
    breaks = np.flatnonzero(np.diff(ids) != 1)
    starts = ids[np.concatenate([[0], breaks + 1])]
    stops = ids[np.concatenate([breaks, [len(ids) - 1]])] + 1
    return np.stack([starts, stops], axis=1)


def range_ids(ranges: Ranges) -> NDArray[np.int64]:
    """The inverse of :func:`make_ranges`: (n,) ascending ids."""
    parts = [np.arange(start, stop, dtype=np.int64) for start, stop in ranges.tolist()]
    return np.concatenate([np.empty(0, np.int64), *parts])


def live_mask(ids: NDArray[np.int64], ranges: Ranges) -> NDArray[np.bool_]:
    """(n,) ascending ids -> (n,) bool, False where the row was removed."""
    mask = np.ones(len(ids), dtype=np.bool_)
    if len(ids):  # only the ranges that reach into these ids
        first = int(np.searchsorted(ranges[:, 1], ids[0], "right"))
        last = int(np.searchsorted(ranges[:, 0], ids[-1], "right"))
        for start, stop in np.searchsorted(ids, ranges[first:last]).tolist():
            mask[start:stop] = False
    return mask


def encode_ranges(ranges: Ranges) -> bytes:
    """As a file in numpy's format: (R, 2) int64."""
    file = io.BytesIO()
    np.save(file, ranges, allow_pickle=False)
    return file.getvalue()


def decode_ranges(data: bytes) -> Ranges:
    """ValueError for what is no list of ranges."""
    try:
        ranges = np.load(io.BytesIO(data), allow_pickle=False)
    except (EOFError, OSError) as error:
        raise ValueError(str(error)) from error
    bounds = ranges.reshape(-1)
    if ranges.dtype != np.int64 or ranges.shape != (len(bounds) // 2, 2):
        raise ValueError(f"holds {ranges.dtype} {ranges.shape}, not int64 (R, 2)")
    if (np.diff(ranges, axis=1) <= 0).any() or (np.diff(bounds) < 0).any():
        raise ValueError("ranges overlap or are out of order")
    return ranges  # type: ignore[no-any-return]
