"""Time and memory of exact re-ID evaluation, against the method of the common toolkits.

All start from the same features and report cosine-distance CMC, mAP and mINP of the step rule:

- ``Python loop``: the whole distance matrix, an argsort of every row, then a Python loop over the
  queries that filters one ranking at a time and walks down it for the precision at every rank.
  What most public codes do.
- ``NumPy loop``: the same with the walk written as array operations, the best that is left of it.
- ``reid.evaluation``: :func:`reid.evaluation.evaluate_ranking`.

Every run is a fresh process. Its time covers everything from features to metrics; its memory is
the growth of the process's largest resident size during the evaluation, that is, beyond the
interpreter, the libraries (warmed up on a toy problem) and the features; on a GPU, what torch
allocated there. Results must agree.

    python tools/benchmark/reid_evaluation.py --queries 3368 --gallery 15913 --dim 512
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

METHODS = {"python": "Python loop", "numpy": "NumPy loop", "ours": "reid.evaluation"}
ROOT = Path(__file__).resolve().parents[2]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--queries", type=_positive, default=3368, help="default: Market-1501's")
    parser.add_argument("--gallery", type=_positive, default=15913, help="default: Market-1501's")
    parser.add_argument("--dim", type=_positive, default=512, help="length of a feature")
    parser.add_argument("--identities", type=_positive, default=750)
    parser.add_argument("--cameras", type=_positive, default=6)
    parser.add_argument(
        "--distractors", type=float, default=0.175, help="share of the gallery with pid 0 (0..1)"
    )
    parser.add_argument(
        "--noise", type=float, default=2.0, help="spread within identities over that between"
    )
    parser.add_argument(
        "--repeats", type=_positive, default=3, help="runs of ours; the best counts"
    )
    parser.add_argument("--threads", type=_positive, help="default: as torch and BLAS choose")
    parser.add_argument("--device", default="cpu", help="for ours: cpu, cuda, cuda:1, ...")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--methods", nargs="+", choices=METHODS, default=list(METHODS), help="default: all"
    )
    parser.add_argument("--csv", type=Path, help="write the table here, too")
    parser.add_argument("--worker", choices=METHODS, help=argparse.SUPPRESS)
    parser.add_argument("--case", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if not 0 <= args.distractors < 1:
        parser.error(f"--distractors must be at least 0 and below 1, got {args.distractors}")
    return args


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def make_case(args: argparse.Namespace) -> tuple[Any, ...]:
    """Features, ids and cameras of query and gallery.

    Gaussian clusters, one an identity, and distractors of the same overall spread.
    """
    import numpy as np

    rng = np.random.default_rng(args.seed)
    centers = rng.standard_normal((args.identities + 1, args.dim), dtype=np.float32)
    query_ids = rng.integers(1, args.identities + 1, args.queries)
    gallery_ids = rng.integers(1, args.identities + 1, args.gallery)
    gallery_ids[rng.random(args.gallery) < args.distractors] = 0

    query = rng.standard_normal((args.queries, args.dim), dtype=np.float32)
    query *= args.noise
    query += centers[query_ids]
    gallery = rng.standard_normal((args.gallery, args.dim), dtype=np.float32)
    alone = gallery_ids == 0
    gallery[~alone] *= args.noise
    gallery[~alone] += centers[gallery_ids[~alone]]
    gallery[alone] *= (1 + args.noise**2) ** 0.5
    cameras = [rng.integers(1, args.cameras + 1, n) for n in (args.queries, args.gallery)]
    return query, gallery, query_ids, gallery_ids, *cameras


def per_query_loop(
    walk: Callable[[Any], Any],
    query: Any,
    gallery: Any,
    query_ids: Any,
    gallery_ids: Any,
    query_cameras: Any,
    gallery_cameras: Any,
) -> dict[str, float]:
    """The common method: sort everything, then score query by query."""
    import numpy as np

    query = query / np.linalg.norm(query, axis=1, keepdims=True)
    gallery = gallery / np.linalg.norm(gallery, axis=1, keepdims=True)
    distances = 1 - query @ gallery.T
    order = np.argsort(distances, axis=1)
    matches = gallery_ids[order] == query_ids[:, None]  # (Q, G)
    precisions, penalties, first_ranks = [], [], []
    for row in range(len(query)):
        ignored = matches[row] & (gallery_cameras[order[row]] == query_cameras[row])
        hits = matches[row][~ignored].astype(np.int64)
        if not hits.any():
            continue
        positions = np.flatnonzero(hits)
        precisions.append((walk(hits.cumsum()) * hits).sum() / hits.sum())
        penalties.append(hits.sum() / (positions[-1] + 1))
        first_ranks.append(positions[0] + 1)
    first = np.array(first_ranks)
    return {
        "mAP": float(np.mean(precisions)),
        "mINP": float(np.mean(penalties)),
        **{f"rank-{k}": float((first <= k).mean()) for k in (1, 5, 10)},
    }


def python_walk(found: Any) -> Any:
    """Precision at every rank, from the number of matches found up to it."""
    import numpy as np

    return np.asarray([count / (position + 1.0) for position, count in enumerate(found)])


def numpy_walk(found: Any) -> Any:
    import numpy as np

    return found / np.arange(1, len(found) + 1)


def ours(device: str, query: Any, gallery: Any, *labels: Any) -> dict[str, float]:
    import torch

    from reid.evaluation import evaluate_ranking

    features = (torch.from_numpy(x).to(device) for x in (query, gallery))
    result = evaluate_ranking(*features, *labels)
    return {
        "mAP": result.mAP,
        "mINP": result.mINP,
        **{f"rank-{k}": value for k, value in result.cmc.items()},
    }


def work(args: argparse.Namespace) -> None:
    """In a fresh process: one method, warmed up, measured, reported as a line of JSON."""
    import time

    import numpy as np
    import torch

    if args.threads:
        torch.set_num_threads(args.threads)

    def run(*case: Any) -> dict[str, float]:
        if args.worker == "ours":
            return ours(args.device, *case)
        return per_query_loop(python_walk if args.worker == "python" else numpy_walk, *case)

    toy = argparse.Namespace(**{**vars(args), "queries": 64, "gallery": 256, "identities": 8})
    run(*make_case(toy))
    case = [np.load(args.case / f"{index}.npy") for index in range(6)]
    before = peak_memory()  # making the case here would have raised it
    seconds = []
    for _ in range(args.repeats if args.worker == "ours" else 1):
        start = time.perf_counter()
        metrics = run(*case)
        seconds.append(time.perf_counter() - start)
    report = {
        "metrics": metrics,
        "seconds": min(seconds),
        "peak": peak_memory() - before,
        "features": case[0].nbytes + case[1].nbytes,
        "threads": torch.get_num_threads(),
        "device": args.device if args.worker == "ours" else "cpu",
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
    if str(report["device"]).startswith("cuda"):
        report["device"] = f"{args.device} ({torch.cuda.get_device_name(args.device)})"
        report["peak"] = torch.cuda.max_memory_allocated(args.device)
    sys.stdout.write(json.dumps(report) + "\n")


def peak_memory() -> int:
    """Largest resident size of this process so far, in bytes."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def measure(method: str, argv: list[str], case: str, threads: int | None) -> dict[str, Any]:
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
    if threads:
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            environment[name] = str(threads)
    done = subprocess.run(
        [sys.executable, str(Path(__file__).resolve()), *argv, "--worker", method, "--case", case],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{METHODS[method]} failed ({done.returncode}):\n{done.stderr}")
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


def largest_difference(a: dict[str, float], b: dict[str, float]) -> float:
    return max(abs(a[name] - b[name]) for name in a)


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    args = parse_args(argv)
    if args.worker:
        work(args)
        return 0

    import tempfile

    import numpy as np
    from rich.console import Console

    console = Console()
    reports = {}
    with tempfile.TemporaryDirectory() as folder:
        for index, array in enumerate(make_case(args)):
            np.save(Path(folder) / f"{index}.npy", array)
        for method in [name for name in METHODS if name in args.methods]:
            with console.status(f"{METHODS[method]} ..."):
                reports[method] = measure(method, argv, folder, args.threads)
    last = reports[list(reports)[-1]]  # ours, unless it was left out
    rows = [
        {
            "method": METHODS[method],
            "seconds": f"{report['seconds']:.3f}",
            "ratio": f"{report['seconds'] / last['seconds']:.1f}",
            "peak MB": f"{report['peak'] / 1e6:.0f}",
            **{name: f"{100 * value:.3f}" for name, value in report["metrics"].items()},
            "device": report["device"],
        }
        for method, report in reports.items()
    ]
    console.print(as_table(rows, args, last))
    difference = max(
        abs(report["metrics"][name] - value)
        for report in reports.values()
        for name, value in last["metrics"].items()
    )
    agree = difference < 1e-4  # float32 distances of the loops reorder near-ties
    console.print(f"results {'agree' if agree else 'DISAGREE'}: they differ by {difference:.1e}")
    if args.csv:
        write_csv(args.csv, rows, args, last)
        console.print(f"written: {args.csv}")
    return 0 if agree else 1


def as_table(rows: list[dict[str, str]], args: argparse.Namespace, report: dict[str, Any]) -> Any:
    from rich.table import Table

    table = Table(
        title=f"{args.queries} x {args.gallery} x {args.dim}; step AP, cosine; metrics in %",
        caption=f"device {report['device']}, {report['threads']} threads, "
        f"torch {report['torch']}, numpy {report['numpy']}, Python {sys.version.split()[0]}; "
        f"reid.evaluation: best of {args.repeats}, the loops once; "
        f"features ({report['features'] / 1e6:.0f} MB) not in the peak",
    )
    shown = [name for name in rows[0] if name not in ("rank-5", "rank-10", "device")]
    for name in shown:
        table.add_column(name, justify="left" if name == "method" else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(row[name] for name in shown))
    return table


def write_csv(
    path: Path, rows: list[dict[str, str]], args: argparse.Namespace, report: dict[str, Any]
) -> None:
    """The table and what it was measured with, through a temporary file."""
    import csv

    setting = {
        **{name: getattr(args, name) for name in ("queries", "gallery", "dim", "noise", "seed")},
        **{name: report[name] for name in ("threads", "torch", "numpy")},
        "python": sys.version.split()[0],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, [*rows[0], *setting])
            writer.writeheader()
            writer.writerows({**row, **setting} for row in rows)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
