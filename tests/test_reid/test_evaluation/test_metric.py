from __future__ import annotations

import numpy as np
import pytest
import torch

from reid.evaluation import evaluate_ranking
from reid.evaluation.metric import RankingMetric

QUERY, GALLERY = 6, 30


@pytest.fixture
def features() -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(QUERY + GALLERY, 8))


PIDS = np.arange(QUERY + GALLERY) % 5
CAMIDS = np.arange(QUERY + GALLERY) // 5 % 3


def feed(metric: RankingMetric, features: torch.Tensor, order: np.ndarray, batch: int = 7) -> None:
    metric.dataset_meta = {"num_query": QUERY, "name": "toy"}
    for start in range(0, len(order), batch):
        index = order[start : start + batch]
        labels = {"index": index, "pid": PIDS[index], "camid": CAMIDS[index]}
        data = {name: torch.tensor(values) for name, values in labels.items()}
        metric.process(data, list(features[index]))


@pytest.mark.parametrize("ap", ["step", "trapezoid"])
def test_equals_the_function_in_any_order(features, ap) -> None:
    metric = RankingMetric(ap=ap, ks=(1, 3))
    order = np.random.default_rng(0).permutation(QUERY + GALLERY)
    feed(metric, features, order)
    values = metric.evaluate(QUERY + GALLERY)
    q, g = slice(None, QUERY), slice(QUERY, None)
    expected = evaluate_ranking(
        features[q], features[g], PIDS[q], PIDS[g], CAMIDS[q], CAMIDS[g], ap=ap, ks=(1, 3)
    )
    assert values == {
        "mAP": expected.mAP,
        "rank-1": expected.cmc[1],
        "rank-3": expected.cmc[3],
        "mINP": expected.mINP,
    }
    assert metric.details["rules"] == {"metric": "cosine", "ap": ap}
    np.testing.assert_array_equal(metric.details["features"], features.numpy())


@pytest.mark.parametrize("order", [np.arange(35), np.r_[np.arange(36), 3], np.r_[np.arange(35), 3]])
def test_missing_or_repeated_images_are_refused(features, order) -> None:
    metric = RankingMetric()
    feed(metric, features, order)
    with pytest.raises(RuntimeError, match="expected one feature for each of 36 images"):
        metric.evaluate(QUERY + GALLERY)


def test_results_are_cleared_between_runs(features) -> None:
    metric = RankingMetric()
    for _ in range(2):
        feed(metric, features, np.arange(QUERY + GALLERY))
        metric.evaluate(QUERY + GALLERY)


def test_the_mean_over_draws(evaluate) -> None:
    generator = np.random.default_rng(0)
    features = generator.normal(size=(12, 4)).astype(np.float32)
    pids, camids = np.arange(12) % 4, np.full(12, -1)
    draws = [(np.array([4, 5, 6, 7]), np.array([0, 1, 2, 3])), (np.arange(4), np.arange(8, 12))]
    values, details = evaluate(features, pids, camids, 8, trials=tuple(draws), num_trials=2)
    expected = [evaluate_ranking(features[q], features[g], pids[q], pids[g]).mAP for q, g in draws]
    assert expected[0] != expected[1]
    assert values["mAP"] == pytest.approx(np.mean(expected))
    assert details["deviations"]["mAP"] == pytest.approx(np.std(expected, ddof=1))
    assert details["rules"]["draws"] == 2 and "trials" not in details["data"]
    assert [result.mAP for result in details["results"]] == expected


BAD = {
    "a feature that is not finite": "data/1.jpg.*training stable",
    "nobody to find": "no query identity occurs in the gallery",
    "no query": "0 queries and 4 gallery images.*prepare_data",
    "no gallery": "4 queries and 0 gallery images.*prepare_data",
    "all in one camera": "no query has a positive in another camera",
}


@pytest.mark.parametrize("what", list(BAD))
def test_data_that_cannot_be_evaluated(evaluate, what: str) -> None:
    features, pids, camids = np.eye(4, dtype=np.float32), np.array([1, 2, 1, 2]), np.arange(4)
    if what == "a feature that is not finite":
        features[1, 2] = np.nan
    elif what == "nobody to find":
        pids[2:] = 3
    elif what == "all in one camera":
        camids[:] = 0
    queries = {"no query": 0, "no gallery": 4}.get(what, 2)
    with pytest.raises(ValueError, match=f"toy: .*{BAD[what]}"):
        evaluate(features, pids, camids, queries)
    values, details = evaluate(features, pids, camids, queries, tolerant=True)
    assert set(values) == {"mAP", "rank-1", "rank-5", "rank-10", "mINP"}
    assert all(np.isnan(list(values.values()))) and details["result"] is None
    assert details["problem"].startswith("toy: ")


def test_one_image_to_find_and_one_identity(evaluate) -> None:
    features = np.ones((2, 3), np.float32)
    values, _ = evaluate(features, np.array([7, 7]), np.array([-1, -1]), 1)
    assert values["mAP"] == values["rank-1"] == values["mINP"] == 1
