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
