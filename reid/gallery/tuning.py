"""How hard an approximate index has to look: measured against the exact scan, never guessed.

A setting (lists to visit, candidates of the graph, rows proposed for each one wanted) is tried on
queries whose exact neighbours are known, from the cheapest on, until the recall that was asked for
is reached.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid.gallery.factories import Factory

Setting = dict[str, int]
Answer = tuple[NDArray[np.int64], NDArray[np.float64]]

OVERSAMPLING = (1, 2, 4, 8, 16, 32)
EFFORTS = (1, 2, 4, 8)
SHARES = (0.95, 0.8, 0.5, 0.2)  # of rows that a filter keeps; below, the scan is as fast
BEYOND = 10  # recall is measured for so many times k hits, too


@dataclass(frozen=True, slots=True)
class Measured:
    """What one setting gave.

    Attributes:
        setting: ``nprobe`` or ``efSearch``, and ``oversampling``.
        recall_at_1: share of queries whose nearest row was found.
        recall: share of the exact k nearest that were found, mean over queries.
        ms: milliseconds per query, in one batch of all queries.
    """

    setting: Setting
    recall_at_1: float
    recall: float
    ms: float


@dataclass(frozen=True, slots=True)
class IndexReport:
    """How an index was tuned.

    Attributes:
        factory: FAISS's factory string.
        rows: that it covers.
        k, queries, own_queries, seed: of the measurement; whether the queries were rows of the
            gallery, each searched for among the others.
        target: the recall at k that was asked for.
        reached: whether the setting chosen reaches it.
        setting, recall_at_1, recall, ms: what was chosen.
        effort_beyond: how many times the setting's effort keeps the recall at up to ``BEYOND``
            times k hits; 0 where nothing does, and the scan answers, as it does for still more.
        recall_beyond: that recall; 1.0 where the scan answers.
        exact_ms: milliseconds per query of the exact scan, in the same batch.
        filters: for filters that keep at least such a share of the rows, in falling order: how
            many times the setting's effort keeps the recall. Below the last share the scan answers.
        table: all that was tried, in the order of trying.
    """

    factory: str
    rows: int
    k: int
    queries: int
    own_queries: bool
    seed: int
    target: float
    reached: bool
    setting: Setting
    recall_at_1: float
    recall: float
    effort_beyond: int
    recall_beyond: float
    ms: float
    exact_ms: float
    filters: tuple[tuple[float, int], ...]
    table: tuple[Measured, ...]

    def __str__(self) -> str:
        head = f"{'setting':<34}{'recall@1 %':>11}{f'recall@{self.k} %':>13}{'ms/query':>10}"
        lines = [head]
        for tried in self.table:
            text = ", ".join(f"{name} {value}" for name, value in tried.setting.items())
            mark = " <- chosen" if tried.setting == self.setting else ""
            lines.append(
                f"{text:<34}{100 * tried.recall_at_1:>11.2f}{100 * tried.recall:>13.2f}"
                f"{tried.ms:>10.3f}{mark}"
            )
        lines.append(f"{'exact scan':<34}{100:>11.2f}{100:>13.2f}{self.exact_ms:>10.3f}")
        whose = "rows of the gallery itself" if self.own_queries else "queries that were given"
        lines.append(f"{self.factory} over {self.rows} rows, measured with {self.queries} {whose}.")
        if not self.reached:
            lines.append(
                f"NOT REACHED: recall@{self.k} of {100 * self.target:.2f} % was asked for; the "
                "best there is was taken. Use another index, or search exactly (index='Flat')."
            )
        if self.ms > self.exact_ms:
            lines.append("It is slower than the exact scan: better leave it (index='Flat').")
        few = "All filters"
        if len(self.filters) > 1:
            few = f"Filters that keep less than {100 * self.filters[-1][0]:.0f} % of the rows"
        lines.append(f"{few} are answered exactly.")
        return "\n".join(lines)

    def recall_at(self, k: int) -> float:
        """What was measured for k hits, or the next larger number; 1.0 where the scan answers."""
        if k <= self.k:
            return self.recall
        return self.recall_beyond if k <= BEYOND * self.k else 1.0

    def effort(self, share: float, k: int) -> int | None:
        """How many times the setting's effort a search needs; None if the scan has to answer.

        Args:
            share: of the covered rows that count.
            k: hits per query.
        """
        more = 1 if k <= self.k else self.effort_beyond if k <= BEYOND * self.k else 0
        effort = next((effort for least, effort in self.filters if share >= least), 0)
        return more * effort or None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> IndexReport:
        table = tuple(Measured(**row) for row in content["table"])
        filters = tuple((float(share), int(effort)) for share, effort in content["filters"])
        return cls(**{**content, "table": table, "filters": filters})


def recall(found: Answer, exact: Answer, k: int) -> float:
    """The share of the k best scores that were found, mean over queries.

    Rows that tie with the k-th are as good as it. Both are (Q, m), the best first.
    """
    k = min(k, exact[1].shape[1])
    if k == 0 or not len(exact[1]):
        return 1.0
    hits = (found[1][:, :k] >= exact[1][:, k - 1 : k]) & (found[0][:, :k] >= 0)  # (Q, <= k)
    return float(hits.sum(axis=1).mean() / k)


def ladder(factory: Factory, rows: int) -> Iterable[list[Setting]]:
    """Settings to try: rising flights, of which each is left where it has reached enough."""
    effort, top = ("nprobe", factory.lists) if factory.lists else ("efSearch", max(rows, 16))
    steps = [1 << power for power in range(20) if 1 << power < top] + [top]
    if not factory.lists:
        steps = [step for step in steps if 16 <= step <= 4096] or [top]
    for oversampling in OVERSAMPLING if factory.lossy else OVERSAMPLING[:1]:
        yield [{effort: step, "oversampling": oversampling} for step in steps]


def tune(
    flights: Iterable[list[Setting]],
    search: Callable[[Setting], Answer],
    exact: Answer,
    k: int,
    target: float,
) -> tuple[Measured, list[Measured]]:
    """The cheapest setting whose recall at k reaches the target, or else the best one.

    Returns:
        what was chosen, and all that was tried.
    """
    table: list[Measured] = []
    reached: list[Measured] = []
    queries = max(1, len(exact[0]))
    for flight in flights:
        if len(reached) > 1 and reached[-1].ms > reached[-2].ms:
            break
        start = len(table)
        for setting in flight:
            begin = time.perf_counter()
            found = search(setting)
            ms = 1000 * (time.perf_counter() - begin) / queries
            table.append(Measured(setting, recall(found, exact, 1), recall(found, exact, k), ms))
            if table[-1].recall >= target:
                reached.append(table[-1])
                break
            if len(table) > start + 3 and table[-1].recall <= table[-4].recall:
                break  # the codes are the limit, not the effort
    if reached:
        return min(reached, key=lambda tried: tried.ms), table
    return max(table, key=lambda tried: (tried.recall, -tried.ms)), table


def least_effort(
    search: Callable[[int], Answer], exact: Answer, k: int, target: float
) -> tuple[int, float]:
    """The least of ``EFFORTS`` that reaches the target, and its recall; 0 and 1.0 if none does."""
    for effort in EFFORTS:
        reached = recall(search(effort), exact, k)
        if reached >= target:
            return effort, reached
    return 0, 1.0  # the scan has to answer
