from __future__ import annotations

import numpy as np
import pytest

from reid.evaluation import evaluate_ranking
from reid.evaluation.draws import draws_of, ranking_metrics, spread_over_draws


def test_queries_first_and_then_the_gallery() -> None:
    ((queries, gallery),) = draws_of({"num_query": 2, "trials": ()}, 5)
    assert queries.tolist() == [0, 1] and gallery.tolist() == [2, 3, 4]


def test_trials_are_draws() -> None:
    trials = (([0, 2], [1]), ([1], [0]))
    draws = draws_of({"num_query": 3, "trials": trials}, 3)
    assert [(q.tolist(), g.tolist()) for q, g in draws] == [([0, 2], [1]), ([1], [0])]
    assert all(side.dtype == np.int64 for draw in draws for side in draw)


def test_means_and_deviations() -> None:
    means, deviations = spread_over_draws([{"mAP": 0.5}, {"mAP": 0.7}])
    assert means == pytest.approx({"mAP": 0.6})
    assert deviations == pytest.approx({"mAP": np.std([0.5, 0.7], ddof=1)})
    assert spread_over_draws([{"mAP": 0.5}]) == ({"mAP": 0.5}, {})


def test_names_of_metrics() -> None:
    result = evaluate_ranking(np.eye(2), np.eye(2), [1, 2], [1, 2], ks=(1, 7))
    assert ranking_metrics(result) == {"mAP": 1.0, "rank-1": 1.0, "rank-7": 1.0, "mINP": 1.0}
