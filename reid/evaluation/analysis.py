"""Everything that a report says of one model on one domain, from what the metric kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.wording import counted

from .draws import Draw
from .examples import example_queries
from .refinements import Refinement, refine
from .results import DomainResult

if TYPE_CHECKING:
    from .verification import VerificationResult

# False accept rates at which verification is reported.
FALSE_ACCEPT_RATES = (0.001, 0.01, 0.1)
ROC_POINTS = 121
HISTOGRAM_BINS = 100


def analyse(
    metrics: Mapping[str, float],
    details: Mapping[str, Any],
    *,
    inference: str = "",
    refinements: Sequence[Refinement] = (),
    camera_pairs: bool = False,
    verification: bool = False,
    examples: int = 0,
    camera_names: Mapping[int, str] | None = None,
) -> DomainResult:
    """The result of one domain.

    Args:
        metrics, details: of a RankingMetric. inference: see ``DomainResult.from_details``.
        refinements: to give further rows.
        camera_pairs, verification: also measure them; of several draws, on the first.
        examples: how many of the worst queries to keep, and as many random ones.
        camera_names: of the data set, where cameras have names.
    """
    result = DomainResult.from_details(metrics, details, inference)
    names = dict(camera_names or {})
    result.notes = _notes(details)
    if result.problem is not None:
        return result
    labels = details["pids"], details["camids"]
    rules = {"metric": details["rules"]["metric"], "ap": details["rules"]["ap"]}
    ks = tuple(details["result"].cmc)
    for step in refinements:
        result.refined[step.name] = refine(
            step, details["features"], *labels, details["draws"], ks=ks, **rules
        )
    draw = details["draws"][0]
    known = details["camids"][np.concatenate(draw)] != -1
    if camera_pairs and known.any():
        result.camera_pairs = _camera_pairs(details, draw, rules, names)
    if verification:
        try:
            result.verification = _verification(details, draw)
        except ValueError as error:
            result.notes.append(f"no verification: {error}")
    if examples:
        result.examples = example_queries(
            details["result"],
            details["features"],
            *labels,
            details["paths"],
            draw,
            worst=examples,
            random=examples,
            metric=rules["metric"],
        )
        for example in result.examples:
            for who in (example, *example["hits"]):
                if who["camera"] is not None:
                    who["camera"] = names.get(who["camera"], str(who["camera"]))
    return result


def _camera_pairs(
    details: Mapping[str, Any], draw: Draw, rules: Mapping[str, Any], names: Mapping[int, str]
) -> list[dict[str, Any]]:
    from reid.evaluation import camera_pairs

    q, g = draw
    found = camera_pairs(*_sides(details, q, g), ks=(1,), **rules)
    return [
        {
            "query_camera": names.get(a, str(a)),
            "gallery_camera": names.get(b, str(b)),
            "num_queries": int(result.num_valid_queries),
            "mAP": float(result.mAP),
            "rank-1": float(result.cmc[1]),
        }
        for (a, b), result in sorted(found.items())
    ]


def _verification(details: Mapping[str, Any], draw: Draw) -> dict[str, Any]:
    from reid.evaluation import verify

    found = verify(*_sides(details, *draw))
    edges, genuine, impostor = found.histogram(HISTOGRAM_BINS)
    least = max(1e-6, 1 / found.num_impostor)
    rates = np.unique(np.r_[np.geomspace(least, 1, ROC_POINTS), FALSE_ACCEPT_RATES])
    return {
        "eer": float(found.eer),
        "eer_threshold": float(found.eer_threshold),
        "auc": float(found.auc),
        "num_genuine": int(found.num_genuine),
        "num_impostor": int(found.num_impostor),
        "points": [_point(found, far) for far in FALSE_ACCEPT_RATES],
        "roc": [[float(far), float(found.tar_at(far))] for far in rates],
        "histogram": {
            "edges": [float(edge) for edge in edges],
            "genuine": [int(number) for number in genuine],
            "impostor": [int(number) for number in impostor],
        },
    }


def _point(found: VerificationResult, far: float) -> dict[str, float | None]:
    """What is accepted at a false accept rate; None where there are too few impostors for it."""
    if far * found.num_impostor < 1:
        return {"far": far, "tar": None, "threshold": None}
    return {"far": far, "tar": found.tar_at(far), "threshold": found.threshold_at(far)}


def _sides(details: Mapping[str, Any], q: Any, g: Any) -> list[Any]:
    """Query and gallery of features, identities and cameras, as the functions take them."""
    return [details[key][side] for key in ("features", "pids", "camids") for side in (q, g)]


def _notes(details: Mapping[str, Any]) -> list[str]:
    notes = []
    for side, positions in zip(("query", "gallery"), details["draws"][0], strict=True):
        missing = int((details["camids"][positions] == -1).sum())
        if 0 < missing < len(positions):
            notes.append(
                f"the camera of {missing:,} of {counted(len(positions), f'{side} image')} is not "
                "known: their matches within one camera cannot be told from others, and count"
            )
    if all((details["camids"][positions] == -1).all() for positions in details["draws"][0]):
        notes.append("no camera labels: matches within one camera count, which makes it easier")
    if len(np.unique(details["pids"])) == 1:
        notes.append("a single identity: nobody can be mistaken, and the numbers say nothing")
    if len(details["draws"]) > 1:
        notes.append(
            f"means over {len(details['draws'])} draws of the gallery; camera pairs, verification "
            "and pictures of the first"
        )
    return notes
