"""Choosing a setting: recall by hand, the ladder, and what is kept of it."""

import json

import numpy as np
import pytest

from reid.gallery.factories import parse
from reid.gallery.tuning import IndexReport, Measured, ladder, least_effort, recall, tune

NONE = -1


def answer(*rows):
    """Rows whose score is the negative of their number: the best is 0."""
    table = np.array(rows, np.int64)
    return table, np.where(table < 0, -np.inf, -table.astype(np.float64))


EXACT = answer([0, 1, 2, 3], [0, 1, 2, 3])


@pytest.mark.parametrize(
    ("found", "k", "share"),
    [
        (EXACT, 4, 1.0),
        (EXACT, 9, 1.0),
        (answer([0, 1, 2, 9], [0, 7, 8, 9]), 4, 0.5),
        (answer([0, 1, 2, 9], [0, 7, 8, 9]), 1, 1.0),
        (answer([1, 2, 3, 9], [1, 2, 3, NONE]), 4, 0.75),
        (answer([NONE] * 4, [NONE] * 4), 2, 0.0),
        (answer([0], [5]), 4, 0.125),
    ],
)
def test_recall(found, k, share):
    assert recall(found, EXACT, k) == share


def test_ties_are_as_good_as_each_other():
    exact = np.array([[0, 1]]), np.array([[1.0, 0.5]])
    assert recall((np.array([[0, 7]]), np.array([[1.0, 0.5]])), exact, 2) == 1.0


def test_nothing_to_find_is_found():
    nothing = np.empty((3, 0), np.int64), np.empty((3, 0))
    assert recall(nothing, nothing, 10) == 1.0


def test_flights_rise_to_everything():
    (lists,) = ladder(parse("IVF100,Flat"), 5000)
    assert [setting["nprobe"] for setting in lists] == [1, 2, 4, 8, 16, 32, 64, 100]
    (graph,) = ladder(parse("HNSW8"), 300)
    assert [setting["efSearch"] for setting in graph] == [16, 32, 64, 128, 256, 300]
    flights = list(ladder(parse("IVF4,PQ8"), 5000))
    assert [flight[0]["oversampling"] for flight in flights] == [1, 2, 4, 8, 16, 32]
    assert all(setting["nprobe"] >= 1 for setting in next(iter(ladder(parse("IVF1,Flat"), 5))))


def test_the_first_that_reaches_the_target_is_taken():
    flight = [{"nprobe": step} for step in (1, 2, 4, 8)]
    tried = []

    def search(setting):
        tried.append(setting["nprobe"])
        missing = max(0, 4 - setting["nprobe"])
        return answer(*[list(range(4 - missing)) + [9] * missing] * 2)

    chosen, table = tune([flight], search, EXACT, 4, 1.0)
    assert chosen.setting == {"nprobe": 4}
    assert chosen.recall == 1.0
    assert tried == [1, 2, 4]
    assert [row.recall for row in table] == [0.25, 0.5, 1.0]


def test_the_best_is_taken_where_none_reaches_it():
    def search(setting):
        return answer(*[[0, 1, 9, 9] if setting["nprobe"] == 2 else [0, 9, 9, 9]] * 2)

    flight = [{"nprobe": step} for step in (1, 2, 4, 8, 16, 32, 64)]
    chosen, table = tune([flight], search, EXACT, 4, 0.9)
    assert chosen.setting == {"nprobe": 2}
    assert chosen.recall == 0.5
    assert len(table) == 4, "a flight that leads nowhere is left"


def test_the_least_effort():
    def search(effort):
        return EXACT if effort >= 4 else answer([0, 9, 9, 9], [0, 9, 9, 9])

    assert least_effort(search, EXACT, 4, 0.9) == (4, 1.0)
    assert least_effort(search, EXACT, 4, 0.2) == (1, 0.25)
    assert least_effort(lambda effort: answer([9], [9]), EXACT, 4, 0.9) == (0, 1.0)


def report(**changes) -> IndexReport:
    content = {
        **{"factory": "IVF16,Flat", "rows": 500, "k": 10, "queries": 50, "own_queries": True},
        **{"seed": 0, "target": 0.9, "reached": True, "setting": {"nprobe": 2}},
        **{"recall_at_1": 0.99, "recall": 0.93, "effort_beyond": 4, "recall_beyond": 0.9},
        **{"ms": 0.5, "exact_ms": 2.0, "filters": ((1.0, 1), (0.5, 2))},
        "table": (Measured({"nprobe": 1}, 0.9, 0.8, 0.4), Measured({"nprobe": 2}, 0.99, 0.93, 0.5)),
    }
    return IndexReport(**{**content, **changes})


def test_effort_follows_filter_and_hits():
    assert report().effort(1.0, 10) == 1
    assert report().effort(0.7, 1) == 2
    assert report().effort(0.5, 100) == 8
    assert report().effort(0.49, 10) is None
    assert report().effort(1.0, 101) is None
    assert report(effort_beyond=0).effort(1.0, 11) is None
    assert report(filters=()).effort(1.0, 1) is None
    assert [report().recall_at(k) for k in (1, 10, 11, 100, 101)] == [0.93, 0.93, 0.9, 0.9, 1.0]


def test_a_report_reads_well_and_survives_json():
    text = str(report())
    assert "nprobe 2" in text
    assert "<- chosen" in text.splitlines()[2]
    assert "Filters that keep less than 50 % of the rows are answered exactly." in text
    assert "50 rows of the gallery itself" in text
    assert "slower than the exact scan" in str(report(ms=3.0))
    assert "All filters are answered exactly." in str(report(filters=((1.0, 1),)))
    assert "NOT REACHED" in str(report(reached=False))
    assert IndexReport.from_json(json.loads(json.dumps(report().to_json()))) == report()
