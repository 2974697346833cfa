"""The kernels of ``scan_cpu.cpp``, compiled at the first use.

The machine compiles them for itself (see :mod:`engine.native`); they run on torch's threads.
:mod:`reid.gallery.scan_torch` computes the same bits without them, several times slower.
``REID_KERNELS=torch`` in the environment switches them off.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import torch
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
                *map(_argument, (queries, *queries.shape, k)), cosine, ctypes.c_double(lowest)
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
        self._library.found_sizes(handle, _argument(starts[1:]))
        np.cumsum(starts, out=starts)
        rows, scores = np.empty(starts[-1], np.int64), np.empty(starts[-1])
        self._call("take_found", handle, starts, rows, scores)
        return np.split(rows, starts[1:-1]), np.split(scores, starts[1:-1])

    def _call(self, name: str, *arguments: Any) -> None:
        converted = [_argument(argument) for argument in arguments]
        getattr(self._library, name)(*converted, ctypes.c_int(torch.get_num_threads()))


def _argument(value: Any) -> Any:
    if value is None:
        return ctypes.c_void_p(None)
    if isinstance(value, np.ndarray):
        return ctypes.c_void_p(value.ctypes.data)
    return ctypes.c_int64(value) if isinstance(value, int) else value


def kernels() -> CpuKernels | None:
    """The kernels, where they can be used: with a compiler, and if not switched off."""
    choice = os.environ.get("REID_KERNELS", "auto")
    if choice not in ("auto", "torch"):
        raise ValueError(f"REID_KERNELS must be 'auto' or 'torch', got {choice!r}")
    return compiled() if choice == "auto" else None


@functools.cache
def compiled() -> CpuKernels | None:
    """The compiled kernels, or None where they cannot be made (the reason is logged)."""
    try:
        purpose = "the CPU kernels of the gallery"
        return CpuKernels(native.load_library(SOURCE, "gallery", purpose, EXTRA_FLAGS))
    except (OSError, subprocess.SubprocessError) as error:
        logger.warning(
            "the gallery is searched by torch operations, several times slower: %s",
            native.reason(error),
        )
        return None
