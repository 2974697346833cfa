"""The kernels of ``reranking_cpu.cpp``, compiled at the first use.

The machine compiles them for itself (see :mod:`engine.native`); they run on torch's threads.
Whatever calls one has a way to the same bits without it, several times slower.
``REID_KERNELS=torch`` in the environment switches them off.
"""

from __future__ import annotations

import ctypes
import functools
import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from engine import native
from reid.evaluation.grid import Grid, screening_margins

logger = logging.getLogger(__name__)

SOURCE = Path(__file__).with_suffix(".cpp")
EXTRA_FLAGS = ("-ffp-contract=off",)  # a fused product would round otherwise than numpy's

Array = npt.NDArray[Any]


class _Points(ctypes.Structure):
    _fields_ = (
        ("grid", ctypes.c_void_p),
        ("squares", ctypes.c_void_p),
        ("halves", ctypes.c_void_p),
        ("margins", ctypes.c_void_p),
        ("dim", ctypes.c_int64),
    )


class _Lists(ctypes.Structure):
    _fields_ = (
        ("items", ctypes.c_void_p),
        ("values", ctypes.c_void_p),
        ("sizes", ctypes.c_void_p),
        ("limits", ctypes.c_void_p),
        ("keep", ctypes.c_int32),
        ("capacity", ctypes.c_int32),
        ("sign", ctypes.c_float),
    )


class Points:
    """A :class:`Grid` as the kernels see it.

    Args:
        grid: on a CPU.
        others: what its points are compared with.
    """

    def __init__(self, grid: Grid, others: Grid) -> None:
        self.values = grid.values.contiguous()
        self.squares = grid.squares.contiguous()
        self.halves = (grid.squares / 2).float()
        self.margins = screening_margins(grid, others)
        tables = (self.values, self.squares, self.halves, self.margins)
        self.structure = _Points(*(table.data_ptr() for table in tables), self.values.shape[1])


class Lists:
    """For each of ``count`` points the ``keep`` nearest so far, or with sign -1 the farthest."""

    def __init__(self, count: int, keep: int, sign: int) -> None:
        self.count, self.keep = count, keep
        capacity = 2 * keep + (32 if sign > 0 else 14)
        self.items = torch.empty(count, capacity, dtype=torch.int32)
        self.values = torch.empty(count, capacity, dtype=torch.float32)
        self.sizes = torch.zeros(count, dtype=torch.int32)
        self.limits = torch.full((count,), torch.inf)
        tables = (self.items, self.values, self.sizes, self.limits)
        self.structure = _Lists(*(table.data_ptr() for table in tables), keep, capacity, sign)


class CpuKernels:
    """The functions of ``reranking_cpu.cpp`` on arrays; see there for what they compute."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    def search_tile(
        self, points: Points, others: Points, near: Lists, products: Tensor, row: int, column: int
    ) -> None:
        """Offer ``products`` (R, C), of points ``row`` and others ``column`` on, to the lists."""
        self._call(
            "search_tile",
            *_references(points, others, near),
            products,
            *(row, products.shape[0], column, products.shape[1]),
        )

    def search_tile_both_ways(
        self, points: Points, near: Lists, far: Lists, products: Tensor, row: int, column: int
    ) -> None:
        """The same of points among themselves: rows to columns, and columns to rows."""
        self._call(
            "search_tile_both_ways",
            *_references(points, near, far),
            products,
            *(row, products.shape[0], column, products.shape[1]),
        )

    def settle(self, points: Points, others: Points, lists: Lists) -> tuple[Array, Array]:
        """What the lists hold in the end: items (N, keep) int32 and exact squared distances."""
        items = np.empty((lists.count, lists.keep), np.int32)
        squared = np.empty((lists.count, lists.keep), np.float64)
        self._call("settle", *_references(points, others, lists), lists.count, items, squared)
        return items, squared

    def pair_distances(self, grid: Grid, first: Array, second: Array) -> Array:
        """As :meth:`Grid.pair_distances`."""
        squared = np.empty(len(first), np.float64)
        points = _Points(
            grid.values.data_ptr(), grid.squares.data_ptr(), 0, 0, grid.values.shape[1]
        )
        pairs = (np.ascontiguousarray(side, np.int32) for side in (first, second))
        self._call("pair_distances", ctypes.byref(points), len(first), *pairs, squared)
        return squared

    def mutual_neighbours(self, ranks: Array, k: int) -> Array:
        mutual = np.empty((len(ranks), k), np.bool_)
        self._call("mutual_neighbours", ranks, *ranks.shape, k, mutual)
        return mutual

    def expand_sets(
        self, sets: tuple[Array, Array], half: tuple[Array, Array]
    ) -> tuple[Array, Array]:
        count = len(sets[0]) - 1
        sizes = np.zeros(count + 1, np.int64)
        self._call("expand_sets", count, *sets, *half, sizes, None)
        starts = np.concatenate([[0], np.cumsum(sizes[:-1])])
        members = np.empty(starts[-1], np.int32)
        self._call("expand_sets", count, *sets, *half, starts, members)
        return starts, members

    def final_rows(
        self,
        products: Array | None,
        row_squares: Array,
        gallery_squares: Array,
        divisors: Array,
        lambda_value: float,
        again: bool,
        rows: tuple[Array, Array, Array],
        inverted: tuple[Array, Array, Array],
    ) -> npt.NDArray[np.float32]:
        shape = (len(row_squares), len(gallery_squares))
        distances = np.empty(shape, np.float32)
        self._call(
            "final_rows",
            *shape,
            *(products, row_squares, gallery_squares, divisors),
            *(ctypes.c_double(lambda_value), ctypes.c_bool(again)),
            *rows,
            *inverted,
            distances,
        )
        return distances

    def _call(self, name: str, *arguments: Any) -> None:
        native.call(self._library, name, *arguments)


def _references(*held: Points | Lists) -> list[Any]:
    return [ctypes.byref(one.structure) for one in held]


def kernels_for(device: torch.device) -> CpuKernels | None:
    """The kernels, where they can be used: on a CPU, with a compiler, if not switched off."""
    wanted = native.switched_on("REID_KERNELS")
    return cpu_kernels() if device.type == "cpu" and wanted else None


@functools.cache
def cpu_kernels() -> CpuKernels | None:
    """The compiled kernels, or None where they cannot be made (the reason is logged)."""
    library = native.load_or_warn(
        SOURCE,
        "reranking",
        "the CPU kernels of re-ranking",
        EXTRA_FLAGS,
        without="re-ranking runs as torch and numpy operations, several times slower",
    )
    return None if library is None else CpuKernels(library)
