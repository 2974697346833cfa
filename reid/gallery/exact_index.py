"""Exact nearest neighbours with FAISS Flat: position = row number, filters by bitmap."""

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid.gallery.faiss_install import import_faiss

logger = logging.getLogger(__name__)

METRICS = ("cosine", "euclidean")
_BLOCK_BYTES = 64 << 20  # working memory of one block of queries
_GPU_MAX_K = 2048  # limit of FAISS's selection kernels


class ExactIndex:
    """Flat index in memory: inner product of unit vectors for cosine, L2 for euclidean.

    With a GPU that FAISS can use, unfiltered searches run on a copy there; filtered ones stay on
    the CPU, because GPU indexes ignore selectors.

    Never fork a process that has searched: FAISS's threads do not survive it and the child hangs.
    Use the spawn or forkserver start method.
    """

    def __init__(self, dim: int, metric: str) -> None:
        self._faiss = import_faiss()
        self._dim, self._metric = dim, metric
        flat = self._faiss.IndexFlatIP if metric == "cosine" else self._faiss.IndexFlatL2
        self._cpu = flat(dim)
        self._gpu: Any = None
        self._gpu_wanted = (
            hasattr(self._faiss, "StandardGpuResources") and self._faiss.get_num_gpus() > 0
        )

    def __len__(self) -> int:
        return int(self._cpu.ntotal)

    def add(self, vectors: NDArray[np.float32], block_rows: int = 65536) -> None:
        """Append (n, dim) float32; a memory-mapped array is read block by block."""
        for start in range(0, len(vectors), block_rows):
            block = np.ascontiguousarray(vectors[start : start + block_rows])
            self._cpu.add(block)
            if self._gpu is not None:
                self._gpu.add(block)

    def search(
        self, queries: NDArray[np.float32], k: int, keep: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """The best rows among those with ``keep`` (rows,) set, for queries (q, dim).

        FAISS picks the rows; their scores are then computed again in float64, because the batched
        L2 of FAISS, |x|^2 - 2xy + |y|^2 in float32, loses the digits of close neighbours. So a
        query scores the same alone and in a batch, and equal scores come in row order.

        Returns:
            scores (q, m) float64, best first, and row numbers (q, m) int64, where
            m = min(k, number of kept rows): no padding. The score is the cosine similarity, or
            the negative Euclidean distance.
        """
        kept = int(np.count_nonzero(keep))
        k = min(k, kept)
        scores = np.empty((len(queries), k), dtype=np.float64)
        rows = np.empty((len(queries), k), dtype=np.int64)
        if k == 0 or len(queries) == 0:
            return scores, rows
        searcher, parameters = self._searcher(k, None if kept == len(self) else keep)
        step = max(1, _BLOCK_BYTES // (12 * k))
        for start in range(0, len(queries), step):
            block = slice(start, start + step)
            _, rows[block] = searcher.search(queries[block], k, **parameters)
        if rows.min() < 0:
            raise RuntimeError(
                "FAISS returned fewer neighbours than there are; please report this."
            )
        step = max(1, _BLOCK_BYTES // (12 * k * self._dim))
        for start in range(0, len(queries), step):
            block = slice(start, start + step)
            scores[block], rows[block] = self._rescore(queries[block], rows[block])
        return scores, rows

    def _searcher(self, k: int, keep: NDArray[np.bool_] | None) -> tuple[Any, dict[str, Any]]:
        """The FAISS index to ask and the keyword arguments of its search."""
        if keep is not None:
            selector = self._faiss.IDSelectorBitmap(np.packbits(keep, bitorder="little"))
            return self._cpu, {"params": self._faiss.SearchParameters(sel=selector)}
        if self._gpu_wanted and k <= _GPU_MAX_K and self._copy_to_gpu():
            return self._gpu, {}
        return self._cpu, {}

    def _copy_to_gpu(self) -> bool:
        if self._gpu is None:
            try:
                self._resources = self._faiss.StandardGpuResources()
                self._gpu = self._faiss.index_cpu_to_gpu(self._resources, 0, self._cpu)
            except RuntimeError as error:  # typically too little memory on the GPU
                self._gpu_wanted = False
                logger.warning("FAISS could not use the GPU, searching on the CPU: %s", error)
        return self._gpu is not None

    def _rescore(
        self, queries: NDArray[np.float32], rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """float64 scores of (q, k) row numbers, and both in order: best first, then by row."""
        stored = self._faiss.rev_swig_ptr(self._cpu.get_xb(), len(self) * self._dim)
        neighbours = stored.reshape(-1, self._dim)[rows].astype(np.float64)  # (q, k, dim)
        if self._metric == "cosine":
            scores = np.einsum("qd,qkd->qk", queries.astype(np.float64), neighbours)
        else:
            neighbours -= queries[:, None, :]
            scores = -np.sqrt(np.einsum("qkd,qkd->qk", neighbours, neighbours))
        order = np.lexsort((rows, -scores), axis=-1)
        return np.take_along_axis(scores, order, -1), np.take_along_axis(rows, order, -1)
