"""Evaluation of re-identification: exact ranking metrics from features or from distances.

The names below are imported on first use: ``import reid.evaluation`` alone loads no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reid.evaluation.between_cameras import camera_pairs
    from reid.evaluation.expansion import augment_database, expand_queries
    from reid.evaluation.ranking import RankingResult, evaluate_distances, evaluate_ranking
    from reid.evaluation.reranking import RerankedDistances, rerank
    from reid.evaluation.verification import Rates, VerificationResult, verify, verify_pairs

__all__ = [
    "RankingResult",
    "Rates",
    "RerankedDistances",
    "VerificationResult",
    "augment_database",
    "camera_pairs",
    "evaluate_distances",
    "evaluate_ranking",
    "expand_queries",
    "rerank",
    "verify",
    "verify_pairs",
]

_HOME = {
    "Rates": "reid.evaluation.verification",
    "VerificationResult": "reid.evaluation.verification",
    "camera_pairs": "reid.evaluation.between_cameras",
    "verify": "reid.evaluation.verification",
    "verify_pairs": "reid.evaluation.verification",
    "RerankedDistances": "reid.evaluation.reranking",
    "augment_database": "reid.evaluation.expansion",
    "expand_queries": "reid.evaluation.expansion",
    "rerank": "reid.evaluation.reranking",
    "RankingResult": "reid.evaluation.ranking",
    "evaluate_distances": "reid.evaluation.ranking",
    "evaluate_ranking": "reid.evaluation.ranking",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
