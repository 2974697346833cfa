"""Counting and exact keys on a CPU, in C++ compiled at the first use.

Beside the matrix product, a ranking looks at every distance once or a few times. As torch
operations that costs up to ten times the product; the kernels of ``ranking_cpu.cpp`` take a small
part of it. They are compiled by the machine itself (see :mod:`engine.native`) and use torch's
OpenMP runtime, hence its threads. Without a compiler torch operations compute the same numbers.
"""

from __future__ import annotations

import ctypes
import functools
import logging
from pathlib import Path

import torch
from torch import Tensor

from engine import native

logger = logging.getLogger(__name__)

SOURCE = Path(__file__).with_suffix(".cpp")
DTYPES = (torch.float32, torch.float64)


class CpuKernels:
    """Thin shells over the functions of ``ranking_cpu.cpp``; all tensors are on the CPU."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        library.ranking_count.restype = library.ranking_tabulate.restype = ctypes.c_int64

    def count(
        self, values: Tensor, table: Tensor, number: Tensor, margin: Tensor | None, limit: int
    ) -> tuple[Tensor, Tensor | None]:
        """See :func:`reid.evaluation.ranking.count_nearer`."""
        (rows, columns), width = values.shape, table.shape[1]
        values, table, number = values.contiguous(), table.contiguous(), number.contiguous()
        margin = None if margin is None else margin.contiguous()
        counts = torch.zeros(rows, width, dtype=torch.int64)
        positions = torch.empty(limit, dtype=torch.int64)
        found: int = self._library.ranking_count(
            ctypes.c_bool(values.dtype == torch.float64),
            _pointer(values),
            ctypes.c_int64(rows),
            ctypes.c_int64(columns),
            _pointer(table),
            ctypes.c_int64(width),
            _pointer(number),
            _pointer(margin),
            _pointer(counts),
            _pointer(positions),
            ctypes.c_int64(limit),
            ctypes.c_int(torch.get_num_threads()),
        )
        return counts, positions[:found] if found <= limit else None

    def center(
        self, features: Tensor, scale: Tensor, center: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """``features`` (N, D) times ``scale`` (N,), less ``center`` (D,), as float32; and, of the
        unrounded, the products with the centre and the squared lengths, (N,) float64 each."""
        features, scale = features.contiguous(), scale.contiguous()
        single = torch.empty(features.shape, dtype=torch.float32)
        products, squares = torch.empty((2, len(features)), dtype=torch.float64)
        self._library.ranking_center(
            ctypes.c_bool(features.dtype == torch.float64),
            _pointer(features),
            _pointer(scale),
            _pointer(center),
            ctypes.c_int64(features.shape[0]),
            ctypes.c_int64(features.shape[1]),
            _pointer(single),
            _pointer(products),
            _pointer(squares),
            ctypes.c_int(torch.get_num_threads()),
        )
        return single, products, squares

    def pair_sums(
        self, query: Tensor, gallery: Tensor, rows: Tensor, columns: Tensor, squared: bool
    ) -> Tensor:
        """Sums of ``query[rows] * gallery[columns]``, or of squared differences, (P,) float64.

        Both feature matrices are contiguous and of one type of ``DTYPES``.
        """
        rows, columns = rows.contiguous(), columns.contiguous()
        sums = torch.empty(len(rows), dtype=torch.float64)
        self._library.ranking_pair_sums(
            ctypes.c_bool(query.dtype == torch.float64),
            _pointer(query),
            _pointer(gallery),
            ctypes.c_int64(query.shape[1]),
            _pointer(rows),
            _pointer(columns),
            ctypes.c_int64(len(rows)),
            ctypes.c_bool(squared),
            _pointer(sums),
            ctypes.c_int(torch.get_num_threads()),
        )
        return sums

    def tabulate(self, values: Tensor, grid: int, margin: float, tables: Tensor) -> Tensor:
        """Count how many float64 ``values`` round to each multiple of 1 / grid in -1..1.

        Adds to ``tables`` (T, 2 grid + 1), which are to be summed; infinity is left out. Returns
        the positions of the values within ``margin`` steps of a tie, which are counted nowhere.
        """
        positions = torch.empty(values.numel(), dtype=torch.int64)
        found: int = self._library.ranking_tabulate(
            _pointer(values.contiguous()),
            ctypes.c_int64(values.numel()),
            ctypes.c_int64(grid),
            ctypes.c_double(margin),
            _pointer(tables),
            _pointer(positions),
            ctypes.c_int64(values.numel()),
            ctypes.c_int(len(tables)),
        )
        return positions[:found]


def _pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


@functools.cache
def cpu_kernels() -> CpuKernels | None:
    """The compiled kernels, or None where they cannot be made (the reason is logged)."""
    library = native.load_or_warn(
        SOURCE,
        "ranking",
        "the CPU kernels of the ranking",
        ("-ffp-contract=off",),
        without="ranking runs as torch operations, several times slower",
    )
    return None if library is None else CpuKernels(library)
