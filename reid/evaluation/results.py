"""Results of re-identification: what a test gives, with all that makes the numbers comparable.

A result belongs to one checkpoint and holds, by domain, every number with the data's fingerprint
and the rules of the evaluation. ``results.json`` is a list of results; ratios are 0..1 in it, and
null where a number does not exist.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from engine.results_file import finite, read_entries, with_nan, write_entries
from engine.spread import complete_mean

FORMAT = "re-identification results 1"


@dataclass
class Refined:
    """Numbers with a step between features and ranking: re-ranking, query expansion ...

    Attributes:
        metrics, deviations: as of a DomainResult.
        rules: the method, its variant and all its parameters.
    """

    metrics: dict[str, float]
    deviations: dict[str, float] = field(default_factory=dict)
    rules: dict[str, Any] = field(default_factory=dict)


@dataclass
class DomainResult:
    """One model on one domain.

    Attributes:
        metrics: mAP, rank-<k> and mINP in 0..1; of a protocol of several draws, means over them.
        deviations: by metric, the sample standard deviation over the draws; empty for one draw.
        num_queries, num_valid_queries, num_gallery: images, of the first draw.
        problem: why there are no numbers, None where there are.
        refined: the same with a step between features and ranking, by its name.
        camera_pairs: from one camera to another: query_camera, gallery_camera, num_queries (the
            valid ones), mAP, rank-1.
        verification: are two images of one identity? 'eer', 'eer_threshold', 'auc', 'points' (by
            false accept rate: far, tar and threshold, None where there are too few pairs), 'roc'
            (pairs of far and tar), 'histogram' (edges, genuine, impostor), 'num_genuine',
            'num_impostor'.
        examples: queries to look at with their best hits, see ``reid.evaluation.examples``.
        notes: what a reader of the numbers should know of the data.
        rules: how the numbers were made. data: name, split, fingerprint ... of the data set.
    """

    metrics: dict[str, float]
    deviations: dict[str, float] = field(default_factory=dict)
    num_queries: int = 0
    num_valid_queries: int = 0
    num_gallery: int = 0
    problem: str | None = None
    refined: dict[str, Refined] = field(default_factory=dict)
    camera_pairs: list[dict[str, Any]] = field(default_factory=list)
    verification: dict[str, Any] = field(default_factory=dict)
    examples: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rules: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_details(
        cls, metrics: Mapping[str, float], details: Mapping[str, Any], inference: str = ""
    ) -> DomainResult:
        """From what the metric returned and kept.

        Args:
            inference: what was done to the images, and in which precision they were embedded.
        """
        result, (queries, gallery) = details["result"], details["draws"][0]
        return cls(
            metrics={name: float(value) for name, value in metrics.items()},
            deviations={name: float(value) for name, value in details["deviations"].items()},
            num_queries=len(queries),
            num_valid_queries=0 if result is None else int(result.num_valid_queries),
            num_gallery=len(gallery),
            problem=details["problem"],
            rules={**details["rules"], **({"inference": inference} if inference else {})},
            data=dict(details["data"]),
        )

    def value(self, metric: str, refinement: str | None = None) -> float | None:
        """0..1, or None where it does not exist."""
        if refinement is None:
            return finite(self.metrics.get(metric))
        found = self.refined.get(refinement)
        return None if found is None else finite(found.metrics.get(metric))


@dataclass
class ModelResult:
    """One checkpoint on all its domains.

    Attributes:
        name: of its row in tables.
        checkpoint, config: files. weights: sha256 of the checkpoint's file.
        seed, epoch: of the training, None where the checkpoint does not say.
        recipe: what the training was, as a digest of its configuration without its seed and
            folders; runs of one recipe differ in their seed only. Empty: unknown.
        trained_on: fingerprint of the training data, empty where the checkpoint does not say.
        sources: names of the domains that the model was trained on.
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
    trained_on: str = ""
    sources: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def targets(self) -> list[str]:
        """Domains that the model was not trained on; none where no source is known."""
        return [name for name in self.domains if name not in self.sources] if self.sources else []

    def value(self, domain: str, metric: str, refinement: str | None = None) -> float | None:
        """0..1, or None where this model was not tested on the domain or has no such number."""
        found = self.domains.get(domain)
        return None if found is None else found.value(metric, refinement)

    def mean_over_targets(self, metric: str = "mAP", refinement: str | None = None) -> float | None:
        """None where there is no target, or a number is missing for one."""
        return complete_mean([self.value(domain, metric, refinement) for domain in self.targets])

    def mean_over_sources(self, metric: str = "mAP", refinement: str | None = None) -> float | None:
        """Over the sources that were tested; None where none was, or a number is missing."""
        tested = [name for name in self.sources if name in self.domains]
        return complete_mean([self.value(domain, metric, refinement) for domain in tested])

    def gap(self, metric: str = "mAP", refinement: str | None = None) -> float | None:
        """Source minus targets, in their means; None where one of the two is not known."""
        own = self.mean_over_sources(metric, refinement)
        other = self.mean_over_targets(metric, refinement)
        return None if own is None or other is None else own - other

    def summary(self) -> dict[str, Any]:
        """Every metric in the mean over targets, and what is lost there against the source."""
        metrics = dict.fromkeys(m for d in self.domains.values() for m in d.metrics)
        return {
            "mean_over_targets": {m: self.mean_over_targets(m) for m in metrics},
            "gap_to_source": {m: self.gap(m) for m in metrics},
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
    return read_entries(path, FORMAT, "tools/test_reid.py", _from_plain)


def _from_plain(entry: dict[str, Any]) -> ModelResult:
    entry = {key: value for key, value in entry.items() if key != "summary"}
    domains = {name: _domain_from_plain(domain) for name, domain in entry.pop("domains").items()}
    return ModelResult(domains=domains, **entry)


def _domain_from_plain(entry: dict[str, Any]) -> DomainResult:
    refined = {
        name: Refined(**{**found, "metrics": with_nan(found["metrics"])})
        for name, found in entry["refined"].items()
    }
    return DomainResult(**{**entry, "metrics": with_nan(entry["metrics"]), "refined": refined})


# What must not differ between runs that are averaged, by name, and how to read it off a result.
ALIKE: dict[str, Callable[[ModelResult], Any]] = {
    "recipe": lambda r: r.recipe,
    "epochs": lambda r: r.epoch,
    "training data": lambda r: r.trained_on,
    "source domains": lambda r: r.sources,
    "domains": lambda r: sorted(r.domains),
    "data": lambda r: {k: r.domains[k].data.get("fingerprint") for k in sorted(r.domains)},
    "evaluation rules": lambda r: {k: r.domains[k].rules for k in sorted(r.domains)},
    "metrics": lambda r: {k: sorted(r.domains[k].metrics) for k in sorted(r.domains)},
    "refinements": lambda r: {
        k: {name: found.rules for name, found in r.domains[k].refined.items()}
        for k in sorted(r.domains)
    },
}
