"""What can be done between features and ranking: re-ranking, query expansion, gallery augmentation.

Each gives further rows beside the plain ranking, called by its method and all its parameters, for
numbers with and without it must not be mixed up.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt

from .draws import Draw, ranking_metrics, spread_over_draws
from .expansion import augment_database, expand_queries
from .ranking import ApRule, Metric, RankingResult, evaluate_distances, evaluate_ranking
from .reranking import VARIANTS, Variant, rerank
from .results import Refined

Floats = npt.NDArray[np.floating[Any]]
ExpansionKind = Literal["aqe", "alpha-qe", "dba"]
EXPANSIONS: tuple[ExpansionKind, ...] = get_args(ExpansionKind)


class Refinement(Protocol):
    """A step between features and ranking."""

    @property
    def name(self) -> str:
        """Of its rows: method and parameters."""
        ...

    @property
    def rules(self) -> dict[str, Any]:
        """Method and parameters, for files."""
        ...

    def rank(
        self,
        query_features: Floats,
        gallery_features: Floats,
        labels: tuple[Any, Any, Any, Any],
        *,
        metric: Metric,
        ap: ApRule,
        ks: Iterable[int],
    ) -> RankingResult:
        """Score the ranking. ``labels``: query ids, gallery ids, query cameras, gallery cameras."""
        ...


@dataclass(frozen=True)
class Reranking:
    """k-reciprocal re-ranking, see :func:`reid.evaluation.rerank`.

    Raises:
        ValueError: an unknown variant or a parameter that cannot be, before anything is computed.
    """

    variant: Variant = "zhong"
    k1: int = 20
    k2: int = 6
    lambda_value: float = 0.3
    camera_aware: bool = False

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise ValueError(
                f"re-ranking: expected a variant of {', '.join(VARIANTS)}, got {self.variant!r}"
            )
        if self.k1 < 1 or self.k2 < 1 or not 0 <= self.lambda_value <= 1:
            raise ValueError(
                "re-ranking: expected k1 and k2 of 1 or more and lambda in 0..1, got "
                f"k1 {self.k1}, k2 {self.k2}, lambda {self.lambda_value}"
            )

    @property
    def name(self) -> str:
        numbers = f"k1 {self.k1}, k2 {self.k2}, lambda {self.lambda_value:g}"
        return f"re-ranking {self.variant} ({numbers}{', by camera' * self.camera_aware})"

    @property
    def rules(self) -> dict[str, Any]:
        return {
            "method": "k-reciprocal re-ranking",
            "variant": self.variant,
            "k1": self.k1,
            "k2": self.k2,
            "lambda_value": self.lambda_value,
            "camera_aware": self.camera_aware,
        }

    def rank(
        self,
        query_features: Floats,
        gallery_features: Floats,
        labels: tuple[Any, Any, Any, Any],
        *,
        metric: Metric,
        ap: ApRule,
        ks: Iterable[int],
    ) -> RankingResult:
        cameras = labels[2:] if self.camera_aware else (None, None)
        distances = rerank(
            query_features,
            gallery_features,
            k1=self.k1,
            k2=self.k2,
            lambda_value=self.lambda_value,
            variant=self.variant,
            query_cameras=cameras[0],
            gallery_cameras=cameras[1],
        )
        return evaluate_distances(distances, *labels, ap=ap, ks=ks)


@dataclass(frozen=True)
class Expansion:
    """Each query ('aqe', 'alpha-qe') or gallery ('dba') feature averaged with its neighbours.

    ``k`` neighbours are averaged, weighted by the ``alpha``-th power of their similarity ('aqe':
    all alike).

    Raises:
        ValueError: an unknown kind or a parameter that cannot be.
    """

    kind: ExpansionKind
    k: int = 5
    alpha: float = 3.0

    def __post_init__(self) -> None:
        if self.kind not in EXPANSIONS:
            raise ValueError(
                f"expansion: expected one of {', '.join(EXPANSIONS)}, got {self.kind!r}"
            )
        if self.k < 1 or self.alpha < 0:
            raise ValueError(
                "expansion: expected k of 1 or more and alpha of 0 or more, got "
                f"k {self.k}, alpha {self.alpha}"
            )

    @property
    def name(self) -> str:
        words = {
            "aqe": f"query expansion (k {self.k})",
            "alpha-qe": f"alpha query expansion (k {self.k}, alpha {self.alpha:g})",
            "dba": f"gallery augmentation (k {self.k}, alpha {self.alpha:g})",
        }
        return words[self.kind]

    @property
    def rules(self) -> dict[str, Any]:
        return {"method": self.kind, "k": self.k, "alpha": self._alpha}

    @property
    def _alpha(self) -> float:
        return 0.0 if self.kind == "aqe" else self.alpha

    def rank(
        self,
        query_features: Floats,
        gallery_features: Floats,
        labels: tuple[Any, Any, Any, Any],
        *,
        metric: Metric,
        ap: ApRule,
        ks: Iterable[int],
    ) -> RankingResult:
        if self.kind == "dba":
            gallery_features = augment_database(gallery_features, k=self.k, alpha=self.alpha)
        else:
            query_features = expand_queries(
                query_features, gallery_features, k=self.k, alpha=self._alpha
            )
        return evaluate_ranking(
            query_features, gallery_features, *labels, metric=metric, ap=ap, ks=ks
        )


def refine(
    refinement: Refinement,
    features: Floats,
    pids: npt.NDArray[np.int64],
    camids: npt.NDArray[np.int64],
    draws: Iterable[Draw],
    *,
    metric: Metric,
    ap: ApRule,
    ks: Iterable[int],
) -> Refined:
    """The numbers with a refinement, as means over the draws.

    Args:
        features: (N, D) of the test split; pids, camids: (N,).
    """
    results = [
        refinement.rank(
            features[q],
            features[g],
            (pids[q], pids[g], camids[q], camids[g]),
            metric=metric,
            ap=ap,
            ks=tuple(ks),
        )
        for q, g in draws
    ]
    metrics, deviations = spread_over_draws([ranking_metrics(result) for result in results])
    return Refined(metrics, deviations, refinement.rules)
