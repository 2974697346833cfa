"""Classification results as tables for people; all numbers in percent unless their name says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from engine.spread import Spread, percent
from engine.tables import text_table, titled
from engine.wording import counted

from .appearance import PAPER_ERRORS, PAPER_ORIGIN
from .counting import top_confusions
from .results import DomainResult, ModelResult
from .seeds import Aggregate

if TYPE_CHECKING:
    from rich.console import Group

Rows = Sequence["ModelResult | Aggregate"]
CONFUSIONS_SHOWN = 10
CLASSES_SHOWN = 40  # of more classes, a table shows the best and the worst

# ------------------------------------------------------------------------ what stands in a cell


def cell(row: ModelResult | Aggregate, domain: str, metric: str) -> float | Spread | None:
    if isinstance(row, Aggregate):
        return row.metrics.get(domain, {}).get(metric)
    return row.value(domain, metric)


def row_name(row: ModelResult | Aggregate) -> str:
    return row.name if isinstance(row, ModelResult) else f"{row.name} (mean of {row.n})"


def shown(row: ModelResult | Aggregate, value: float | Spread | None, digits: int = 2) -> str:
    """In percent; of an average only what is over fewer runs than its row says how many."""
    text = percent(value, digits)
    return text.removesuffix(f" (n={row.n})") if isinstance(row, Aggregate) else text


def shift_cell(row: ModelResult | Aggregate, domain: str, shift: str, metric: str) -> str:
    """``61.25`` and in a second line ``-3.10``: the accuracy under a shift, and the change."""
    if isinstance(row, Aggregate):
        under: float | Spread | None = row.shifts.get(domain, {}).get(shift, {}).get(metric)
        drop: Any = row.drops.get(domain, {}).get(shift)
        drop = drop.mean if isinstance(drop, Spread) else None
    else:
        found = row.domains.get(domain)
        under = None if found is None else found.shifts.get(shift, {}).get(metric)
        drop = None if found is None else found.drop(shift, metric)
    if under is None:
        return "-"
    return shown(row, under) + ("" if drop is None else f"\n{_signed(drop)}")


def mean(row: ModelResult | Aggregate, metric: str = "top-1") -> float | Spread | None:
    return row.mean.get(metric) if isinstance(row, Aggregate) else row.mean(metric)


def mean_over_targets(row: ModelResult | Aggregate, metric: str = "top-1") -> float | Spread | None:
    if isinstance(row, Aggregate):
        return row.mean_over_targets.get(metric)
    return row.mean_over_targets(metric)


def domains_of(row: ModelResult | Aggregate) -> list[str]:
    return list(row.domains if isinstance(row, ModelResult) else row.metrics)


def is_target(row: ModelResult | Aggregate, domain: str) -> bool:
    return row.source is not None and domain != row.source and domain in domains_of(row)


def domain_names(rows: Rows) -> list[str]:
    """All domains of all rows, sources first."""
    names = dict.fromkeys(name for row in rows for name in domains_of(row))
    sources = {row.source for row in rows}
    return sorted(names, key=lambda name: name not in sources)


def header(domain: str, rows: Rows) -> str:
    """The domain's name, with what it was to the models if it was the same to all of them."""
    tested = [row for row in rows if domain in domains_of(row)]
    if tested and all(is_target(row, domain) for row in tested):
        return f"{domain} (target)"
    return f"{domain} (source)" if all(domain == row.source for row in tested) else domain


def metric_names(rows: Rows) -> list[str]:
    names: dict[str, None] = {}
    for row in rows:
        for domain in (row.domains if isinstance(row, ModelResult) else row.metrics).values():
            names.update(
                dict.fromkeys(domain.metrics if isinstance(domain, DomainResult) else domain)
            )
    return list(names)


def leave_one_out(rows: Rows) -> list[tuple[str, str, float]]:
    """(metric, what it is a mean over, mean over the rows' targets), where every single result has
    exactly one target and all of them another one; else nothing."""
    single = [row for row in rows if isinstance(row, ModelResult)]
    targets = [row.targets[0] for row in single if len(row.targets) == 1]
    if len(single) < 2 or len(targets) != len(single) or len(set(targets)) != len(targets):
        return []
    means = []
    for metric in metric_names(single):
        values = [row.value(t, metric) for row, t in zip(single, targets, strict=True)]
        if None not in values:
            total = sum(v for v in values if v is not None)
            means.append((metric, ", ".join(targets), total / len(values)))
    return means


# ------------------------------------------------------------------ what must be said with a table


def notes(rows: Rows) -> list[str]:
    """Lines that belong under a table of these rows: data and how it was tested, the runs, and,
    beginning with 'not comparable' or 'warning', what a reader must not overlook."""
    single = [row for row in rows if isinstance(row, ModelResult)]
    compared: list[tuple[str, Callable[[DomainResult], Any]]] = [
        ("tested on different data", lambda d: d.data.get("fingerprint")),
        ("other classes", lambda d: d.classes),
        ("tested in different ways", lambda d: d.rules),
    ]
    lines = []
    for domain in domain_names(rows):
        found = [row.domains[domain] for row in single if domain in row.domains]
        for text, get in compared:
            if len({repr(get(d)) for d in found}) > 1:
                lines.append(f"not comparable on {domain}: {text}")
        if found:
            lines.append(f"{domain}: {describe_domain(found[0])}")
        for row in single:
            if (tested := row.domains.get(domain)) and tested.not_finite:
                lines.append(
                    f"warning: {row.name} on {domain}: the logits of "
                    f"{counted(tested.not_finite, 'image')} were not finite; they count as wrong"
                )
    lines += [f"{row.name}: {describe_training(row)}" for row in single]
    lines += dict.fromkeys(f"warning: {text}" for row in single for text in row.warnings)
    return lines


def describe_domain(domain: DomainResult) -> str:
    """One line on how a domain's numbers were made."""
    data = domain.data
    parts = [f"{data.get('name', '?')} {data.get('split', '')}".strip()]
    if data.get("protocol"):
        parts[0] += f" ({data['protocol']})"
    parts += [counted(domain.num_images, "image"), _classes(len(domain.classes))]
    if domain.rules.get("inference"):
        parts.append(str(domain.rules["inference"]))
    if domain.rules.get("left out"):
        parts.append(f"without {domain.rules['left out']}")
    if data.get("fingerprint"):
        parts.append(f"data {str(data['fingerprint'])[:12]}")
    return ", ".join(parts)


def describe_training(row: ModelResult) -> str:
    """``seed 0, epoch 30, weights 0123456789ab``: what is known of the checkpoint."""
    parts = []
    if row.seed is not None:
        parts.append(f"seed {row.seed}")
    if row.epoch is not None:
        parts.append(f"epoch {row.epoch}")
    if row.recipe:
        parts.append(f"recipe {row.recipe[:8]}")
    if row.weights:
        parts.append(f"weights {row.weights[:12]}")
    return ", ".join(parts) or "nothing known of its training"


# ------------------------------------------------------------------------------------- the tables


def result_table(rows: Rows, title: str) -> Group:
    """Models by domains: every metric, means over the domains, and what the numbers depend on
    below. For ``Console().print(..., soft_wrap=True)``."""
    heads, lines, numbers = result_cells(rows)
    table = text_table(["model", *heads], lines)
    return titled(f"{title} (percent)", table, [*numbers, *notes(rows)])


def summary_table(
    metrics: Mapping[str, Mapping[str, float]],
    details: Mapping[str, Sequence[Mapping[str, Any]]],
    title: str,
) -> Group:
    """One model's numbers by domain, as a training ends with them.

    Args:
        metrics: domain -> metric -> value in 0..1. details: by domain, what its metrics kept, as
            ``DomainLoop.details`` has it.
    """
    names = list(dict.fromkeys(name for values in metrics.values() for name in values))
    lines = [
        [domain, *(percent(values.get(name), 2) for name in names)]
        for domain, values in metrics.items()
    ]
    heads = ["domain", *(name.replace("_", " ") for name in names)]
    below = [
        f"{domain}: {describe_domain(DomainResult.from_details(metrics[domain], kept[0]))}"
        for domain, kept in details.items()
        if kept and kept[0] and domain in metrics
    ]
    return titled(f"{title} (percent)", text_table(heads, lines), below)


def result_cells(rows: Rows) -> tuple[list[str], list[list[str]], list[str]]:
    """Heads without the first, a line of cells for each row, and lines of text on further means."""
    names, metrics = domain_names(rows), metric_names(rows)
    several = any(len(domains_of(row)) > 1 for row in rows)
    targets = any(mean_over_targets(row) is not None for row in rows)
    columns: list[tuple[str, Callable[[ModelResult | Aggregate], str]]] = []
    for name in names:
        title = header(name, rows)
        mixed = title == name and any(is_target(row, name) for row in rows)
        for metric in metrics:
            if not any(cell(row, name, metric) is not None for row in rows):
                continue

            def get(row: Any, name: str = name, metric: str = metric, mixed: bool = mixed) -> str:
                text = shown(row, cell(row, name, metric))
                return f"{text} (target)" if mixed and is_target(row, name) else text

            columns.append((f"{title} {metric.replace('_', ' ')}", get))
    if several:
        columns.append(("mean top-1", lambda row: shown(row, mean(row))))
    if targets and any(len(domains_of(row)) > 2 for row in rows):
        columns.append(
            ("mean top-1 of targets", lambda row: shown(row, mean_over_targets(row)))
        )  # fmt: skip
    lines = [[row_name(row), *(get(row) for _, get in columns)] for row in rows]
    numbers = [
        f"mean over targets {over}, one left out in each row: {metric.replace('_', ' ')} "
        f"{percent(value, 2)}"
        for metric, over, value in leave_one_out(rows)
    ]
    return [head for head, _ in columns], lines, numbers


def certainty_table(rows: Rows) -> Group:
    """How far the probabilities can be believed: log loss (nats) and calibration error."""
    lines = [
        [
            *(row.name, name),
            "-" if domain.extras.get("log_loss") is None else f"{domain.extras['log_loss']:.3f}",
            percent(domain.extras.get("calibration_error"), 2),
        ]
        for row in rows
        if isinstance(row, ModelResult)
        for name, domain in row.domains.items()
    ]
    table = text_table(
        ["model", "domain", "log loss (nats)", "calibration error (%)"], lines, words=2
    )
    return titled("probabilities", table)


def class_cells(rows: Rows, domain: str) -> tuple[list[str], list[list[str]], list[str]]:
    """Accuracy by class on one domain: heads without the first; for each class its name, its
    images and a cell a row; the rows' means. Of more than 40 classes the 20 worst and the 20 best
    of the first row are shown."""
    tested = [r for r in rows if cell(r, domain, "class_accuracy") is not None]
    known = next((r.domains[domain] for r in tested if isinstance(r, ModelResult)), None)
    lines: list[list[str]] = []
    if known is not None:
        order = list(range(len(known.classes)))
        if len(order) > CLASSES_SHOWN:
            occurring = [c for c in order if known.accuracy[c] is not None]
            ranked = sorted(occurring, key=lambda c: known.accuracy[c] or 0.0)
            half = CLASSES_SHOWN // 2
            order = ranked if len(ranked) <= CLASSES_SHOWN else ranked[:half] + ranked[-half:]
        for index in order:
            label = known.classes[index]
            cells: list[str] = []
            for row in tested:
                if isinstance(row, Aggregate):
                    cells.append(shown(row, row.accuracy.get(domain, {}).get(label), 1))
                elif label in row.domains[domain].classes:
                    found = row.domains[domain]
                    cells.append(percent(found.accuracy[found.classes.index(label)], 1))
                else:
                    cells.append("-")
            lines.append([label, f"{known.counts[index]:,}", *cells])
    means = ["" if known is None else f"{known.num_images:,}"]
    means += [shown(row, cell(row, domain, "class_accuracy"), 1) for row in tested]
    return ["images", *(row_name(row) for row in tested)], lines, means


def class_table(rows: Rows, domain: str) -> Group:
    """Accuracy by class on one domain, and the most frequent confusions of each model."""
    heads, lines, means = class_cells(rows, domain)
    table = text_table(["class", *heads], lines, last=["mean", *means])
    known = next(
        (r.domains[domain] for r in rows if isinstance(r, ModelResult) and domain in r.domains),
        None,
    )
    many = known is not None and len(known.classes) > len(lines)
    note = (
        f"; the {len(lines) // 2} worst and best of {len(known.classes)}" if known and many else ""
    )
    return titled(f"{domain}: accuracy by class (percent{note})", table)


def confusion_table(row: ModelResult, domain: str, limit: int = CONFUSIONS_SHOWN) -> Group:
    """The most frequent mistakes of one model on one domain."""
    found = row.domains[domain]
    lines = [
        [truth, prediction, f"{number:,}", percent(share)]
        for truth, prediction, number, share in top_confusions(
            found.matrix(), found.classes, limit
        )
    ]  # fmt: skip
    table = text_table(["truth", "taken for", "images", "of its class (%)"], lines, words=2)
    return titled(f"{row.name} on {domain}: most frequent confusions", table)


def shift_names(rows: Rows, domain: str) -> list[str]:
    names: dict[str, None] = {}
    for row in rows:
        if isinstance(row, Aggregate):
            names.update(dict.fromkeys(row.shifts.get(domain, {})))
        elif domain in row.domains:
            names.update(dict.fromkeys(row.domains[domain].shifts))
    return list(names)


def appearance_cells(
    rows: Rows, domain: str, *, paper: bool = False, metric: str = "top-1"
) -> tuple[list[str], list[list[str]]]:
    """Heads without the first, and a line of cells for each row that was tested under shifts.

    Args:
        paper: with the paper's rows, as accuracies.
    """
    names = shift_names(rows, domain)
    rows = [row for row in rows if set(shift_names([row], domain)) & set(names)]
    lines = [
        [
            *(row_name(row), shown(row, cell(row, domain, metric))),
            *(shift_cell(row, domain, name, metric) for name in names),
        ]
        for row in rows
    ]
    if paper:
        place = 0 if metric == "top-1" else 1
        names = [*names, *(["Monet"] if "Monet" not in names else [])]
        lines = [line + ["-"] * (len(names) + 2 - len(line)) for line in lines]
        for model, errors in PAPER_ERRORS.items():
            own = errors["none"][place]
            cells = [
                f"{100 - errors[n][place]:.2f}\n{_signed((errors[n][place] - own) / 100)}"
                if n in errors
                else "-"
                for n in names
            ]
            lines.append([f"{model} (paper)", f"{100 - own:.2f}", *cells])
    return ["none", *names], lines


def appearance_notes(rows: Rows, domain: str, *, paper: bool = False) -> list[str]:
    """What the shifts are, and what the paper's rows are."""
    words: dict[str, str] = {}
    for row in rows:
        if isinstance(row, ModelResult) and domain in row.domains:
            words.update(row.domains[domain].shift_words)
    lines = [f"{name}: {text}" for name, text in words.items()]
    if words and not any("clipped" in text for text in words.values()):
        lines.append("pixels may leave 0..255, as in the paper")
    known = [
        row.domains[domain]
        for row in rows
        if isinstance(row, ModelResult) and domain in row.domains
    ]  # fmt: skip
    if known:
        lines.append(f"{domain}: {describe_domain(known[0])}")
    if paper:
        lines.append(
            f"(paper): 100 minus the errors of {PAPER_ORIGIN}; its style is Monet by a CycleGAN"
        )
    return lines


def appearance_table(
    rows: Rows, domain: str, *, paper: bool = False, metric: str = "top-1"
) -> Group:
    """Models by appearance shifts on one domain: accuracy, and its change against no shift."""
    heads, lines = appearance_cells(rows, domain, paper=paper, metric=metric)
    table = text_table(["model", *heads], lines, spaced=True)
    title = f"{domain}: {metric} under appearance shifts (percent; below it the change)"
    return titled(title, table, appearance_notes(rows, domain, paper=paper))


def _signed(drop: float | None) -> str:
    """The change that a drop is: ``-3.10``, ``+0.20``, ``0.00``."""
    change = 0.0 if drop is None else -100 * drop
    return f"{change:+.2f}" if abs(change) >= 0.005 else "0.00"


def _classes(number: int) -> str:
    return f"{number:,} class" if number == 1 else f"{number:,} classes"
