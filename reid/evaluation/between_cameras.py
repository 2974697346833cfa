"""How well each camera finds what another one saw: a ranking for every pair of cameras."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from reid.evaluation.distances import FeatureDistances
from reid.evaluation.ranking import (
    ApRule,
    Matches,
    Metric,
    Ranked,
    RankingResult,
    as_labels,
    checked_rules,
    rank,
    summary,
)

_UNKNOWN = -1


def camera_pairs(
    query_features: Any,
    gallery_features: Any,
    query_ids: Any,
    gallery_ids: Any,
    query_cameras: Any,
    gallery_cameras: Any,
    *,
    metric: Metric = "cosine",
    ap: ApRule = "step",
    ks: Iterable[int] = (1, 5, 10),
) -> dict[tuple[int, int], RankingResult]:
    """The ranking restricted to queries of one camera and gallery items of another.

    Args:
        query_features, gallery_features, query_ids, gallery_ids, metric, ap, ks: as for
            :func:`reid.evaluation.evaluate_ranking`.
        query_cameras, gallery_cameras: (Q,) and (G,) integers. Images of unknown camera, -1, form
            a group of their own; since nobody knows that they share a camera with anything, no
            match of theirs is ignored, not even within the group.

    Returns:
        (query camera, gallery camera) -> exactly what ``evaluate_ranking`` gives for these queries
        and these gallery items, distractors of the camera among them. Pairs without a valid query
        are left out, and with them all pairs of a known camera with itself. Together they cost
        about one evaluation: every query meets every gallery item once at most.

    Raises:
        ValueError, TypeError: as ``evaluate_ranking``.
    """
    if query_cameras is None or gallery_cameras is None:
        raise ValueError(
            "camera_pairs needs query_cameras and gallery_cameras, integers with -1 for unknown; "
            "without cameras there is one ranking: evaluate_ranking"
        )
    ks = checked_rules(ap, ks)
    source = FeatureDistances(query_features, gallery_features, metric)
    matches = Matches(
        as_labels(query_ids, "query_ids", source.num_queries, "query_features"),
        as_labels(gallery_ids, "gallery_ids", source.num_gallery, "gallery_features"),
        query_cameras,
        gallery_cameras,
    )
    matches.require_valid()

    found = {}
    for there in np.unique(matches.gallery_cameras).tolist():
        gallery = np.flatnonzero(matches.gallery_cameras == there)
        outside = (matches.query_cameras != there) | (matches.query_cameras == _UNKNOWN)
        queries = np.flatnonzero(outside)
        if not len(queries):
            continue
        part = Matches(
            matches.query_ids[queries],
            matches.gallery_ids[gallery],
            matches.query_cameras[queries],
            matches.gallery_cameras[gallery],
        )
        valid = part.num_positives > 0
        if not valid.any():
            continue
        ranked = rank(source.part(queries, gallery), part, ap)
        cameras = matches.query_cameras[queries]
        for here in np.unique(cameras[valid]).tolist():
            chosen = Ranked(*(values[cameras == here] for values in ranked))
            found[here, there] = summary(chosen, ap, metric, ks)
    return dict(sorted(found.items()))
