"""Query expansion and database augmentation: features moved towards their nearest neighbours.

Features are scaled to unit length first; neighbours are those of largest cosine similarity, equals
by position, found exactly (:mod:`reid.evaluation.neighbours`).

- *Average query expansion* (AQE; Chum et al., "Total Recall", ICCV 2007): the mean of the query and
  its k nearest gallery items, scaled to unit length again.
- *alpha-QE* (Radenovic et al., "Fine-tuning CNN Image Retrieval with No Human Annotation", TPAMI
  2018, https://arxiv.org/abs/1711.02512): the same with each item weighted by its similarity to the
  power alpha; a negative similarity weighs 0, the query itself 1. alpha = 0 is AQE.
- *Database-side augmentation* (DBA; Turcot and Lowe, ICCV workshops 2009; weighted as in Gordo et
  al., "End-to-end Learning of Deep Visual Representations for Image Retrieval", IJCV 2017): every
  gallery item becomes such a mean of itself and its k nearest *other* gallery items.

A query's own identity may be among the gallery items of its own camera, which the usual protocol
ignores when it scores: they take part here, as in the published codes, for labels are not known.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reid.evaluation.distances import FeatureDistances, full_precision
from reid.evaluation.grid import on_grid
from reid.evaluation.neighbours import neighbours_among, neighbours_between

_GATHERED_ELEMENTS = 1 << 22  # neighbours' features at a time

logger = logging.getLogger(__name__)


def expand_queries(
    query_features: Any, gallery_features: Any, *, k: int = 5, alpha: float = 0.0
) -> npt.NDArray[np.float32]:
    """Queries that have taken in their nearest gallery items.

    Args:
        query_features: (Q, D), numpy array or torch tensor of any real type, on any device.
        gallery_features: (G, D), likewise.
        k: gallery items to take in, at least 1. Where there are fewer, all are, and a warning is
            logged.
        alpha: 0 for the plain mean, larger to weight by similarity to this power.

    Returns:
        (Q, D) float32 of unit length (zero where a mean is), to be used in place of the queries.

    Raises:
        ValueError: for wrong shapes, options, and features that are not finite (naming the rows).
        TypeError: for features that are not real numbers.
    """
    _check_options(k, alpha)
    given = FeatureDistances(query_features, gallery_features, "cosine")
    queries, gallery = _unit(given.query), _unit(given.gallery)
    if k > len(gallery):
        logger.warning("k is %d, but the gallery has only %d items: all are taken", k, len(gallery))
    points = on_grid(queries, gallery)
    query_points, gallery_points = points.split(len(queries))
    items = neighbours_between(query_points, gallery_points, k).items
    return _blend(queries, gallery, items, alpha)


def augment_database(
    gallery_features: Any, *, k: int = 10, alpha: float = 3.0
) -> npt.NDArray[np.float32]:
    """Gallery items that have taken in their nearest others.

    Args:
        gallery_features: (G, D), numpy array or torch tensor of any real type, on any device.
        k: other items to take in, at least 1. Where there are fewer, all are, and a warning is
            logged.
        alpha: 0 for the plain mean, larger to weight by similarity to this power.

    Returns:
        (G, D) float32 of unit length (zero where a mean is), to be used in place of the gallery.

    Raises:
        ValueError, TypeError: as :func:`expand_queries`.
    """
    _check_options(k, alpha)
    query = np.ones((1, *np.shape(gallery_features)[-1:]))  # any: errors shall name the gallery
    gallery = _unit(FeatureDistances(query, gallery_features, "cosine").gallery)
    if k >= len(gallery):
        logger.warning("k is %d, but an item has only %d others", k, len(gallery) - 1)
    items = neighbours_among(on_grid(gallery), k)[0].items
    return _blend(gallery, gallery, items, alpha)


def _blend(
    features: Tensor, others: Tensor, items: npt.NDArray[np.int32], alpha: float
) -> npt.NDArray[np.float32]:
    """Each feature and its ``items`` (N, k) of ``others``, summed by weight, to unit length."""
    blended = np.empty(tuple(features.shape), np.float32)
    rows = max(1, _GATHERED_ELEMENTS // max(1, items.shape[1] * features.shape[1]))
    with full_precision(features.device):
        for start in range(0, len(features), rows):
            part = slice(start, start + rows)
            own = features[part].double()  # (B, D)
            chosen = torch.from_numpy(items[part]).to(features.device, torch.int64)
            near = others[chosen].double()  # (B, k, D)
            weights = (near @ own[:, :, None]).clamp_(min=0).pow_(alpha)  # (B, k, 1); 0^0 is 1
            total = own + (weights * near).sum(1)
            blended[part] = torch.nn.functional.normalize(total, dim=1).float().cpu().numpy()
    return blended


def _unit(features: Tensor) -> Tensor:
    """To unit length, float32; a zero vector stays zero."""
    unit = torch.empty(features.shape, dtype=torch.float32, device=features.device)
    rows = max(1, _GATHERED_ELEMENTS // features.shape[1])
    for start in range(0, len(features), rows):
        part = slice(start, start + rows)
        unit[part] = torch.nn.functional.normalize(features[part].double(), dim=1, eps=1e-150)
    return unit


def _check_options(k: int, alpha: float) -> None:
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        raise ValueError(f"k must be an integer of at least 1, got {k!r}")
    if not 0 <= alpha < float("inf"):
        raise ValueError(f"alpha must be at least 0 and finite, got {alpha!r}")
