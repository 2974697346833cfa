"""What a gallery asks of the place that keeps its rows: a folder of its own, or a Milvus server.

Arguments arrive checked (:mod:`reid.gallery.features`, :mod:`reid.gallery.records`,
:mod:`reid.gallery.where`); a store keeps, finds and gives back rows, and everything that is made
of these (thresholds, groups, re-ranking, expansion, tracklets) stands above it, once, in
:class:`reid.gallery.Gallery`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from reid.gallery.where import Record, RowFilter

METRICS = ("cosine", "euclidean")
DTYPES = ("float32", "float16")


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """What never changes about a gallery.

    Attributes:
        location: what to open it by again: a folder, or an address.
        dim: length of a vector.
        metric: of ``METRICS``.
        index: ``'Flat'`` (exact), or the FAISS factory string of an approximate index.
        dtype: of ``DTYPES``: what vectors are kept as.
        model: fingerprint of the model whose features these are, or None if unknown.
    """

    location: str
    dim: int
    metric: str
    index: str
    dtype: str
    model: str | None


class Found(NamedTuple):
    """What a store found for Q queries.

    The score is the cosine similarity, or minus the Euclidean distance: computed in float64 from
    the query and the vector as it is kept. Best first, equal scores by ascending id.
    """

    ids: list[NDArray[np.int64]]
    """By query: the ids, at most k of them."""
    scores: list[NDArray[np.float64]]
    """By query: their scores."""
    allowed: NDArray[np.int64]
    """(Q,) the number of rows that the filter lets each query see."""
    exact: bool
    """Whether no row was left out by an approximate index."""
    recall: float | None
    """The measured recall of the approximate index that was used, 0..1; None where exact."""
    records: Callable[[NDArray[np.int64]], list[Record]]
    """Records of some of the ids found, as they were when the search was made."""
    vectors: Callable[[NDArray[np.int64]], NDArray[np.float32]]
    """Their vectors (N, dim), likewise: rows removed meanwhile by others are still there."""


class Rows(NamedTuple):
    """A block of rows, by ascending id."""

    ids: NDArray[np.int64]
    vectors: NDArray[np.float32]
    records: list[Record]
    thumbnails: list[bytes | None]


class Store(Protocol):
    """A place that keeps rows. Errors are those named in :class:`reid.gallery.Gallery`."""

    @property
    def info(self) -> StoreInfo: ...

    def __len__(self) -> int:
        """Rows that are there, removed ones not counted."""
        ...

    @property
    def records(self) -> Mapping[int, Record]:
        """Read-only view id -> record, in id order."""
        ...

    def add(
        self,
        vectors: NDArray[np.float32],
        records: Sequence[Record],
        thumbnails: Sequence[bytes | None] | None = None,
        ids: NDArray[np.int64] | None = None,
    ) -> list[int]:
        """Append (N, dim) vectors, N > 0, of unit length for cosine; returns their ids.

        ``ids`` are given by a copy of another gallery: ascending, and above all that were ever
        given here; ValueError otherwise.
        """
        ...

    def remove(self, ids: Sequence[int]) -> int:
        """Remove rows, all or none; ValueError names ids that are not there."""
        ...

    def update(self, changes: Mapping[int, Record]) -> int:
        """Change fields of records, all or none: :func:`reid.gallery.records.changed`.

        What others have written meanwhile stays. ValueError names ids that are not there.
        """
        ...

    def search(self, queries: NDArray[np.float32], k: int, rows: RowFilter, exact: bool) -> Found:
        """The k best rows of each query (Q, dim); with ``exact``, no approximate index is used."""
        ...

    def search_range(
        self, queries: NDArray[np.float32], min_score: float, rows: RowFilter, limit: int | None
    ) -> Found:
        """All rows whose score is at least ``min_score``, exactly; the ``limit`` best of them."""
        ...

    def ids(self, rows: RowFilter) -> NDArray[np.int64]:
        """The ids of all rows that the conditions and the function let pass, ascending."""
        ...

    def records_of(self, ids: Sequence[int]) -> list[Record]:
        """The records of some rows, at once; KeyError for an id that is not there."""
        ...

    def vectors(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """(N, dim) as kept; KeyError for an id that is not there."""
        ...

    def thumbnail(self, row_id: int) -> bytes | None:
        """The stored picture of a row, an encoded image; KeyError for an id that is not there."""
        ...

    def pictured(self, ids: Sequence[int]) -> list[bool]:
        """Whether rows have a stored picture; False for ids that are not there."""
        ...

    def columns(self, fields: Sequence[str]) -> dict[str, list[Any]]:
        """The values of some fields of all rows, by ascending id; None where a record has none."""
        ...

    def fields(self) -> tuple[str, ...]:
        """The names of all fields that any record has, sorted."""
        ...

    def blocks(self, rows: int = 4096) -> Iterator[Rows]:
        """All rows, a block at a time: a consistent state, as of the first block."""
        ...

    def compact(self) -> None:
        """Free the room of removed rows; ids stay."""
        ...

    def verify(self) -> None:
        """Look at everything; DamagedGalleryError names what is damaged."""
        ...

    def refresh(self) -> bool:
        """See what others have written since; whether anything changed."""
        ...

    def stats(self) -> dict[str, Any]:
        """Numbers worth knowing, JSON values by name: rows, removed, bytes on disk, ..."""
        ...

    def build_index(
        self,
        factory: str | None,
        *,
        recall: float,
        k: int,
        queries: NDArray[np.float32] | None,
        seed: int,
        progress: Callable[[str, int, int], None] | None,
    ) -> Any:
        """See :meth:`reid.gallery.Gallery.build_index`; ValueError where the place cannot."""
        ...

    def close(self) -> None:
        """Give back what is held: files, connections."""
        ...
