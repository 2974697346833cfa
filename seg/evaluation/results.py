"""Results of segmentation models: what a test gives, with all that makes the numbers comparable.

A result belongs to one checkpoint and holds, by domain, every number with the data's fingerprint
and the rules of the evaluation. ``results.json`` is a list of results; ratios are 0..1 in it, and
null where a number does not exist (a class that does not occur).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from engine.results_file import finite, read_entries, with_nan, write_entries
from engine.spread import complete_mean

FORMAT = "segmentation results 1"
# of a data set with thousands of images only the worst are worth a line in the file
KEPT_IMAGES = 50


@dataclass
class DomainResult:
    """One model on one domain.

    Attributes:
        metrics: name -> value in 0..1, see ``SegmentationMetric``.
        classes: names. evaluated_classes: indices of those that enter the means.
        iou, accuracy, boundary_iou: by class, None where a class does not occur (boundary_iou may
            be None as a whole: not measured).
        confusion: (C, C) pixels, rows truth, as lists.
        images: the worst images, worst first: path, mIoU, pixel_accuracy.
        rules: how the numbers were made. data: name, split, fingerprint ... of the data set.
    """

    metrics: dict[str, float]
    classes: list[str]
    evaluated_classes: list[int]
    iou: list[float | None]
    accuracy: list[float | None]
    boundary_iou: list[float | None] | None = None
    confusion: list[list[int]] = field(default_factory=list)
    images: list[dict[str, Any]] = field(default_factory=list)
    rules: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_details(
        cls, metrics: Mapping[str, float], details: Mapping[str, Any], inference: str = ""
    ) -> DomainResult:
        """From what the metric returned and kept.

        Args:
            inference: how the labels were predicted (whole image or windows, at which size).
        """
        boundary = details["boundary_iou"]
        return cls(
            metrics={name: float(value) for name, value in metrics.items()},
            classes=list(details["classes"]),
            evaluated_classes=[int(c) for c in details["evaluated_classes"]],
            iou=_plain(details["iou"]),
            accuracy=_plain(details["accuracy"]),
            boundary_iou=None if boundary is None else _plain(boundary),
            confusion=details["confusion"].tolist(),
            images=[
                {k: v if isinstance(v, str) else finite(v) for k, v in image.items()}
                for image in details["images"][:KEPT_IMAGES]
            ],
            rules={**details["rules"], **({"inference": inference} if inference else {})},
            data=dict(details["data"]),
        )


@dataclass
class ModelResult:
    """One checkpoint on all its domains.

    Attributes:
        name: of its row in tables.
        checkpoint, config: files. weights: fingerprint of the checkpoint's file, if taken.
        seed, iteration: of the training, None where the checkpoint does not say.
        protocol: ``seg.protocols.stamp``: name, deviations, text.
        source: name of the domain that was trained on, None if unknown.
        warnings: what a reader of the numbers must know.
    """

    name: str
    domains: dict[str, DomainResult]
    checkpoint: str = ""
    config: str = ""
    weights: str = ""
    seed: int | None = None
    iteration: int | None = None
    protocol: dict[str, Any] = field(default_factory=dict)
    source: str | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def targets(self) -> list[str]:
        """Domains other than the source; all of them where the source is not named."""
        return [name for name in self.domains if name != self.source]

    def value(self, domain: str, metric: str) -> float | None:
        """0..1, or None where this model was not tested on the domain or has no such metric."""
        found = self.domains.get(domain)
        return None if found is None else finite(found.metrics.get(metric, math.nan))

    def mean_over_targets(self, metric: str = "mIoU") -> float | None:
        """None where there is no target, or a number is missing for one."""
        return complete_mean([self.value(domain, metric) for domain in self.targets])

    def gap(self, domain: str | None = None, metric: str = "mIoU") -> float | None:
        """Source minus ``domain`` (default: minus the mean over targets); None if the source was
        not tested."""
        own = None if self.source is None else self.value(self.source, metric)
        other = self.mean_over_targets(metric) if domain is None else self.value(domain, metric)
        return None if own is None or other is None else own - other

    def summary(self) -> dict[str, Any]:
        """Means over targets of every metric, and the gaps in mIoU."""
        metrics = dict.fromkeys(m for d in self.domains.values() for m in d.metrics)
        return {
            "mean_over_targets": {m: self.mean_over_targets(m) for m in metrics},
            "gap": {d: self.gap(d) for d in self.targets},
            "gap_to_mean_of_targets": self.gap(),
        }


def write_results(path: str | Path, results: Sequence[ModelResult], **more: Any) -> Path:
    """Write ``results.json``; ``more`` are further facts of the run, e.g. the aggregates."""
    entries = [{**asdict(result), "summary": result.summary()} for result in results]
    return write_entries(path, FORMAT, entries, **more)


def read_results(path: str | Path) -> list[ModelResult]:
    """What ``write_results`` wrote.

    Raises:
        FileNotFoundError: no such file. ValueError: it is something else.
    """
    return read_entries(path, FORMAT, "tools/test_seg.py", _from_plain)


def _from_plain(entry: dict[str, Any]) -> ModelResult:
    entry = {key: value for key, value in entry.items() if key != "summary"}
    domains = {
        name: DomainResult(**{**domain, "metrics": with_nan(domain["metrics"])})
        for name, domain in entry.pop("domains").items()
    }
    return ModelResult(domains=domains, **entry)


def _plain(values: Any) -> list[float | None]:
    return [finite(v) for v in values]
