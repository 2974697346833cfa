"""Evaluation of re-identification: exact ranking metrics from features or from distances.

The names below are imported on first use: ``import reid.evaluation`` alone loads no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reid.evaluation.ranking import RankingResult, evaluate_distances, evaluate_ranking

__all__ = ["RankingResult", "evaluate_distances", "evaluate_ranking"]

_HOME = {
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
