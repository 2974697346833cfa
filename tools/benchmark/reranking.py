"""Time and memory of exact k-reciprocal re-ranking, its growth, and the dense public formulation.

All runs go from features to metrics: :func:`reid.evaluation.rerank` and
:func:`reid.evaluation.evaluate_distances`, variant strong-baseline, k1 20, k2 6, lambda 0.3.
Features are Gaussian clusters of unit length, an identity each, about 25 images an identity, a
share of them queries as in Market-1501; the noise is such that re-ranking has something to mend.

- ``growth``: sets of growing size, up to ``--largest``, as long as the time expected for the next
  one is below ``--limit``; drawn with ``--figure``.
- ``Market-1501`` and ``MSMT17``: sets of their size, 3,368 + 15,913 and 11,659 + 82,161.
- ``dense``: what the public codes do, beside ours at ``--dense`` items: N x N matrices of
  distances, encodings and rankings, and a Python loop over the items. Results must agree.

Every run is a fresh process. Its time covers everything but the making of the features; its memory
is the growth of the process's largest resident size beyond the interpreter, the libraries (warmed
up on a toy problem, kernels compiled) and the features. ``cpu`` are the seconds that all its
threads computed: on a machine with nothing else to do, about the number of threads times
``seconds``.

    python tools/benchmark/reranking.py --sizes growth market1501 msmt17 dense
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
QUERY_SHARE = 3368 / (3368 + 15913)
SETS = {"market1501": (3368, 15913), "msmt17": (11659, 82161)}
GROWTH = (5_000, 10_000, 20_000, 40_000, 70_000, 100_000, 140_000, 200_000)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sizes",
        nargs="+",
        choices=("growth", *SETS, "dense"),
        default=["growth", "market1501", "dense"],
        help="what to measure (default: %(default)s)",
    )
    parser.add_argument("--dim", type=_positive, default=512, help="length of a feature")
    parser.add_argument("--noise", type=float, default=2.5, help="of images around identities")
    parser.add_argument("--largest", type=_positive, default=40_000, help="items of the growth")
    parser.add_argument(
        "--limit", type=float, default=120.0, help="seconds that a run of the growth may take"
    )
    parser.add_argument("--dense", type=_positive, default=5_000, help="items of the dense run")
    parser.add_argument("--threads", type=_positive, help="default: as torch and BLAS choose")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--csv", type=Path, help="write the table here, too")
    parser.add_argument("--figure", type=Path, help="draw time and memory against size here (PNG)")
    parser.add_argument("--worker", choices=("ours", "dense"), help=argparse.SUPPRESS)
    parser.add_argument("--items", type=int, nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def make_case(queries: int, gallery: int, dim: int, noise: float, seed: int) -> tuple[Any, ...]:
    """Features of unit length and identities, of queries and gallery."""
    import numpy as np

    rng = np.random.default_rng(seed)
    count = queries + gallery
    centers = rng.standard_normal((max(2, count // 25), dim), dtype=np.float32)
    ids = rng.integers(0, len(centers), count)
    features = rng.standard_normal((count, dim), dtype=np.float32)
    features *= np.float32(noise)
    for start in range(0, count, 4096):
        part = slice(start, start + 4096)
        features[part] += centers[ids[part]]
        features[part] /= np.linalg.norm(features[part], axis=1, keepdims=True)
    return features[:queries], features[queries:], ids[:queries], ids[queries:]


def dense_rerank(query: Any, gallery: Any) -> Any:
    """The common formulation: everything that is N x N is held, in float32, item by item."""
    import numpy as np

    k1, k2, lambda_value = 20, 6, 0.3
    features = np.concatenate([query, gallery])
    count, queries = len(features), len(query)
    squares = np.square(features).sum(1)
    original = squares[:, None] + squares - 2 * (features @ features.T)
    original = (original / original.max(0)).T
    ranking = np.argsort(original, axis=1).astype(np.int32)
    encodings = np.zeros_like(original)

    def reciprocal(item: int, k: int) -> Any:
        forward = ranking[item, : k + 1]
        return forward[(ranking[forward, : k + 1] == item).any(1)]

    for item in range(count):
        near = reciprocal(item, k1)
        members = [near]
        for candidate in near:
            half = reciprocal(candidate, round(k1 / 2))
            if len(np.intersect1d(half, near)) > 2 / 3 * len(half):
                members.append(half)
        chosen = np.unique(np.concatenate(members))
        weights = np.exp(-original[item, chosen])
        encodings[item, chosen] = weights / weights.sum()
    expanded = np.zeros_like(encodings)
    for item in range(count):
        expanded[item] = encodings[ranking[item, :k2]].mean(0)
    having = [np.flatnonzero(expanded[:, column]) for column in range(count)]
    jaccard = np.zeros((queries, count), np.float32)
    for item in range(queries):
        shared = np.zeros(count, np.float32)
        for column in np.flatnonzero(expanded[item]):
            others = having[column]
            shared[others] += np.minimum(expanded[item, column], expanded[others, column])
        jaccard[item] = 1 - shared / (2 - shared)
    final = (1 - lambda_value) * jaccard + lambda_value * original[:queries]
    return final[:, queries:]


def run_once(method: str, case: tuple[Any, ...]) -> dict[str, float]:
    from reid.evaluation import evaluate_distances, rerank

    query, gallery, *ids = case
    if method == "dense":
        distances = dense_rerank(query, gallery)
    else:
        distances = rerank(query, gallery, variant="strong-baseline")
    result = evaluate_distances(distances, *ids)
    return {"mAP": result.mAP, "rank-1": result.cmc[1]}


def work(args: argparse.Namespace) -> None:
    """In a fresh process: one run, warmed up, measured, reported as a line of JSON."""
    import time

    import numpy as np
    import torch

    from reid.evaluation import evaluate_ranking

    if args.threads:
        torch.set_num_threads(args.threads)
    run_once(args.worker, make_case(64, 256, args.dim, args.noise, args.seed))
    case = make_case(*args.items, args.dim, args.noise, args.seed)
    before = peak_memory()
    start, cpu = time.perf_counter(), time.process_time()
    metrics = run_once(args.worker, case)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = peak_memory() - before
    report = {
        **metrics,
        "mAP before": evaluate_ranking(*case).mAP,
        "seconds": seconds,
        "cpu": cpu,
        "peak": peak,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
    sys.stdout.write(json.dumps(report) + "\n")


def peak_memory() -> int:
    """Largest resident size of this process so far, in bytes."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def measure(method: str, items: tuple[int, int], args: argparse.Namespace) -> dict[str, Any]:
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
    command = [sys.executable, str(Path(__file__).resolve()), "--worker", method]
    command += ["--items", *map(str, items), "--dim", str(args.dim), "--noise", str(args.noise)]
    command += ["--seed", str(args.seed)]
    if args.threads:
        command += ["--threads", str(args.threads)]
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            environment[name] = str(args.threads)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{method} at {sum(items)} failed ({done.returncode}):\n{done.stderr}")
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


def sized(count: int) -> tuple[int, int]:
    queries = round(QUERY_SHARE * count)
    return queries, count - queries


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    if args.worker:
        work(args)
        return 0

    from rich.console import Console

    console = Console()
    rows: list[dict[str, Any]] = []

    def record(what: str, method: str, items: tuple[int, int]) -> dict[str, Any]:
        with console.status(f"{what}: {method}, {items[0]} + {items[1]} ..."):
            report = measure(method, items, args)
        rows.append({"what": what, "method": method, "items": items, **report})
        text = as_text(rows[-1])
        console.print(
            f"{what}, {method}, {items[0]} + {items[1]}: {text['seconds']} s "
            f"({text['cpu']} of processor time), {text['peak MB']} MB"
        )
        if args.csv:
            write_csv(
                args.csv, rows, args
            )  # after each run: an interrupted one has shown something
        if args.figure:
            draw(args.figure, rows)
        return report

    agree = True
    if "dense" in args.sizes:
        theirs = record("dense", "dense", sized(args.dense))
        ours = record("dense", "ours", sized(args.dense))
        agree = abs(theirs["mAP"] - ours["mAP"]) < 1e-4  # float32 ranks near-ties otherwise
    for name in SETS:
        if name in args.sizes:
            record(name, "ours", SETS[name])
    if "growth" in args.sizes:
        before: dict[str, Any] | None = None
        for count in [size for size in GROWTH if size <= args.largest]:
            # a little less than quadratic
            expected = before["seconds"] * (count / before["count"]) ** 2 if before else 0.0
            if expected > args.limit:
                console.print(
                    f"{count:,} items would take about {expected:.0f} s: left out (--limit)"
                )
                break
            before = {**record("growth", "ours", sized(count)), "count": count}

    console.print(as_table(rows, args))
    if "dense" in args.sizes:
        dense, ours = rows[0], rows[1]
        console.print(
            f"at {args.dense:,} items: dense / ours = {dense['seconds'] / ours['seconds']:.1f} in "
            f"time, {dense['peak'] / ours['peak']:.1f} in memory; results "
            f"{'agree' if agree else 'DISAGREE'}"
        )
    for path in filter(None, (args.csv, args.figure)):
        console.print(f"written: {path}")
    return 0 if agree else 1


def as_text(row: dict[str, Any]) -> dict[str, str]:
    queries, gallery = row["items"]
    return {
        "what": row["what"],
        "method": row["method"],
        "queries": str(queries),
        "gallery": str(gallery),
        "seconds": f"{row['seconds']:.2f}",
        "cpu": f"{row['cpu']:.2f}",
        "peak MB": f"{row['peak'] / 1e6:.0f}",
        "mAP": f"{100 * row['mAP']:.2f}",
        "rank-1": f"{100 * row['rank-1']:.2f}",
        "mAP before": f"{100 * row['mAP before']:.2f}",
    }


def as_table(rows: list[dict[str, Any]], args: argparse.Namespace) -> Any:
    from rich.table import Table

    last = rows[-1]
    table = Table(
        title=f"re-ranking and evaluation, {args.dim} dimensions; metrics in %",
        caption=f"{last['threads']} threads, torch {last['torch']}, numpy {last['numpy']}, "
        f"Python {sys.version.split()[0]}; a run each; the features are not in the peak",
    )
    for name in as_text(last):
        table.add_column(name, justify="left" if name in ("what", "method") else "right")
    for row in rows:
        table.add_row(*as_text(row).values())
    return table


def write_csv(path: Path, rows: list[dict[str, Any]], args: argparse.Namespace) -> None:
    """The table and what it was measured with."""
    import csv
    import io

    from engine.atomic import write_file

    texts = [as_text(row) for row in rows]
    setting = {
        **{name: getattr(args, name) for name in ("dim", "noise", "seed")},
        **{name: rows[-1][name] for name in ("threads", "torch", "numpy")},
        "python": sys.version.split()[0],
    }
    text = io.StringIO()
    writer = csv.DictWriter(text, [*texts[0], *setting], lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, **setting} for row in texts)
    write_file(path, text.getvalue().encode())


def draw(path: Path, rows: list[dict[str, Any]]) -> None:
    """Seconds and memory against the number of items, both axes logarithmic."""
    import io

    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    from engine.atomic import write_file

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    panels = (
        (axes[0], "seconds", 1.0, 2, "seconds"),
        (axes[1], "peak", 1e9, 1, "largest memory, GB"),
    )
    for panel, key, unit, power, label in panels:
        for method, marker, name in (("ours", "o", "this toolkit"), ("dense", "s", "dense")):
            beside = [row for row in rows if row["what"] == "dense"]  # ours there: a repetition
            drawn = [row for row in rows if row["method"] == method]
            drawn = [row for row in drawn if row not in beside or method == "dense"] or drawn
            points = sorted((sum(row["items"]), row[key] / unit) for row in drawn)
            if points:
                panel.plot(*zip(*points, strict=True), marker=marker, label=name)
            if points and method == "ours":
                (first, value), (last, _) = points[0], points[-1]
                guide = [value, value * (last / first) ** power]
                shape = "quadratic" if power == 2 else "linear"
                panel.plot([first, last], guide, color="0.7", linestyle="--", label=shape)
        panel.set(xscale="log", yscale="log", xlabel="query and gallery items", ylabel=label)
        panel.grid(alpha=0.3)
        panel.legend(frameon=False)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=120)
    pyplot.close(figure)
    write_file(path, image.getvalue())


if __name__ == "__main__":
    sys.exit(main())
