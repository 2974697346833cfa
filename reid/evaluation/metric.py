"""The ranking metric as mmengine evaluates it: gather each feature once, rank once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from mmengine.dist import all_gather_object
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from engine.main_process import on_main_process
from engine.wording import some

from ..registry import METRICS
from .draws import Draw, draws_of, ranking_metrics, spread_over_draws
from .ranking import RankingResult, evaluate_ranking


@METRICS.register_module()
class RankingMetric(BaseMetric):
    """mAP, CMC and mINP of a data set whose first ``num_query`` images are the queries.

    Where the data set's metainfo has ``trials`` (VehicleID, CUHK03's classic protocol), every one
    is ranked, and the numbers are means over them.

    Args:
        metric: 'cosine' or 'euclidean'.
        ap: 'step' or 'trapezoid', see ``evaluate_ranking``.
        ks: ranks of the CMC.
        tolerant: a data set that cannot be evaluated (no query has a positive, features that are
            not finite) gives NaN and says why in ``details``, so that others in the same run are
            still evaluated; False: it is an error.

    Attributes:
        details: after ``evaluate``, on the main process: 'results', the RankingResult of every
            draw; 'result', that of the first; 'deviations', by metric, over the draws (empty for
            one); 'problem', why there are no numbers, or None; 'rules'; 'data', the data set's
            description; 'draws'; and all 'features', 'pids', 'camids' and 'paths' in the order of
            the data set.
    """

    default_prefix = ""  # the loop puts the domain's name before each key

    def __init__(
        self,
        metric: Literal["cosine", "euclidean"] = "cosine",
        ap: Literal["step", "trapezoid"] = "step",
        ks: Sequence[int] = (1, 5, 10),
        tolerant: bool = False,
    ) -> None:
        super().__init__(collect_device="cpu")
        self.metric, self.ap, self.ks = metric, ap, tuple(ks)
        self.tolerant = tolerant
        self.details: dict[str, Any] = {}

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        features = torch.stack(list(data_samples)).float().cpu().numpy()  # one transfer
        labels = (data_batch[key].numpy() for key in ("index", "pid", "camid"))
        paths = np.asarray(data_batch.get("path") or [""] * len(features), dtype=object)
        self.results.append((features, *labels, paths))

    def evaluate(self, size: int) -> dict[str, float]:
        """Rank; ``size`` is the number of images, each must have been processed exactly once.

        mmengine's own gathering drops results where the processes' shares differ in length.
        """
        parts = [part for share in all_gather_object(self.results) for part in share]
        self.results.clear()
        return on_main_process(lambda: self.compute_metrics(parts, size))

    def compute_metrics(self, results: list[Any], size: int | None = None) -> dict[str, float]:
        features, index, pids, camids, paths = (
            np.concatenate(c) for c in zip(*results, strict=True)
        )
        order = np.argsort(index, kind="stable")
        expected = len(order) if size is None else size
        if not np.array_equal(index[order], np.arange(expected)):
            raise RuntimeError(
                f"expected one feature for each of {expected} images, got {len(index)} for "
                f"{len(np.unique(index))} different ones; use a sampler that neither repeats nor "
                "drops, e.g. sampler=dict(type='DefaultSampler', shuffle=False, round_up=False)"
            )
        features, pids, camids = features[order], pids[order], camids[order]
        meta = dict(self.dataset_meta or {})
        draws = draws_of(meta, len(features))
        meta.pop("trials", None)
        self.details = {
            "results": [],
            "result": None,
            "deviations": {},
            "problem": None,
            "rules": {"metric": self.metric, "ap": self.ap},
            "data": meta,
            "draws": draws,
            "features": features,
            "pids": pids,
            "camids": camids,
            "paths": [str(path) for path in paths[order]],
        }
        if len(draws) > 1:
            self.details["rules"]["draws"] = len(draws)
        try:
            self._check_finite()
            ranked = [self._rank(draw) for draw in draws]
        except ValueError as error:
            problem = f"{meta.get('name', 'the data set')}: {error}"
            if not self.tolerant:
                raise ValueError(problem) from error
            print_log(problem, "current", logging.WARNING)
            self.details["problem"] = problem
            return dict.fromkeys(("mAP", *(f"rank-{k}" for k in self.ks), "mINP"), float("nan"))
        metrics, deviations = spread_over_draws([ranking_metrics(result) for result in ranked])
        self.details.update(results=ranked, result=ranked[0], deviations=deviations)
        return metrics

    def _rank(self, draw: Draw) -> RankingResult:
        kept, (q, g) = self.details, draw
        if not len(q) or not len(g):
            raise ValueError(
                f"{len(q)} queries and {len(g)} gallery images: nothing can be ranked; "
                "tools/prepare_data.py reid says what the data set lacks"
            )
        return evaluate_ranking(
            *(kept["features"][q], kept["features"][g]),
            *(kept["pids"][q], kept["pids"][g]),
            *(kept["camids"][q], kept["camids"][g]),
            metric=self.metric,
            ap=self.ap,
            ks=self.ks,
        )

    def _check_finite(self) -> None:
        features, paths = self.details["features"], self.details["paths"]
        bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
        if len(bad):
            raise ValueError(
                f"the features of {len(bad):,} of {len(features):,} images are not finite (NaN or "
                f"infinite), e.g. {some([paths[i] or f'number {i}' for i in bad], 3)}: was the "
                "training stable, does the network fit in this precision (precision.eval_dtype)?"
            )
