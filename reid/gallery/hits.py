"""What a search gives back."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reid.gallery.where import Record


@dataclass(frozen=True, slots=True)
class Hit:
    """One row found by a search.

    Attributes:
        id: the row's id, as :meth:`Gallery.add` returned it.
        score: higher is better: the cosine similarity in [-1, 1], or minus the Euclidean distance.
        distance: lower is better: 1 - cosine similarity, or the (unsquared) Euclidean distance.
        record: the row's record, a copy.
        reranked: the distance by which re-ranking ordered the hits, lower is better; None where
            nothing was re-ranked. ``score`` and ``distance`` stay those of the features.
    """

    id: int
    score: float
    distance: float
    record: Record
    reranked: float | None = None


class SearchResult(list[list[Hit]]):
    """By query, its hits, the best first: a list of lists that also says how it was made.

    Attributes:
        exact: whether every row that the filters allow was compared; False where an approximate
            index chose the candidates, whose measured recall ``recall`` is then.
        allowed: (Q,) int64, the rows that the filters let each query see.
        k: hits asked for a query; None where all were.
    """

    def __init__(
        self,
        hits: Iterable[list[Hit]] = (),
        *,
        exact: bool = True,
        allowed: NDArray[np.int64] | None = None,
        k: int | None = None,
        recall: float | None = None,
    ) -> None:
        super().__init__(hits)
        self.exact = exact
        self.allowed = np.zeros(len(self), np.int64) if allowed is None else allowed
        self.k = k
        self.recall = recall

    @property
    def notes(self) -> list[str]:
        """What a reader of the hits should know, in sentences; empty where all is as asked."""
        notes = []
        if not self.exact:
            measured = (
                "" if self.recall is None else f", whose measured recall is {self.recall:.1%}"
            )
            notes.append(f"Candidates come from an approximate index{measured}.")
        if self.k is not None and len(self.allowed):
            short = self.allowed < self.k
            if short.any():
                least = int(self.allowed[short].min())
                notes.append(
                    f"{int(short.sum())} of {len(self)} queries asked for {self.k} hits, but may "
                    f"see fewer rows (the least: {least})."
                )
        return notes
