"""How much a model loses under common corruptions: runs, table, plot and file.

Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations", ICLR 2019, https://arxiv.org/abs/1903.12261; the two summary figures follow
Michaelis et al., https://arxiv.org/abs/1907.07484:

    mean under corruption  = mean over corruptions of the mean over severities of the metric
    relative               = mean under corruption / the metric on the clean images
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.atomic import write_bytes, write_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Group

CLEAN = "clean"
SEVERITIES = (1, 2, 3, 4, 5)

# steps for the head of every test pipeline -> domain -> metric -> value in 0..1
Evaluate = Callable[[list[dict[str, Any]]], Mapping[str, Mapping[str, float]]]
# {"model", "domain", "corruption", "severity", "metrics": {name: value in 0..1}}; severity 0 is
# the clean image
Row = dict[str, Any]


def insert_steps(
    pipeline: Sequence[Mapping[str, Any]], steps: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """``pipeline`` with ``steps`` right behind the step that loads the image, as a new list.

    Raises:
        ValueError: no step loads an image.
    """
    for place, step in enumerate(pipeline):
        if str(step.get("type")).rpartition(".")[2].startswith("LoadImage"):
            behind = place + 1
            return [dict(s) for s in (*pipeline[:behind], *steps, *pipeline[behind:])]
    raise ValueError(
        "expected a pipeline with a step that loads the image (seg.LoadImage), got "
        f"{[step.get('type') for step in pipeline]}"
    )


def robustness_report(
    models: Mapping[str, Evaluate],
    *,
    metric: str = "mIoU",
    corruptions: Sequence[str] | None = None,
    severities: Sequence[int] = SEVERITIES,
    known: Iterable[Row] = (),
    on_rows: Callable[[list[Row]], None] | None = None,
    progress: bool = True,
) -> RobustnessReport:
    """Evaluate every model on the clean and on the corrupted images of its domains.

    Args:
        models: name -> function that puts the given steps behind the image loading of every test
            pipeline (:func:`insert_steps`), evaluates, and returns {domain: {metric: value}} with
            values in 0..1. It gets ``[]`` for the clean images, otherwise
            ``[dict(type="seg.Corrupt", name=..., severity=...)]``.
        metric: the one that table and plot show; rows keep all of them.
        corruptions: names of ``seg.corruptions.CORRUPTIONS``; all of them if None.
        severities: some of 1..5.
        known: rows of an earlier, interrupted report of the same models; not computed again.
        on_rows: called with all rows so far after every evaluation, e.g. to save them.
        progress: a bar with the time left on stderr (on the main process only).

    Raises:
        ValueError: an unknown corruption, severity or metric, or no model at all.
    """
    from mmengine.dist import is_main_process
    from tqdm import tqdm

    from .corruptions import CORRUPTIONS, find_corruption

    if not models:
        raise ValueError("robustness_report: expected at least one model")
    names = list(CORRUPTIONS if corruptions is None else corruptions)
    for name in names:
        find_corruption(name)
    levels = sorted(set(severities))
    if not levels or not set(levels) <= set(SEVERITIES):
        raise ValueError(f"severities: expected some of 1..5, got {list(severities)}")

    tests = [(CLEAN, 0), *((name, level) for name in names for level in levels)]
    rows: list[Row] = []
    found: dict[tuple[str, str, int], list[Row]] = {}
    for row in known:
        found.setdefault((row["model"], row["corruption"], row["severity"]), []).append(row)

    hide = not progress or not is_main_process()
    with tqdm(total=len(models) * len(tests), unit="test", disable=hide) as bar:
        for model, evaluate in models.items():
            for name, level in tests:
                bar.set_description(f"{model}, {name} {level or ''}".rstrip())
                if (model, name, level) in found:
                    rows += found[model, name, level]
                else:
                    steps = [dict(type="seg.Corrupt", name=name, severity=level)] if level else []
                    for domain, values in evaluate(steps).items():
                        if metric not in values:
                            raise ValueError(
                                f"no metric {metric!r} for {domain}; there are {', '.join(values)}"
                            )
                        rows.append(
                            dict(
                                model=model,
                                domain=domain,
                                corruption=name,
                                severity=level,
                                metrics={key: float(value) for key, value in values.items()},
                            )
                        )
                    if on_rows is not None:
                        on_rows(rows)
                bar.update()
    return RobustnessReport(rows, metric)


@dataclass(frozen=True)
class RobustnessReport:
    """The rows of a report; ``metric`` is the one that is shown."""

    rows: list[Row]
    metric: str = "mIoU"

    @property
    def models(self) -> list[str]:
        return list(dict.fromkeys(row["model"] for row in self.rows))

    @property
    def domains(self) -> list[str]:
        return list(dict.fromkeys(row["domain"] for row in self.rows))

    @property
    def corruptions(self) -> list[str]:
        return [n for n in dict.fromkeys(r["corruption"] for r in self.rows) if n != CLEAN]

    @property
    def severities(self) -> list[int]:
        return sorted({row["severity"] for row in self.rows} - {0})

    def value(self, model: str, domain: str, corruption: str, severity: int) -> float:
        """The metric in 0..1; NaN where the report has no such row."""
        for row in self.rows:
            if (row["model"], row["domain"]) == (model, domain) and (
                row["corruption"],
                row["severity"],
            ) == (corruption, severity):
                return float(row["metrics"][self.metric])
        return math.nan

    def clean(self, model: str, domain: str) -> float:
        return self.value(model, domain, CLEAN, 0)

    def mean(self, model: str, domain: str, corruption: str | None = None) -> float:
        """Mean over severities, and over corruptions if none is named."""
        if corruption is None:
            return _mean([self.mean(model, domain, name) for name in self.corruptions])
        return _mean([self.value(model, domain, corruption, s) for s in self.severities])

    def summary(self) -> dict[str, dict[str, dict[str, float]]]:
        """model -> domain -> {"clean", "mean_under_corruption", "relative"}, in 0..1."""
        return {
            model: {
                domain: {
                    "clean": self.clean(model, domain),
                    "mean_under_corruption": self.mean(model, domain),
                    "relative": _ratio(self.mean(model, domain), self.clean(model, domain)),
                }
                for domain in self.domains
            }
            for model in self.models
        }

    def table(self, title: str) -> Group:
        """A table a model and domain, for ``Console().print(..., soft_wrap=True)``.

        Args:
            title: says protocol, data and checkpoint.
        """
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        parts: list[Any] = [Text(f"{title}: {self.metric} under common corruptions (percent)")]
        for model in self.models:
            for domain in self.domains:
                clean = self.clean(model, domain)
                table = Table()
                table.add_column("severity", no_wrap=True)
                for severity in self.severities:
                    table.add_column(str(severity), justify="right")
                table.add_column("mean", justify="right")
                table.add_column("of clean", justify="right")
                for name in self.corruptions:
                    mean = self.mean(model, domain, name)
                    values = [self.value(model, domain, name, s) for s in self.severities]
                    cells = [_percent(v) for v in (*values, mean, _ratio(mean, clean))]
                    table.add_row(name.replace("_", " "), *cells)
                table.add_section()
                by_severity = [
                    _mean([self.value(model, domain, n, s) for n in self.corruptions])
                    for s in self.severities
                ]
                mean = self.mean(model, domain)
                cells = [_percent(v) for v in (*by_severity, mean, _ratio(mean, clean))]
                table.add_row("mean", *cells, style="bold")
                parts += [Text(f"{model} on {domain}: clean {_percent(clean)}"), table]
        return Group(*parts)

    def figure(self, domain: str, title: str = "") -> Figure:
        """A panel a corruption: the metric over severity (0 = clean), a line a model."""
        from matplotlib.figure import Figure

        names = self.corruptions
        columns = min(4, max(1, len(names)))
        lines = max(1, math.ceil(len(names) / columns))
        figure = Figure(figsize=(2.6 * columns + 0.6, 2.1 * lines + 1.1), layout="constrained")
        panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
        levels = [0, *self.severities]
        for place, panel in enumerate(panels.flat):
            if place >= len(names):
                panel.axis("off")
                continue
            name = names[place]
            for number, model in enumerate(self.models):
                clean = self.clean(model, domain)
                values = [clean, *(self.value(model, domain, name, s) for s in self.severities)]
                colour = f"C{number % 10}"
                panel.axhline(100 * clean, color=colour, linewidth=0.8, linestyle=":")
                panel.plot(
                    levels,
                    [100 * v for v in values],
                    color=colour,
                    marker="o",
                    markersize=3,
                    label=model,
                )
            panel.set_title(name.replace("_", " "), fontsize=9)
            panel.set_xticks(levels)
            panel.set_ylim(bottom=0)
            panel.grid(alpha=0.25)
            lowest = place + columns >= len(names)
            panel.tick_params(labelsize=8, labelbottom=lowest)
            if lowest:
                panel.set_xlabel("severity (0: clean)", fontsize=8)
        figure.supylabel(f"{self.metric} in percent", fontsize=9)
        heading = title or f"{domain}: {self.metric} under common corruptions"
        figure.suptitle(f"{heading} (dotted: on clean images)", fontsize=10)
        if names:
            handles, labels = panels.flat[0].get_legend_handles_labels()
            figure.legend(
                handles,
                labels,
                loc="outside lower center",
                ncols=min(4, len(labels)),
                fontsize=8,
                frameon=False,
            )
        return figure

    def write(self, folder: str | Path, title: str = "", **more: Any) -> list[Path]:
        """Write ``robustness.json`` and a plot a domain, ``robustness_<domain>.png``.

        Args:
            folder: made as needed.
            title: of the plots, before the domain's name.
            more: further JSON entries, e.g. protocol, seed, config, checkpoint.

        Returns:
            The written files, the JSON first.
        """
        folder = Path(folder)
        content = dict(metric=self.metric, **more, summary=self.summary(), rows=self.rows)
        paths = [write_json(folder / "robustness.json", content)]
        for domain in self.domains:
            data = io.BytesIO()
            heading = f"{title}, {domain}" if title else ""
            self.figure(domain, heading).savefig(data, format="png", dpi=120)
            name = "".join(c if c.isalnum() or c in "-_." else "_" for c in domain)
            paths.append(folder / f"robustness_{name}.png")
            write_bytes(paths[-1], data.getvalue())
        return paths


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _ratio(value: float, reference: float) -> float:
    return value / reference if reference else math.nan


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.1f}"
