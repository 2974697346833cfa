"""Top-k accuracy and its relatives as mmengine evaluates them: each image once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_gather_object
from mmengine.evaluator import BaseMetric

from engine.main_process import on_main_process

from ..registry import METRICS
from .counting import (
    CALIBRATION_BINS,
    Judged,
    calibration_error,
    class_accuracy,
    confusion_counts,
    judge,
    top_k,
)

# One process's images: index, label, what was judged, paths.
Share = tuple[np.ndarray, np.ndarray, Judged, list[str]]


@METRICS.register_module()
class ClassificationMetric(BaseMetric):
    """Accuracy of one domain.

    ``evaluate`` returns, in 0..1: ``top-<k>`` for each k of ``topk`` that is smaller than the
    number of classes (any answer is right at top-5 of 5 classes), and ``class_accuracy``, the mean
    over the classes that occur of the share of a class's images that are right. Ties count against
    the network, and an image with a logit that is not finite is wrong at every k.

    Args:
        topk: the ks.
        worst: how many of the most confident mistakes to keep in ``details``.

    Attributes:
        details: after ``evaluate``, on the main process: 'data', the data set's description;
            'rules'; 'classes', names; 'num_images'; 'confusion' (K, K) int64 with rows truth;
            'counts' (K,) int64, images by true class; 'accuracy' (K,) with NaN for classes that do
            not occur; 'worst', the most confident mistakes: path, index, truth, prediction,
            confidence; 'not_finite', how many images had no finite logits; 'extras':
            'log_loss' (mean negative log likelihood in nats) and 'calibration_error' (0..1), over
            the images with finite logits.
    """

    default_prefix = ""  # the loop puts the domain's name before each key

    def __init__(self, topk: Sequence[int] = (1, 5), worst: int = 50) -> None:
        super().__init__(collect_device="cpu")
        if not topk or any(k < 1 for k in topk):
            raise ValueError(f"topk: expected numbers of 1 or more, got {topk}")
        if worst < 0:
            raise ValueError(f"worst: expected 0 or more, got {worst}")
        self.topk, self.worst = tuple(topk), worst
        self.details: dict[str, Any] = {}

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        """Judge a batch.

        Args:
            data_batch: with ``label`` and ``index`` (B,) int64 and ``path``, a list.
            data_samples: B rows of logits (K,).
        """
        logits = torch.stack([torch.as_tensor(row) for row in data_samples])
        labels, index = (torch.as_tensor(data_batch[key]) for key in ("label", "index"))
        classes = (self.dataset_meta or {}).get("classes")
        if classes and logits.ndim == 2 and logits.shape[1] != len(classes):
            raise ValueError(
                f"the model has {logits.shape[1]} outputs, the data set "
                f"{self._name()} {len(classes)} classes; test on the data that it was trained "
                "for, or set model.backbone.num_classes and train a new classifier"
            )
        judged = judge(logits, labels)
        paths = list(data_batch.get("path") or [""] * len(labels))
        self.results.append((index.cpu().numpy(), labels.cpu().numpy(), judged, paths))

    def evaluate(self, size: int) -> dict[str, float]:
        """The numbers over all processes; each of ``size`` images must have come exactly once.

        mmengine's own gathering drops results where the processes' shares differ in length.

        Raises:
            RuntimeError: images are missing or came twice. ValueError: no images.
        """
        shares: list[Share] = [part for s in all_gather_object(self.results) for part in s]
        self.results.clear()
        return on_main_process(lambda: self.compute_metrics(shares, size))

    def compute_metrics(self, results: list[Any], size: int | None = None) -> dict[str, float]:
        if not results:
            raise ValueError(f"no images to evaluate: the data set {self._name()} is empty")
        index, labels = (np.concatenate([share[column] for share in results]) for column in (0, 1))
        judged = Judged.joined(share[2] for share in results)
        paths = [path for share in results for path in share[3]]
        order = np.argsort(index, kind="stable")
        expected = len(order) if size is None else size
        if not np.array_equal(index[order], np.arange(expected)):
            raise RuntimeError(
                f"expected each of {expected} images once, got {len(index)} results for "
                f"{len(np.unique(index))} different ones; use a sampler that neither repeats nor "
                "drops, e.g. sampler=dict(type='DefaultSampler', shuffle=False, round_up=False)"
            )
        labels, judged = labels[order], judged.chosen(order)
        paths = [paths[place] for place in order]
        meta = dict(self.dataset_meta or {})
        classes = meta.pop("classes", None)
        if not classes:
            raise ValueError("ClassificationMetric: the data set's metainfo names no classes")
        k = len(classes)
        confusion = confusion_counts(labels, judged.prediction, k)
        counts = np.bincount(labels, minlength=k)
        accuracy = class_accuracy(confusion, counts)
        finite = judged.prediction >= 0
        self.details = {
            "data": meta,
            "rules": self._rules(k),
            "classes": tuple(classes),
            "num_images": len(labels),
            "confusion": confusion,
            "counts": counts.astype(np.int64),
            "accuracy": accuracy,
            "worst": self._worst(labels, judged, paths, classes),
            "not_finite": int((~finite).sum()),
            "extras": {
                "log_loss": float(judged.log_loss[finite].mean()) if finite.any() else float("nan"),
                "calibration_error": calibration_error(judged.confidence, judged.rank == 0),
            },
        }
        return {
            **{f"top-{t}": top_k(judged.rank, t) for t in self._measured(k)},
            "class_accuracy": float(np.nanmean(accuracy)),
        }

    def _measured(self, num_classes: int) -> list[int]:
        """The ks of which a number says something; always one at least."""
        return [t for t in self.topk if t < num_classes] or [1]

    def _rules(self, num_classes: int) -> dict[str, Any]:
        rules = {
            "ties": "against the network",
            "class_accuracy": "mean over the classes that occur",
            "calibration_error": f"{CALIBRATION_BINS} bins of equal width",
        }
        if left := [t for t in self.topk if t not in self._measured(num_classes)]:
            left_out = ", ".join(f"top-{t}" for t in left)
            rules["left out"] = f"{left_out} of {num_classes} classes, which is always right"
        return rules

    def _worst(
        self, labels: np.ndarray, judged: Judged, paths: Sequence[str], classes: Sequence[str]
    ) -> list[dict[str, Any]]:
        wrong = np.flatnonzero((judged.rank > 0) & (judged.prediction >= 0))
        order = wrong[np.argsort(-judged.confidence[wrong], kind="stable")][: self.worst]
        return [
            {
                "path": paths[place],
                "index": int(place),
                "truth": classes[labels[place]],
                "prediction": classes[judged.prediction[place]],
                "confidence": float(judged.confidence[place]),
            }
            for place in order
        ]

    def _name(self) -> str:
        return str((self.dataset_meta or {}).get("name", ""))
