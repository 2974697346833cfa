"""Made results: two domains with everything that a report can show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from reid.evaluation.metric import RankingMetric
from reid.evaluation.results import DomainResult, ModelResult, Refined


def make_domain(name: str, value: float) -> DomainResult:
    hit = {"path": "/home/somebody/data/g/2.jpg", "pid": 2, "camera": "north", "score": 0.75}
    return DomainResult(
        metrics={"mAP": value, "rank-1": value + 0.1, "rank-5": 0.9, "mINP": value / 2},
        num_queries=10,
        num_valid_queries=9,
        num_gallery=40,
        refined={
            "re-ranking toy (k1 20)": Refined(
                {"mAP": value + 0.05, "rank-1": value, "rank-5": 0.8, "mINP": 0.3},
                rules={"method": "toy", "k1": 20},
            )
        },
        camera_pairs=[
            {
                "query_camera": a,
                "gallery_camera": b,
                "num_queries": 4,
                "mAP": value,
                "rank-1": value / 2,
            }
            for a, b in (("2", "10"), ("10", "2"))
        ],
        verification={
            "eer": 0.125,
            "eer_threshold": 0.41,
            "auc": 0.95,
            "num_genuine": 300,
            "num_impostor": 20000,
            "points": [
                {"far": far, "tar": value + far, "threshold": 0.8 - far}
                for far in (0.001, 0.01, 0.1)
            ],
            "roc": [[1e-4, 0.1], [0.01, 0.5], [0.1, 0.8], [1.0, 1.0]],
            "histogram": {
                "edges": [-1.0, -0.5, 0.0, 0.5, 1.0],
                "genuine": [0, 0, 100, 200],
                "impostor": [0, 15000, 5000, 0],
            },
        },
        examples=[
            {
                "why": why,
                "index": index,
                "path": f"/home/somebody/data/q/{index}.jpg",
                "pid": 1,
                "camera": "south",
                "average_precision": 0.031,
                "first_match": 1234,
                "hits": [
                    {**hit, "verdict": "ignored", "rank": None},
                    {**hit, "verdict": "other", "rank": 1},
                    {**hit, "pid": 1, "verdict": "same", "rank": 2},
                ],
            }
            for index, why in enumerate(("worst", "random"))
        ],
        rules={"metric": "cosine", "ap": "step", "inference": "Resize 64x32, float32"},
        data={"name": name, "protocol": "toy <split>", "fingerprint": f"{name}0123456789abcdef"},
    )


@pytest.fixture
def make_result() -> Callable[..., ModelResult]:
    def make(number: int, **changes: object) -> ModelResult:
        values: dict[str, Any] = {
            "name": f"bin_s{number}/epoch_30",
            "domains": {
                "dusk": make_domain("dusk", 0.25 + number / 100),
                "noon": make_domain("noon", 0.5 + number / 100),
            },
            "checkpoint": f"bin_s{number}/epoch_30.pth",
            "config": "configs/reid/toy.py",
            "weights": f"{number}" * 64,
            "seed": number,
            "epoch": 30,
            "recipe": "0123456789abcdef",
            "trained_on": "noon0123456789abcdef",
            "sources": ["noon"],
        }
        return ModelResult(**{**values, **changes})

    return make


@pytest.fixture
def evaluate() -> Callable[..., tuple[dict[str, float], dict[str, Any]]]:
    """``evaluate(features, pids, camids, num_query, ...)`` -> what a RankingMetric returns, keeps.

    More keywords are its data set's metainfo; ``tolerant`` is the metric's.
    """

    def run(
        features: np.ndarray,
        pids: np.ndarray,
        camids: np.ndarray,
        num_query: int,
        *,
        tolerant: bool = False,
        **meta: Any,
    ) -> tuple[dict[str, float], dict[str, Any]]:
        import torch

        metric = RankingMetric(tolerant=tolerant)
        metric.dataset_meta = {"name": "toy", "num_query": num_query, **meta}
        number = len(pids)
        batch = {
            "index": torch.arange(number),
            "pid": torch.as_tensor(pids),
            "camid": torch.as_tensor(camids),
            "path": [f"data/{i}.jpg" for i in range(number)],
        }
        metric.process(batch, list(torch.as_tensor(features)))
        return metric.evaluate(number), metric.details

    return run
