"""Results of classifiers: what a test gives, with all that makes the numbers comparable.

A result belongs to one checkpoint and holds, by domain, every number with the data's fingerprint
and the rules of the evaluation. ``results.json`` is a list of results; ratios are 0..1 in it, and
null where a number does not exist (a class that does not occur).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from engine.results_file import finite, read_entries, with_nan, write_entries
from engine.spread import complete_mean

FORMAT = "classification results 1"


@dataclass
class DomainResult:
    """One model on one domain.

    Attributes:
        metrics: name -> value in 0..1, see ``ClassificationMetric``.
        classes: names. counts: images by true class. accuracy: by class, None where a class does
            not occur.
        confusion: [truth, prediction, images] for all pairs that occur, by label.
        worst: the most confident mistakes, see ``ClassificationMetric``.
        not_finite: images whose logits were not finite; they count as wrong.
        extras: 'log_loss' in nats and 'calibration_error' in 0..1.
        shifts: name of an appearance shift -> metrics under it. shift_words: what each does.
        rules: how the numbers were made. data: name, split, fingerprint ... of the data set.
    """

    metrics: dict[str, float]
    classes: list[str]
    counts: list[int]
    accuracy: list[float | None]
    confusion: list[list[int]] = field(default_factory=list)
    worst: list[dict[str, Any]] = field(default_factory=list)
    not_finite: int = 0
    extras: dict[str, float | None] = field(default_factory=dict)
    shifts: dict[str, dict[str, float]] = field(default_factory=dict)
    shift_words: dict[str, str] = field(default_factory=dict)
    rules: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_details(
        cls, metrics: Mapping[str, float], details: Mapping[str, Any], inference: str = ""
    ) -> DomainResult:
        """From what the metric returned and kept.

        Args:
            inference: what was done to the images, and in which precision they were classified.
        """
        confusion = details["confusion"]
        return cls(
            metrics={name: float(value) for name, value in metrics.items()},
            classes=list(details["classes"]),
            counts=details["counts"].tolist(),
            accuracy=[finite(value) for value in details["accuracy"]],
            confusion=[
                [int(t), int(p), int(confusion[t, p])] for t, p in np.argwhere(confusion)
            ],
            worst=[dict(image) for image in details["worst"]],
            not_finite=int(details["not_finite"]),
            extras={name: finite(value) for name, value in details["extras"].items()},
            rules={**details["rules"], **({"inference": inference} if inference else {})},
            data=dict(details["data"]),
        )  # fmt: skip

    @property
    def num_images(self) -> int:
        return sum(self.counts)

    def matrix(self) -> np.ndarray:
        """(K, K) int64, rows truth, columns prediction."""
        counts = np.zeros((len(self.classes), len(self.classes)), np.int64)
        for truth, prediction, number in self.confusion:
            counts[truth, prediction] = number
        return counts

    def drop(self, shift: str, metric: str = "top-1") -> float | None:
        """What is lost under a shift; None if it was not measured."""
        under = finite(self.shifts.get(shift, {}).get(metric))
        own = finite(self.metrics.get(metric))
        return None if under is None or own is None else own - under


@dataclass
class ModelResult:
    """One checkpoint on all its domains.

    Attributes:
        name: of its row in tables.
        checkpoint, config: files. weights: sha256 of the checkpoint's file.
        seed, epoch: of the training, None where the checkpoint does not say.
        recipe: what the training was, as a digest of its configuration without its seed and
            folders; runs of one recipe differ in their seed only. Empty: unknown.
        source: name of the test domain that the model was trained for, None if there is no other.
        warnings: what a reader of the numbers must know.
    """

    name: str
    domains: dict[str, DomainResult]
    checkpoint: str = ""
    config: str = ""
    weights: str = ""
    seed: int | None = None
    epoch: int | None = None
    recipe: str = ""
    source: str | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def targets(self) -> list[str]:
        """Domains that the model was not trained on; none where the source is not named."""
        return [] if self.source is None else [name for name in self.domains if name != self.source]

    def value(self, domain: str, metric: str) -> float | None:
        """0..1, or None where this model was not tested on the domain or has no such metric."""
        found = self.domains.get(domain)
        return None if found is None else finite(found.metrics.get(metric))

    def mean(self, metric: str = "top-1") -> float | None:
        """Over all domains; None where a number is missing."""
        return complete_mean([self.value(domain, metric) for domain in self.domains])

    def mean_over_targets(self, metric: str = "top-1") -> float | None:
        """None where there is no target, or a number is missing for one."""
        return complete_mean([self.value(domain, metric) for domain in self.targets])

    def summary(self) -> dict[str, Any]:
        """Means of every metric over domains and over targets."""
        metrics = dict.fromkeys(m for d in self.domains.values() for m in d.metrics)
        return {
            "mean_over_domains": {m: self.mean(m) for m in metrics},
            "mean_over_targets": {m: self.mean_over_targets(m) for m in metrics},
        }


def write_results(path: str | Path, results: Sequence[ModelResult], **more: Any) -> Path:
    """Write ``results.json``; ``more`` are further facts of the run, e.g. the averages."""
    entries = [{**asdict(result), "summary": result.summary()} for result in results]
    return write_entries(path, FORMAT, entries, **more)


def read_results(path: str | Path) -> list[ModelResult]:
    """What ``write_results`` wrote.

    Raises:
        FileNotFoundError: no such file. ValueError: it is something else.
    """
    return read_entries(path, FORMAT, "tools/test_cls.py", _from_plain)


def _from_plain(entry: dict[str, Any]) -> ModelResult:
    entry = {key: value for key, value in entry.items() if key != "summary"}
    domains = {
        name: DomainResult(**{**domain, "metrics": with_nan(domain["metrics"])})
        for name, domain in entry.pop("domains").items()
    }
    return ModelResult(domains=domains, **entry)
