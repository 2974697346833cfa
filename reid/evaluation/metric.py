"""The ranking metric as mmengine evaluates it: gather each feature once, rank once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from mmengine.dist import all_gather_object
from mmengine.evaluator import BaseMetric

from engine.main_process import on_main_process

from ..registry import METRICS
from .ranking import evaluate_ranking


@METRICS.register_module()
class RankingMetric(BaseMetric):
    """mAP, CMC and mINP of a data set whose first ``num_query`` images are the queries.

    Args:
        metric: 'cosine' or 'euclidean'.
        ap: 'step' or 'trapezoid', see ``evaluate_ranking``.
        ks: ranks of the CMC.

    Attributes:
        details: after ``evaluate``: the RankingResult under 'result', the rules, the data set's
            description, and all features, pids and camids in the order of the data set.
    """

    default_prefix = ""  # the loop puts the domain's name before each key

    def __init__(
        self,
        metric: Literal["cosine", "euclidean"] = "cosine",
        ap: Literal["step", "trapezoid"] = "step",
        ks: Sequence[int] = (1, 5, 10),
    ) -> None:
        super().__init__(collect_device="cpu")
        self.metric, self.ap, self.ks = metric, ap, tuple(ks)
        self.details: dict[str, Any] = {}

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        features = torch.stack(list(data_samples)).float().cpu().numpy()  # one transfer
        labels = (data_batch[key].numpy() for key in ("index", "pid", "camid"))
        self.results.append((features, *labels))

    def evaluate(self, size: int) -> dict[str, float]:
        """Rank; ``size`` is the number of images, each must have been processed exactly once.

        mmengine's own gathering drops results where the processes' shares differ in length.
        """
        parts = [part for share in all_gather_object(self.results) for part in share]
        self.results.clear()
        return on_main_process(lambda: self.compute_metrics(parts, size))

    def compute_metrics(self, results: list[Any], size: int | None = None) -> dict[str, float]:
        features, index, pids, camids = (np.concatenate(c) for c in zip(*results, strict=True))
        order = np.argsort(index, kind="stable")
        expected = len(order) if size is None else size
        if not np.array_equal(index[order], np.arange(expected)):
            raise RuntimeError(
                f"expected one feature for each of {expected} images, got {len(index)} for "
                f"{len(np.unique(index))} different ones; use a sampler that neither repeats nor "
                "drops, e.g. sampler=dict(type='DefaultSampler', shuffle=False, round_up=False)"
            )
        features, pids, camids = features[order], pids[order], camids[order]
        meta = self.dataset_meta or {}
        q = int(meta["num_query"])
        result = evaluate_ranking(
            features[:q],
            features[q:],
            pids[:q],
            pids[q:],
            camids[:q],
            camids[q:],
            metric=self.metric,
            ap=self.ap,
            ks=self.ks,
        )
        self.details = {
            "result": result,
            "rules": {"metric": self.metric, "ap": self.ap},
            "data": dict(meta),
            "features": features,
            "pids": pids,
            "camids": camids,
        }
        return {
            "mAP": result.mAP,
            **{f"rank-{k}": value for k, value in result.cmc.items()},
            "mINP": result.mINP,
        }
