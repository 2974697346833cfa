"""Results of re-identification as tables for people; all numbers in percent unless they say so."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from engine.spread import Spread, percent
from engine.tables import text_table, titled
from engine.wording import counted

from .results import DomainResult, ModelResult
from .seeds import Aggregate, verification_numbers

if TYPE_CHECKING:
    from rich.console import Group

Row: TypeAlias = "ModelResult | Aggregate"
Rows: TypeAlias = "Sequence[ModelResult | Aggregate]"
Value: TypeAlias = "float | Spread | None"
# Of which the mean over targets and the gap to the source are shown.
MAIN_METRICS = ("mAP", "rank-1")

# ------------------------------------------------------------------------ what stands in a cell


def cell(row: Row, domain: str, metric: str, refinement: str | None = None) -> Value:
    if isinstance(row, ModelResult):
        return row.value(domain, metric, refinement)
    if refinement is None:
        return row.metrics.get(domain, {}).get(metric)
    return row.refined.get(domain, {}).get(refinement, {}).get(metric)


def row_name(row: Row) -> str:
    return row.name if isinstance(row, ModelResult) else f"{row.name} (mean of {row.n})"


def shown(row: Row, value: Value, digits: int = 1) -> str:
    """In percent; of an average only what is over fewer runs than its row says how many."""
    text = percent(value, digits)
    return text.removesuffix(f" (n={row.n})") if isinstance(row, Aggregate) else text


def with_deviation(row: Row, domain: str, metric: str, refinement: str | None = None) -> str:
    """A cell; of a protocol of several draws with the deviation over them."""
    value = cell(row, domain, metric, refinement)
    text = shown(row, value)
    if value is None or not isinstance(row, ModelResult):
        return text
    kept = row.domains[domain]
    deviations = (kept if refinement is None else kept.refined[refinement]).deviations
    return f"{text} ± {percent(deviations[metric])}" if metric in deviations else text


def domains_of(row: Row) -> list[str]:
    return list(row.domains if isinstance(row, ModelResult) else row.metrics)


def domain_names(rows: Rows) -> list[str]:
    """All domains of all rows, sources first."""
    names = dict.fromkeys(name for row in rows for name in domains_of(row))
    sources = {name for row in rows for name in row.sources}
    return sorted(names, key=lambda name: name not in sources)


def header(domain: str, row: Row) -> str:
    """The domain's name, with what it was to the model, where that is known."""
    if not row.sources:
        return domain
    return f"{domain} (source)" if domain in row.sources else f"{domain} (target)"


def metric_names(rows: Rows) -> list[str]:
    names: dict[str, None] = {}
    for row in rows:
        for name in domains_of(row):
            found = row.domains[name].metrics if isinstance(row, ModelResult) else row.metrics[name]
            names.update(dict.fromkeys(found))
    return list(names)


def refinement_names(row: Row, domain: str) -> list[str]:
    if isinstance(row, Aggregate):
        return list(row.refined.get(domain, {}))
    return list(row.domains[domain].refined) if domain in row.domains else []


def mean_over_targets(row: Row, metric: str) -> Value:
    if isinstance(row, Aggregate):
        return row.mean_over_targets.get(metric)
    return row.mean_over_targets(metric)


def mean_over_sources(row: Row, metric: str) -> Value:
    if isinstance(row, Aggregate):
        return row.mean_over_sources.get(metric)
    return row.mean_over_sources(metric)


def gap(row: Row, metric: str) -> Value:
    return row.gap.get(metric) if isinstance(row, Aggregate) else row.gap(metric)


def known_domain(rows: Rows, domain: str) -> DomainResult | None:
    """The first single result on a domain."""
    return next(
        (r.domains[domain] for r in rows if isinstance(r, ModelResult) and domain in r.domains),
        None,
    )


# ------------------------------------------------------------------ what must be said with a table


def notes(rows: Rows) -> list[str]:
    """Lines that belong under a table of these rows: data and how it was tested, the runs, and,
    beginning with 'not comparable' or 'warning', what a reader must not overlook."""
    single = [row for row in rows if isinstance(row, ModelResult)]
    compared: list[tuple[str, Callable[[DomainResult], Any]]] = [
        ("tested on different data", lambda d: d.data.get("fingerprint")),
        ("evaluated by different rules", lambda d: d.rules),
    ]
    lines = []
    for domain in domain_names(rows):
        tested = [row for row in single if domain in row.domains]
        found = [row.domains[domain] for row in tested]
        for text, get in compared:
            if len({repr(get(d)) for d in found}) > 1:
                lines.append(f"not comparable on {domain}: {text}")
        if found:
            lines.append(f"{domain}: {describe_domain(found[0])}")
        lines += dict.fromkeys(f"{domain}: {note}" for d in found for note in d.notes)
        for row in tested:
            if problem := row.domains[domain].problem:
                lines.append(f"warning: no numbers of {row.name} on {domain}: {problem}")
    if len({tuple(sorted(row.targets)) for row in single if row.targets}) > 1:
        lines.append("not comparable in their means: over different sets of targets")
    lines += [f"{row.name}: {describe_training(row)}" for row in single]
    lines += dict.fromkeys(f"warning: {text}" for row in single for text in row.warnings)
    return lines


def describe_domain(domain: DomainResult | Mapping[str, Any]) -> str:
    """One line on how a domain's numbers were made.

    Args:
        domain: a result, or what a RankingMetric kept.
    """
    if not isinstance(domain, DomainResult):
        domain = DomainResult.from_details({}, domain)
    data, rules = domain.data, domain.rules
    name = f"{data.get('name', '?')}"
    if data.get("protocol"):
        name += f" ({data['protocol']})"
    parts = [
        f"{name}: {domain.num_valid_queries:,} valid of {counted(domain.num_queries, 'query')}",
        counted(domain.num_gallery, "gallery image"),
    ]
    if rules.get("draws"):
        parts.append(f"mean of {rules['draws']} draws")
    parts.append(f"{rules.get('metric', '?')} distance")
    parts.append(f"AP rule '{rules.get('ap', '?')}'")
    if rules.get("inference"):
        parts.append(str(rules["inference"]))
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
    if row.sources:
        parts.append(f"trained on {', '.join(row.sources)}")
    if row.recipe:
        parts.append(f"recipe {row.recipe[:8]}")
    if row.weights:
        parts.append(f"weights {row.weights[:12]}")
    return ", ".join(parts) or "nothing known of its training"


# ------------------------------------------------------------------------------------- the tables


def result_cells(rows: Rows) -> tuple[list[str], list[list[str]], list[int]]:
    """Heads, a line of cells for each domain, row and refinement, and where a domain begins."""
    metrics = metric_names(rows)
    refined = any(refinement_names(row, name) for row in rows for name in domains_of(row))
    heads = ["domain", "model", *(["ranking"] if refined else []), *metrics]
    lines: list[list[str]] = []
    begins = []
    for name in domain_names(rows):
        begins.append(len(lines))
        for row in rows:
            if name not in domains_of(row):
                continue
            for step in (None, *refinement_names(row, name)):
                words = [header(name, row), row_name(row)]
                if refined:
                    words.append(step or "plain")
                numbers = [with_deviation(row, name, metric, step) for metric in metrics]
                lines.append([*words, *numbers])
    return heads, lines, begins


def result_table(rows: Rows, title: str) -> Group:
    """Domains by models: every metric, and what the numbers depend on below.

    For ``Console().print(..., soft_wrap=True)``.
    """
    heads, lines, begins = result_cells(rows)
    words = 3 if "ranking" in heads else 2
    table = text_table(heads, lines, words=words, sections=begins)
    return titled(f"{title} (percent)", table, notes(rows))


def transfer_cells(rows: Rows) -> tuple[list[str], list[list[str]]]:
    """In-domain numbers against those on targets; no lines where no row has a target."""
    heads = ["model"]
    for metric in MAIN_METRICS:
        heads += [f"source {metric}", f"mean of targets {metric}", f"gap {metric}"]
    lines = []
    for row in rows:
        if not any(mean_over_targets(row, metric) is not None for metric in MAIN_METRICS):
            continue
        cells = [row_name(row)]
        for metric in MAIN_METRICS:
            values = (get(row, metric) for get in (mean_over_sources, mean_over_targets, gap))
            cells += [shown(row, value) for value in values]
        lines.append(cells)
    return heads, lines


def transfer_table(rows: Rows) -> Group | None:
    """What a model is worth where it was not trained; None where no row has a target."""
    heads, lines = transfer_cells(rows)
    if not lines:
        return None
    return titled("from the source to the targets (percent)", text_table(heads, lines))


def pair_cells(
    pairs: Sequence[Mapping[str, Any]], metric: str = "mAP"
) -> tuple[list[str], list[list[str]]]:
    """Camera pairs as a matrix: heads, and a line for each query camera."""
    seen = {p[side] for p in pairs for side in ("query_camera", "gallery_camera")}
    cameras = sorted(seen, key=_natural)
    by_pair = {(p["query_camera"], p["gallery_camera"]): p for p in pairs}
    lines = [
        [a, *(percent(by_pair[a, b][metric]) if (a, b) in by_pair else "-" for b in cameras)]
        for a in cameras
    ]
    return ["from \\ to", *cameras], lines


def pairs_of(row: Row, domain: str) -> list[dict[str, Any]]:
    if isinstance(row, Aggregate):
        return row.camera_pairs.get(domain, [])
    return row.domains[domain].camera_pairs if domain in row.domains else []


def pair_table(row: Row, domain: str, metric: str = "mAP") -> Group:
    """From one camera to another: one model on one domain."""
    heads, lines = pair_cells(pairs_of(row, domain), metric)
    title = f"{row_name(row)} on {domain}: {metric} from a query's camera to a gallery's (percent)"
    return titled(title, text_table(heads, lines))


def verification_cells(rows: Rows) -> tuple[list[str], list[list[str]]]:
    """Are two images of one identity: a line for each domain and row; none where not measured."""
    first = next((v for r in rows for d in domains_of(r) if (v := _verification(r, d))), {})
    keys = [key for key in first if key.startswith("tar at ")]
    rates = [float(key.removeprefix("tar at ")) for key in keys]
    heads = ["domain", "model", *(f"TAR at FAR {100 * rate:g}%" for rate in rates)]
    heads += ["EER", "area under ROC", "threshold at FAR 1%"]
    lines = []
    for name in domain_names(rows):
        for row in rows:
            if values := _verification(row, name):
                numbers = [shown(row, values.get(key)) for key in (*keys, "eer", "auc")]
                lines.append([header(name, row), row_name(row), *numbers, _threshold(row, name)])
    return heads, lines


def verification_table(rows: Rows) -> Group | None:
    """None where verification was not measured."""
    heads, lines = verification_cells(rows)
    if not lines:
        return None
    title = "verification: are two images of one identity? (percent; thresholds: cosine similarity)"
    return titled(title, text_table(heads, lines, words=2), verification_notes(rows))


def verification_notes(rows: Rows) -> list[str]:
    lines = []
    for name in domain_names(rows):
        kept = known_domain(rows, name)
        if kept is not None and kept.verification:
            v = kept.verification
            lines.append(
                f"{name}: {counted(v['num_genuine'], 'pair')} of one identity, "
                f"{v['num_impostor']:,} of two; pairs of one identity and one camera are left out"
            )
    return lines


def _verification(row: Row, domain: str) -> Mapping[str, Value]:
    if isinstance(row, Aggregate):
        return row.verification.get(domain, {})
    return verification_numbers(row, domain)


def _threshold(row: Row, domain: str, rate: float = 0.01) -> str:
    if isinstance(row, Aggregate):
        return "-"  # every model has its own
    points = row.domains[domain].verification["points"]
    found = next((p["threshold"] for p in points if p["far"] == rate), None)
    return "-" if found is None else f"{found:.3f}"


def _natural(name: str) -> tuple[int, int, str]:
    """Numbers by their value, then names."""
    return (0, int(name), "") if name.isdigit() else (1, 0, name)
