"""Time and memory of exact re-ID evaluation, against its matrix product and the common method.

All start from the same features and report cosine-distance CMC, mAP and mINP of the step rule:

- ``product``: the float32 matrix product of the same sizes in blocks (the best block size of
  several), and nothing else: what any method has to compute. It is also measured in turns with
  every other method, in the same process.
- ``Python loop``: the whole distance matrix, an argsort of every row, then a Python loop over the
  queries that filters one ranking at a time and walks down it for the precision at every rank.
  What most public codes do.
- ``NumPy loop``: the same with the walk written as array operations, the best that is left of it.
- ``reid.evaluation``: :func:`reid.evaluation.evaluate_ranking`; and without compiled kernels.
- ``camera pairs``, ``verification``: :func:`reid.evaluation.camera_pairs` and ``verify``.

Every run is a fresh process. Its time covers everything from features to metrics. ``peak MB`` is
the largest resident size of the process, libraries and features included; ``growth MB`` what the
evaluation added to it; on a GPU, what torch allocated there. Results must agree.

Features are Gaussian clusters with a share for every camera; ``--noise`` is the spread within an
identity, ``inf`` features that say nothing. A size of MSMT17 takes a minute or two; the loops are
left out there, they need 20 GB and more than 20 minutes.

    python tools/benchmark/reid_evaluation.py --size msmt17 --noise 1.5 3 inf
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

METHODS = {
    "product": "product",
    "python": "Python loop",
    "numpy": "NumPy loop",
    "torch": "not compiled",
    "cameras": "camera pairs",
    "verification": "verification",
    "ours": "reid.evaluation",
}
LOOPS = ("python", "numpy")

BLOCKS = ((512, 1024), (1024, 2048), (2048, 1024))
SIZES = {
    "market1501": {
        **{"queries": 3368, "gallery": 15913, "identities": 750, "cameras": 6},
        "distractors": 0.175,
    },
    "msmt17": {
        **{"queries": 11659, "gallery": 82161, "identities": 3060, "cameras": 15},
        "distractors": 0.0,
    },
}
ROOT = Path(__file__).resolve().parents[2]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--size", choices=SIZES, default="market1501", help="whose numbers; default: market1501"
    )
    for name, of in (
        ("queries", "queries"),
        ("gallery", "gallery items"),
        ("identities", "identities"),
        ("cameras", "cameras"),
    ):
        parser.add_argument(f"--{name}", type=_positive, help=f"{of}; default: the size's")
    parser.add_argument("--distractors", type=float, help="share of the gallery with pid 0 (0..1)")
    parser.add_argument("--dim", type=_positive, default=512, help="length of a feature")
    parser.add_argument(
        "--noise",
        type=float,
        nargs="+",
        default=[1.5],
        help="spread within identities over that between; each is measured",
    )
    parser.add_argument(
        "--repeats", type=_positive, default=3, help="runs of all but the loops; the best counts"
    )
    parser.add_argument("--threads", type=_positive, help="default: as torch and BLAS choose")
    parser.add_argument("--device", default="cpu", help="for ours: cpu, cuda, cuda:1, ...")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--methods", nargs="+", choices=METHODS, help="default: all that can run in minutes"
    )
    parser.add_argument("--csv", type=Path, help="write the table here, too")
    parser.add_argument("--worker", choices=METHODS, help=argparse.SUPPRESS)
    parser.add_argument("--case", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    for name, value in SIZES[args.size].items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    if args.methods is None:
        large = args.queries * args.gallery > 1 << 28
        args.methods = [name for name in METHODS if not (large and name in (*LOOPS, "torch"))]
    if not 0 <= args.distractors < 1:
        parser.error(f"--distractors must be at least 0 and below 1, got {args.distractors}")
    return args


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def make_case(args: argparse.Namespace, noise: float) -> tuple[Any, ...]:
    """Features, ids and cameras of query and gallery.

    Gaussian clusters, one an identity, and distractors of the same overall spread; every image has
    its own noise, some far more than others, and its camera's share.
    """
    import numpy as np

    rng = np.random.default_rng(args.seed)
    single = np.float32
    centers = rng.standard_normal((args.identities + 1, args.dim), dtype=single)
    views = 0.3 * min(noise, 1e3) * rng.standard_normal((args.cameras + 1, args.dim), dtype=single)
    query_ids = rng.integers(1, args.identities + 1, args.queries)
    gallery_ids = rng.integers(1, args.identities + 1, args.gallery)
    gallery_ids[rng.random(args.gallery) < args.distractors] = 0
    cameras = [rng.integers(1, args.cameras + 1, n) for n in (args.queries, args.gallery)]

    features = []
    for ids, seen_by in zip((query_ids, gallery_ids), cameras, strict=True):
        x = rng.standard_normal((len(ids), args.dim), dtype=single)
        if noise < float("inf"):
            x *= noise * np.exp(0.35 * rng.standard_normal((len(ids), 1), dtype=single))
            known = ids != 0
            x[known] += centers[ids[known]]
            x[~known] += rng.standard_normal((int((~known).sum()), args.dim), dtype=single)
            x += views[seen_by]
        features.append(x)
    return *features, query_ids, gallery_ids, *cameras


def product(device: str, query: Any, gallery: Any, block: tuple[int, int]) -> None:
    """Every block of the product, into the same place."""
    import torch

    query, gallery = (torch.from_numpy(x).to(device) for x in (query, gallery))
    rows, columns = block
    space = torch.empty(rows * columns, device=device)
    for column in range(0, len(gallery), columns):
        there = gallery[column : column + columns]
        for row in range(0, len(query), rows):
            here = query[row : row + rows]
            out = space[: len(here) * len(there)].view(len(here), len(there))
            torch.mm(here, there.T, out=out)
    if out.is_cuda:
        torch.cuda.synchronize()


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
    on_device = args.worker not in LOOPS
    run = run_of(args)

    toy = argparse.Namespace(
        **{**vars(args), "queries": 64, "gallery": 256, "identities": 8, "cameras": 2}
    )
    run(*make_case(toy, 1.0))
    case = [np.load(args.case / f"{index}.npy") for index in range(6)]
    before = peak_memory()  # making the case here would have raised it
    seconds, bare, peak = [], [], 0
    for _ in range(args.repeats if on_device else 1):
        start = time.perf_counter()
        metrics = run(*case)
        seconds.append(time.perf_counter() - start)
        peak = peak or peak_memory()  # of the method alone
        for block in BLOCKS if on_device else ():  # in turns, so that both meet the same machine
            start = time.perf_counter()
            product(args.device, *case[:2], block)
            bare.append(time.perf_counter() - start)
    if args.worker == "product":
        seconds = bare
    report = {
        "metrics": metrics,
        "seconds": min(seconds),
        "product": min(bare, default=None),
        "peak": peak,
        "growth": peak - before,
        "features": case[0].nbytes + case[1].nbytes,
        "threads": torch.get_num_threads(),
        "device": args.device if on_device else "cpu",
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
    if str(report["device"]).startswith("cuda"):
        report["device"] = f"{args.device} ({torch.cuda.get_device_name(args.device)})"
        report["growth"] = torch.cuda.max_memory_allocated(args.device)
    sys.stdout.write(json.dumps(report) + "\n")


def run_of(args: argparse.Namespace) -> Callable[..., Any]:
    """The method as a function of a case; it returns metrics, if the method has any."""
    if args.worker == "product":
        return lambda query, gallery, *labels: product(args.device, query, gallery, BLOCKS[0])
    if args.worker in LOOPS:
        return partial(per_query_loop, python_walk if args.worker == "python" else numpy_walk)
    if args.worker == "torch":
        from reid.evaluation import distances, ranking

        for module in (distances, ranking):
            module.cpu_kernels = lambda: None
    if args.worker in ("ours", "torch"):
        return partial(ours, args.device)

    import torch

    from reid.evaluation import camera_pairs, verify

    function: Any = camera_pairs if args.worker == "cameras" else verify

    def run(query: Any, gallery: Any, *labels: Any) -> None:
        function(*(torch.from_numpy(x).to(args.device) for x in (query, gallery)), *labels)

    return run


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
    rows, agree = [], True
    for noise in args.noise:
        reports = {}
        with tempfile.TemporaryDirectory() as folder:
            for index, array in enumerate(make_case(args, noise)):
                np.save(Path(folder) / f"{index}.npy", array)
            for method in [name for name in METHODS if name in args.methods]:
                with console.status(f"{METHODS[method]} ..."):
                    reports[method] = measure(method, argv, folder, args.threads)
        last = reports[list(reports)[-1]]  # ours, unless it was left out
        rows += rows_of(reports, noise)
        difference = largest_difference(list(reports.values()))
        alike = difference < 1e-4  # float32 distances of the loops reorder near-ties
        agree &= alike
        console.print(
            f"noise {noise:g}: results {'agree' if alike else 'DISAGREE'}: "
            f"they differ by {difference:.1e}"
        )
    console.print(as_table(rows, args, last))
    if args.csv:
        write_csv(args.csv, rows, args, last)
        console.print(f"written: {args.csv}")
    return 0 if agree else 1


def rows_of(reports: dict[str, dict[str, Any]], noise: float) -> list[dict[str, str]]:
    """A row of text for each method.

    ``of product`` is its time over that of the product, measured in turns in the same process; for
    the loops, in a process of its own.
    """
    names = ("mAP", "mINP", "rank-1", "rank-5", "rank-10")
    alone = reports.get("product", {}).get("seconds", float("nan"))
    return [
        {
            "noise": f"{noise:g}",
            "method": METHODS[method],
            "seconds": f"{report['seconds']:.3f}",
            "of product": f"{report['seconds'] / (report['product'] or alone):.2f}",
            "peak MB": f"{report['peak'] / 1e6:.0f}",
            "growth MB": f"{report['growth'] / 1e6:.0f}",
            **{
                name: f"{100 * report['metrics'][name]:.3f}" if report["metrics"] else ""
                for name in names
            },
            "device": report["device"],
        }
        for method, report in reports.items()
    ]


def largest_difference(reports: list[dict[str, Any]]) -> float:
    """Between the metrics of any two methods that have them."""
    metrics = [report["metrics"] for report in reports if report["metrics"]]
    if not metrics:
        return 0.0
    return max(max(m[name] for m in metrics) - min(m[name] for m in metrics) for name in metrics[0])


def as_table(rows: list[dict[str, str]], args: argparse.Namespace, report: dict[str, Any]) -> Any:
    from rich.table import Table

    table = Table(
        title=f"{args.queries} x {args.gallery} x {args.dim}; step AP, cosine; metrics in %",
        caption=f"device {report['device']}, {report['threads']} threads, "
        f"torch {report['torch']}, numpy {report['numpy']}, Python {sys.version.split()[0]}; "
        f"best of {args.repeats}, the loops once; features {report['features'] / 1e6:.0f} MB",
    )
    hidden = ("growth MB", "rank-5", "rank-10", "device")
    shown = [name for name in rows[0] if name not in hidden]
    for name in shown:
        table.add_column(name, justify="left" if name == "method" else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(row[name] for name in shown))
    return table


def write_csv(
    path: Path, rows: list[dict[str, str]], args: argparse.Namespace, report: dict[str, Any]
) -> None:
    """The table and what it was measured with, through a temporary file.

    Rows of other sizes that the file has already are kept.
    """
    import csv

    setting = {
        **{name: getattr(args, name) for name in ("queries", "gallery", "dim", "seed")},
        **{name: report[name] for name in ("threads", "torch", "numpy")},
        "python": sys.version.split()[0],
    }
    lines = [{**row, **setting} for row in rows]
    if path.exists():
        with path.open(newline="") as file:
            reader = csv.DictReader(file)
            same = reader.fieldnames == list(lines[0])
            others = [line for line in reader if same and _size(line) != _size(lines[0])]
        lines = sorted(others + lines, key=lambda line: int(line["queries"]))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(lines[0]))
            writer.writeheader()
            writer.writerows(lines)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _size(line: dict[str, Any]) -> tuple[int, ...]:
    return tuple(int(line[name]) for name in ("queries", "gallery", "dim"))


if __name__ == "__main__":
    sys.exit(main())
