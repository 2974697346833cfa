from __future__ import annotations

import json

import numpy as np
import pytest

from reid.evaluation import evaluate_ranking
from reid.evaluation.examples import example_queries

NUMBER, QUERIES = 60, 12
PIDS = np.arange(NUMBER) % 6
CAMIDS = np.arange(NUMBER) // 6 % 3
PATHS = [f"{i}.jpg" for i in range(NUMBER)]
DRAW = (np.arange(QUERIES), np.arange(QUERIES, NUMBER))


def examples(features: np.ndarray, pids: np.ndarray = PIDS, camids: np.ndarray = CAMIDS, **options):
    q, g = DRAW
    result = evaluate_ranking(
        *(features[q], features[g], pids[q], pids[g], camids[q], camids[g]),
        metric=options.get("metric", "cosine"),
    )
    options = {"worst": 3, "random": 2, **options}
    return result, example_queries(result, features, pids, camids, PATHS, DRAW, **options)


@pytest.fixture
def features() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(NUMBER, 5)).astype(np.float32)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_the_worst_queries_with_their_hits(features, metric) -> None:
    result, found = examples(features, metric=metric)
    assert [e["why"] for e in found] == ["worst"] * 3 + ["random"] * 2
    worst = np.sort(result.average_precision)[:3]
    np.testing.assert_allclose([e["average_precision"] for e in found[:3]], worst)
    assert len({e["index"] for e in found}) == 5
    for example in found:
        q = example["index"]
        assert example["path"] == f"{q}.jpg" and example["pid"] == PIDS[q]
        assert example["first_match"] == result.first_match_rank[q]
        if metric == "cosine":
            unit = features / np.linalg.norm(features, axis=1, keepdims=True)
            scores = unit @ unit[q]
        else:
            scores = -np.linalg.norm(features - features[q], axis=1)
        nearest = QUERIES + np.argsort(-scores[QUERIES:])[: len(example["hits"])]
        assert [hit["path"] for hit in example["hits"]] == [f"{i}.jpg" for i in nearest]
        ranks = [hit["rank"] for hit in example["hits"] if hit["verdict"] != "ignored"]
        assert ranks == list(range(1, len(ranks) + 1)) and len(ranks) <= 10
        for hit, item in zip(example["hits"], nearest, strict=True):
            assert hit["score"] == pytest.approx(scores[item], rel=1e-5)
            own = PIDS[item] == PIDS[q] and CAMIDS[item] == CAMIDS[q]
            same = "same" if PIDS[item] == PIDS[q] else "other"
            assert hit["verdict"] == ("ignored" if own else same)
    json.dumps(found)


def test_random_ones_are_the_same_for_every_model(features) -> None:
    _, first = examples(features, worst=0, random=4)
    _, second = examples(features[:, ::-1] ** 3, worst=0, random=4)
    assert [e["index"] for e in first] == [e["index"] for e in second]


def test_more_are_asked_for_than_there_are(features) -> None:
    pids = PIDS.copy()
    pids[0] = 99  # has no positive: no average precision, no example
    pids[QUERIES] = -1
    _, found = examples(features, pids, worst=100, random=100)
    assert len(found) == QUERIES - 1 and all(e["index"] != 0 for e in found)
    junk = [h for e in found for h in e["hits"] if h["pid"] == -1]
    assert junk and all(h["verdict"] == "ignored" and h["rank"] is None for h in junk)


def test_cameras_that_are_not_known(features) -> None:
    _, found = examples(features, camids=np.full(NUMBER, -1))
    assert all(e["camera"] is None for e in found)
    assert all(h["verdict"] != "ignored" for e in found for h in e["hits"])
