"""Training curves of one or several runs, from what mmengine's LocalVisBackend wrote.

Each start of a run has a folder of its own, ``<run>/<time>/vis_data/scalars.json``, with a JSON
object a line: losses and rates by iteration, validation metrics (``<domain>/<metric>``) by epoch.
Where a run was resumed, what the later start says of an iteration replaces what the earlier said.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# of an iteration, but no curve
_NOT_DRAWN = {"step", "iter", "epoch", "time", "data_time", "memory"}


@dataclass
class Curves:
    """One run.

    Attributes:
        name: of the run. epoch_length: iterations of an epoch, 1 where nothing tells.
        training: name of a scalar -> [(iteration, value)]. validation: ``<domain>/<metric>`` ->
            [(epoch, value)].
    """

    name: str
    epoch_length: int = 1
    training: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    validation: dict[str, list[tuple[int, float]]] = field(default_factory=dict)

    def in_epochs(self, key: str) -> tuple[list[float], list[float]]:
        """A scalar of the training against epochs."""
        points = self.training.get(key, [])
        return [step / self.epoch_length for step, _ in points], [value for _, value in points]


def read_curves(folder: str | Path, name: str | None = None) -> Curves:
    """The curves of the run in a folder.

    Raises:
        FileNotFoundError: no scalars in it. ValueError: a file holds something else.
    """
    folder = Path(folder)
    files = sorted(folder.glob("*/vis_data/scalars.json"))
    if not files:
        raise FileNotFoundError(
            f"no training curves in {folder}: expected {folder}/<time>/vis_data/scalars.json, "
            "which a training writes (unless its config says visualizer=None)"
        )
    curves = Curves(name or folder.resolve().name)
    for file in files:
        lines = _lines(file)
        for scalars, by in ((curves.training, True), (curves.validation, False)):
            mine = [line for line in lines if _is_training(line) is by]
            if mine:
                first = min(int(line["step"]) for line in mine)
                for key, points in scalars.items():
                    scalars[key] = [point for point in points if point[0] < first]
            for line in mine:
                for key, value in line.items():
                    if key not in _NOT_DRAWN and isinstance(value, int | float):
                        scalars.setdefault(key, []).append((int(line["step"]), float(value)))
        for line in lines:
            # at the end of an epoch, step / epoch is its length; before, less
            if _is_training(line) and line.get("epoch"):
                length = math.ceil(line["step"] / line["epoch"])
                curves.epoch_length = max(curves.epoch_length, length)
    return curves


def curves_picture(runs: Sequence[Curves], metric: str = "top-1") -> bytes:
    """Loss, accuracy and learning rate of the runs against epochs, as a PNG.

    A run has a colour; a validation domain has a kind of line; the training is thin.
    """
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    colours = [colormaps["tab10" if len(runs) <= 10 else "viridis"](_place(i, len(runs)))
               for i in range(len(runs))]  # fmt: skip
    domains = list(
        dict.fromkeys(
            key.rpartition("/")[0]
            for run in runs
            for key in run.validation
            if key.endswith(f"/{metric}")
        )
    )
    kinds = ["-", "--", "-.", ":"]
    figure = Figure(figsize=(15, 4.6), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)  # without pyplot, and so without a window or global state
    loss, accuracy, rate = figure.subplots(1, 3)
    for run, colour in zip(runs, colours, strict=True):
        loss.plot(*run.in_epochs("loss"), color=colour, lw=1.2, label=run.name)
        epochs, values = run.in_epochs("accuracy")
        accuracy.plot(epochs, [100 * v for v in values], color=colour, lw=0.8, alpha=0.4)
        for place, domain in enumerate(domains):
            points = run.validation.get(f"{domain}/{metric}", [])
            several = f", {domain}" if len(domains) > 1 else ""
            accuracy.plot(
                [epoch for epoch, _ in points],
                [100 * value for _, value in points],
                kinds[place % len(kinds)],
                color=colour,
                marker="o" if len(points) < 20 else None,
                ms=3,
                label=f"{run.name}{several}" if points else None,
            )
        rate.plot(*run.in_epochs("lr"), color=colour, lw=1.2, label=run.name)
    loss.set_title("training loss")
    trained = any("accuracy" in run.training for run in runs)
    thin = "; thin: training batches" if trained else ""
    accuracy.set_title(f"{metric} of {', '.join(domains) or 'no validation'} (percent{thin})")
    rate.set_title("learning rate")
    if any(value > 0 for run in runs for _, value in run.training.get("lr", [])):
        rate.set_yscale("log")
    for axes in (loss, accuracy, rate):
        axes.set_xlabel("epoch")
        axes.grid(alpha=0.3)
        axes.title.set_parse_math(False)
    if accuracy.get_legend_handles_labels()[1]:
        accuracy.legend(fontsize=8)
    if len(runs) > 1:
        loss.legend(fontsize=8)
    data = io.BytesIO()
    figure.savefig(data, format="png")
    return data.getvalue()


def _place(index: int, number: int) -> Any:
    return index if number <= 10 else index / (number - 1)


def _lines(file: Path) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    texts = file.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, text in enumerate(texts, start=1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
        except ValueError as error:
            if number == len(texts):  # of a run that was ended while it wrote
                continue
            raise ValueError(f"{file}, line {number}, is not JSON: {error}") from error
        if isinstance(line, dict) and isinstance(line.get("step"), int):
            lines.append(line)
    return lines


def _is_training(line: Mapping[str, Any]) -> bool:
    """A validation's scalars carry the name of a domain; a training's the iteration."""
    return "iter" in line or "lr" in line or "loss" in line
