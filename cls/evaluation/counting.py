"""From logits to the numbers of a classification: ranks, top-k, confusion, calibration.

Ties count against the network: an image is right at top-k only if fewer than k other classes have
a logit that is as large as that of the true one or larger. The numbers then depend on no order of
the classes, and a network that gives all classes the same logit has a top-1 of 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

CALIBRATION_BINS = 15


@dataclass
class Judged:
    """Images against their labels.

    Attributes:
        rank: (N,) int64, how many other classes have a logit at least as large as the true one;
            K where a logit is not finite.
        prediction: (N,) int64, the largest logit; of several that are equal the first one that is
            not the truth, so that ``prediction == label`` exactly where rank is 0. -1 where a
            logit is not finite.
        confidence: (N,) float64, softmax of the prediction. log_loss: (N,) float64, minus the
            log of the true class's softmax. Both NaN where a logit is not finite.
    """

    rank: np.ndarray
    prediction: np.ndarray
    confidence: np.ndarray
    log_loss: np.ndarray

    @classmethod
    def joined(cls, parts: Iterable[Judged]) -> Judged:
        columns = zip(*((p.rank, p.prediction, p.confidence, p.log_loss) for p in parts))  # noqa: B905
        return cls(*(np.concatenate(column) for column in columns))

    def chosen(self, places: np.ndarray) -> Judged:
        """Those at ``places``, in that order."""
        columns = self.rank, self.prediction, self.confidence, self.log_loss
        return Judged(*(column[places] for column in columns))


def judge(logits: Tensor, labels: Tensor) -> Judged:
    """Compare logits (N, K) with labels (N,) int64 of 0..K-1.

    Raises:
        ValueError: other shapes, or a label that is no class.
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(
            f"expected logits (N, K) and labels (N,), got {tuple(logits.shape)} and "
            f"{tuple(labels.shape)}"
        )
    logits, labels = logits.detach().double(), labels.to(logits.device).long()
    n, k = logits.shape
    if n and not 0 <= int(labels.min()) <= int(labels.max()) < k:
        raise ValueError(
            f"labels run from {int(labels.min())} to {int(labels.max())}, the network's outputs "
            f"from 0 to {k - 1}: the model was built for other classes than the data has "
            "(model.backbone.num_classes)"
        )
    finite = logits.isfinite().all(1)
    logits = torch.where(finite[:, None], logits, 0.0)
    rows = torch.arange(n, device=logits.device)
    true = logits[rows, labels]  # (N,)
    rank = (logits >= true[:, None]).sum(1) - 1
    others = logits.clone()
    others[rows, labels] = -torch.inf
    prediction = torch.where(rank == 0, labels, others.argmax(1))
    log_softmax = logits.log_softmax(1)
    confidence = log_softmax[rows, prediction].exp()
    log_loss = -log_softmax[rows, labels]
    for column, value in ((rank, k), (prediction, -1), (confidence, np.nan), (log_loss, np.nan)):
        column[~finite] = value
    return Judged(*(c.cpu().numpy() for c in (rank, prediction, confidence, log_loss)))


def top_k(rank: np.ndarray, k: int) -> float:
    """Share of images whose true class is among the k most likely; NaN for no images."""
    return float((rank < k).mean()) if len(rank) else float("nan")


def confusion_counts(labels: np.ndarray, predictions: np.ndarray, num_classes: int) -> np.ndarray:
    """(K, K) int64, rows truth, columns prediction; images without a prediction (-1) are not in it.

    Args:
        labels, predictions: (N,) int64.
    """
    known = predictions >= 0
    pairs = labels[known] * num_classes + predictions[known]
    counts = np.bincount(pairs, minlength=num_classes**2)
    square: np.ndarray = counts.reshape(num_classes, num_classes).astype(np.int64)
    return square


def class_accuracy(confusion: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(K,) float64: share of a class's images that are right; NaN for a class without images.

    Args:
        confusion: (K, K), rows truth. counts: (K,) images by true class.
    """
    whole = np.asarray(counts, np.float64)
    hits = np.diag(confusion)
    shares: np.ndarray = np.divide(hits, whole, out=np.full_like(whole, np.nan), where=whole > 0)
    return shares


def calibration_error(
    confidence: np.ndarray, right: np.ndarray, bins: int = CALIBRATION_BINS
) -> float:
    """Expected calibration error, 0..1: how far confidence and accuracy lie apart.

    Guo et al., ICML 2017, https://arxiv.org/abs/1706.04599: the mean over ``bins`` bins of equal
    width, weighted by their images, of |accuracy - mean confidence|. Images whose confidence is NaN
    are left out; NaN if none is left.

    Args:
        confidence: (N,) float64 in 0..1. right: (N,) bool.
    """
    known = ~np.isnan(confidence)
    confidence, right = confidence[known], right[known]
    if not len(confidence):
        return float("nan")
    # bin b holds (b / bins, (b + 1) / bins]
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gap = np.bincount(place, right.astype(np.float64) - confidence, bins)
    return float(np.abs(gap).sum() / len(confidence))


def top_confusions(
    confusion: np.ndarray, classes: Sequence[str], limit: int
) -> list[tuple[str, str, int, float]]:
    """The most frequent mistakes: truth, prediction, images, their share of the truth's."""
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    totals = confusion.sum(1)
    order = np.argsort(-wrong, axis=None, kind="stable")[:limit]
    found = []
    for truth, prediction in zip(*np.unravel_index(order, wrong.shape), strict=True):
        number = int(wrong[truth, prediction])
        if number:
            share = number / int(totals[truth])
            found.append((classes[truth], classes[prediction], number, share))
    return found
