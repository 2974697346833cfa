"""The exact scan on a GPU: the segments are copied there once and stay as long as they are in use.

It computes what :mod:`reid.gallery.scan_torch` says, filters included, and finds the same bits as a
CPU does. Small searches, and galleries that do not fit, are left to the CPU.
"""

from __future__ import annotations

import logging
import threading
import weakref
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reid.gallery import scan_torch
from reid.gallery.scan_torch import Found
from reid.gallery.scores import Segments

logger = logging.getLogger(__name__)

_LEAST_PRODUCTS = 1 << 24  # of queries and rows: below, the CPU has answered before the GPU begins
_copies: dict[int, Tensor] = {}  # by id of the array, which takes its copy along when it goes
_lock = threading.Lock()
_too_large: set[int] = set()  # numbers of rows that did not fit


def gpu() -> torch.device | None:
    """Where to search, if there is such a thing."""
    return torch.device("cuda") if torch.cuda.is_available() else None


def search(
    segments: Segments,
    queries: NDArray[np.float32],
    metric: str,
    keep: NDArray[np.bool_] | None,
    k: int | None,
    lowest: float,
) -> Found | None:
    """As :func:`reid.gallery.scan_torch.search`; None where it is better done on the CPU."""
    if len(queries) * len(segments) < _LEAST_PRODUCTS or len(segments) in _too_large:
        return None
    device = gpu()
    if device is None:
        return None
    try:
        copied = Copied(segments, device)
        return scan_torch.search(copied, queries, metric, keep, k, lowest, device)
    except torch.OutOfMemoryError as error:
        _too_large.add(len(segments))
        logger.warning(
            "the gallery does not fit on the GPU beside what is there, and is searched on the CPU: "
            "%s",
            error,
        )
        return None


class Copied(Segments):
    """Segments with a copy of each on a device."""

    def __init__(self, segments: Segments, device: torch.device) -> None:
        super().__init__(segments.arrays, segments.dim)
        with _lock:
            self._copies = [_copy(array, device) for array in self.arrays]

    def tensor(self, rows: NDArray[np.int64], device: torch.device) -> Tensor:
        """As :meth:`Segments.tensor`, of ascending rows, from what is there already."""
        cuts = np.searchsorted(rows, self.starts)
        parts = []
        for number in np.flatnonzero(np.diff(cuts)).tolist():
            inside = rows[cuts[number] : cuts[number + 1]] - self.starts[number]
            first, last = int(inside[0]), int(inside[-1])
            copy = self._copies[number]
            if last - first + 1 == len(inside):
                parts.append(copy[first : last + 1])
            else:
                parts.append(copy[torch.from_numpy(inside).to(device)])
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def _copy(array: NDArray[Any], device: torch.device) -> Tensor:
    copy = _copies.get(id(array))
    if copy is None:
        copy = torch.from_numpy(np.array(array)).to(device)
        _copies[id(array)] = copy
        weakref.finalize(array, _copies.pop, id(array), None)
    return copy
