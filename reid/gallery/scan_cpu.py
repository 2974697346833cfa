"""The kernels of ``scan_cpu.cpp``, compiled at the first use.

The machine compiles them for itself (see :mod:`engine.native`); they run on torch's threads.
:mod:`reid.gallery.scan_torch` computes the same bits without them, several times slower.
``REID_KERNELS=torch`` in the environment switches them off.
"""

from __future__ import annotations

import ctypes
import functools
import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine import native
from reid.gallery.scan_torch import Found
from reid.gallery.scores import Segments

logger = logging.getLogger(__name__)

SOURCE = Path(__file__).with_suffix(".cpp")
EXTRA_FLAGS = ("-ffp-contract=off",)  # a fused product would round otherwise than torch's


class _Stored(ctypes.Structure):
    _fields_ = (
        ("segments", ctypes.c_void_p),
        ("starts", ctypes.c_void_p),
        ("count", ctypes.c_int64),
        ("dim", ctypes.c_int64),
        ("half", ctypes.c_int32),
    )


class _Rows:
    """:class:`Segments` as the kernels see them."""

    def __init__(self, segments: Segments) -> None:
        self._arrays = segments.arrays
        self._addresses = np.array([a.ctypes.data for a in self._arrays], np.uintp)
        self._starts = segments.starts
        self.structure = _Stored(
            self._addresses.ctypes.data,
            self._starts.ctypes.data,
            *(len(self._arrays), segments.dim),
            segments.dtype == np.float16,
        )


class CpuKernels:
    """The functions of ``scan_cpu.cpp``; see there for what they compute."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        library.begin_search.restype = ctypes.c_void_p

    def search(
        self,
        segments: Segments,
        queries: NDArray[np.float32],
        metric: str,
        keep: NDArray[np.bool_] | None,
        k: int,
        lowest: float,
    ) -> Found:
        """As :func:`reid.gallery.scan_torch.search`."""
        rows = _Rows(segments)
        cosine = ctypes.c_int32(metric == "cosine")
        handle = ctypes.c_void_p(
            self._library.begin_search(
                *map(native.argument, (queries, *queries.shape, k)), cosine, ctypes.c_double(lowest)
            )
        )
        try:
            kept = len(segments) if keep is None else int(np.count_nonzero(keep))
            self._call("search_rows", handle, ctypes.byref(rows.structure), keep, kept)
            return self._found(handle, len(queries))
        finally:
            self._library.end_search(handle)

    def _found(self, handle: ctypes.c_void_p, queries: int) -> Found:
        starts = np.zeros(queries + 1, np.int64)
        self._library.found_sizes(handle, native.argument(starts[1:]))
        np.cumsum(starts, out=starts)
        rows, scores = np.empty(starts[-1], np.int64), np.empty(starts[-1])
        self._call("take_found", handle, starts, rows, scores)
        return np.split(rows, starts[1:-1]), np.split(scores, starts[1:-1])

    def _call(self, name: str, *arguments: Any) -> None:
        native.call(self._library, name, *arguments)


def kernels() -> CpuKernels | None:
    """The kernels, where they can be used: with a compiler, and if not switched off."""
    return compiled() if native.switched_on("REID_KERNELS") else None


@functools.cache
def compiled() -> CpuKernels | None:
    """The compiled kernels, or None where they cannot be made (the reason is logged)."""
    library = native.load_or_warn(
        SOURCE,
        "gallery",
        "the CPU kernels of the gallery",
        EXTRA_FLAGS,
        without="the gallery is searched by torch operations, several times slower",
    )
    return None if library is None else CpuKernels(library)
