"""Galleries side by side: filling, opening, asking, memory and disk; ours, numpy, FAISS, Milvus.

Vectors are clusters of unit length, an identity each, of 25 images on average; queries are more
images of the same identities. A record has an identity and one of six cameras; ``filtered`` leaves
out the query's camera. Inner product, 10 hits.

- ``float32``, ``float16``: our gallery, exact; ``ivf``, ``hnsw``: ours with an approximate index,
  built and tuned after the filling (``index s``), with the recall that it measured.
- ``numpy``: the product of a float32 matrix in memory with the queries, and argpartition.
- ``faiss-flat``, ``faiss-fp16``: IndexFlatIP and a scalar quantizer of 16 bits, exact.
- ``milvus-lite``: our gallery in a file of Milvus (slow: ask for it with ``--methods``).

Each is filled in a process of its own, and only galleries are on disk. Then one process has all of
them and asks them in turn, query by query and batch by batch, so that what else the machine does
falls on all alike. ``add`` includes records and, where
there is a disk, their safe arrival; ``best``, ``p50`` and ``p99`` are of queries asked one by one
(a busy machine changes the best one least), ``batch`` is the time of a query among ``--batch``
asked at once. ``own MB`` is memory that the process has to itself, beyond the interpreter, the
libraries and the queries; ``mapped MB`` are file pages in memory, which the system takes back when
it needs them. Ratios are to numpy.

    python tools/benchmark/gallery.py --rows 100000 --csv docs/results/gallery.csv
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
METHODS = ("numpy", "float32", "float16", "faiss-flat", "faiss-fp16", "ivf", "hnsw", "milvus-lite")
HITS, IMAGES, CAMERAS, BLOCK = 10, 25, 6, 10_000
PAUSE = 0.2  # seconds: the threads of whoever was asked before spin for a while, BLAS longest
INDEX = {"ivf": "IVF{lists},Flat", "hnsw": "HNSW32,SQfp16"}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", nargs="+", type=_positive, default=[100_000])
    parser.add_argument("--dim", type=_positive, default=512, help="length of a feature")
    parser.add_argument(
        "--methods",
        nargs="+",
        choices=METHODS,
        default=[method for method in METHODS if method != "milvus-lite"],
        help="what to measure (default: all but milvus-lite)",
    )
    parser.add_argument("--single", type=_positive, default=100, help="queries asked one by one")
    parser.add_argument("--batch", type=_positive, default=1000, help="queries asked at once")
    parser.add_argument(
        "--turns", type=_positive, default=3, help="batches, of which the best counts"
    )
    parser.add_argument("--noise", type=float, default=1.2, help="of images around identities")
    parser.add_argument("--recall", type=float, default=0.99, help="asked of approximate indexes")
    parser.add_argument("--threads", type=_positive, help="default: as torch and BLAS choose")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where galleries are made (default: temporary)")
    parser.add_argument("--csv", type=Path, help="write the table here; other rows of it stay")
    parser.add_argument("--worker", choices=(*METHODS, "ask"), help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


# ------------------------------------------------------------------------------------ the material


class Material:
    """Vectors and records in blocks, and queries with their cameras: the same in every process."""

    def __init__(self, rows: int, args: argparse.Namespace) -> None:
        import numpy as np

        self.rows, self.dim, self.noise, self.seed = rows, args.dim, args.noise, args.seed
        rng = np.random.default_rng([args.seed, 0])
        shape = (max(2, rows // IMAGES), args.dim)
        self.centers = rng.standard_normal(shape, dtype=np.float32)
        self.queries, self.cameras = self._draw(rng, max(args.batch, args.single))[::2]

    def _draw(self, rng: Any, count: int) -> tuple[Any, Any, Any]:
        import numpy as np

        identities = rng.integers(0, len(self.centers), count)
        vectors = rng.standard_normal((count, self.dim), dtype=np.float32)
        vectors *= np.float32(self.noise)
        vectors += self.centers[identities]
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors, identities, rng.integers(0, CAMERAS, count)

    def blocks(self) -> Any:
        """(vectors, identities, cameras), a block at a time."""
        import numpy as np

        for start in range(0, self.rows, BLOCK):
            rng = np.random.default_rng([self.seed, 1, start])
            yield self._draw(rng, min(BLOCK, self.rows - start))


# ----------------------------------------------------------------------------- those that are asked


class Ours:
    """The public gallery, in a folder or in a file of Milvus."""

    def __init__(self, method: str, folder: Path, args: argparse.Namespace) -> None:
        self.method, self.args = method, args
        self.path = str(folder / "gallery")
        if method == "milvus-lite":
            self.path = f"milvus-lite:{folder / 'gallery.db'}/people"

    def fill(self, material: Material) -> float:
        import time

        from reid.gallery import Gallery

        index = INDEX.get(self.method, "Flat")
        lists = 1 << max(4, round((material.rows**0.5) * 4).bit_length() - 1)
        self.gallery = Gallery.create(
            self.path,
            material.dim,
            index.format(lists=lists),
            dtype="float16" if self.method == "float16" else "float32",
        )
        spent = 0.0
        for vectors, identities, cameras in material.blocks():
            records = [
                {"pid": pid, "camera": camera}
                for pid, camera in zip(identities.tolist(), cameras.tolist(), strict=True)
            ]
            start = time.perf_counter()
            self.gallery.add(vectors, records)
            spent += time.perf_counter() - start
        return spent

    def finish(self) -> dict[str, Any]:
        """Build the index if there is one, and open what was written."""
        import time

        report: dict[str, Any] = {}
        if self.method in INDEX:
            start = time.perf_counter()
            built = self.gallery.build_index(recall=self.args.recall, k=HITS)
            report = {"index": time.perf_counter() - start, "recall": built.recall}
            report["setting"] = ", ".join(f"{k} {v}" for k, v in built.setting.items())
        self.gallery.close()
        start = time.perf_counter()
        self.open(None)
        return {**report, "open": time.perf_counter() - start}

    def open(self, material: Material | None) -> None:
        from reid.gallery import Gallery

        self.gallery = Gallery.open(self.path)

    def ask(self, queries: Any, cameras: Any | None) -> Any:
        options = {} if cameras is None else {"exclude_cameras": cameras}
        return self.gallery.search(queries, HITS, **options)

    def rows_of(self, answer: Any) -> list[list[int]]:
        return [[hit.id for hit in hits] for hits in answer]


class InMemory:
    """A matrix, or a FAISS index, and the cameras beside it."""

    def __init__(self, method: str, folder: Path, args: argparse.Namespace) -> None:
        self.method = method

    def fill(self, material: Material) -> float:
        import time

        import numpy as np

        self.cameras = np.empty(material.rows, np.int64)
        if self.method == "numpy":
            self.matrix = np.empty((material.rows, material.dim), np.float32)
        else:
            from reid.gallery import import_faiss

            self.faiss = import_faiss()
            code = "Flat" if self.method == "faiss-flat" else "SQfp16"
            self.index = self.faiss.index_factory(
                material.dim, code, self.faiss.METRIC_INNER_PRODUCT
            )
        spent, place = 0.0, 0
        for vectors, _, cameras in material.blocks():
            start = time.perf_counter()
            self.cameras[place : place + len(vectors)] = cameras
            if self.method == "numpy":
                self.matrix[place : place + len(vectors)] = vectors
            else:
                if not self.index.is_trained:
                    self.index.train(vectors)
                self.index.add(vectors)
            place += len(vectors)
            spent += time.perf_counter() - start
        return spent

    def finish(self) -> dict[str, Any]:
        return {}

    def open(self, material: Material) -> None:
        self.fill(material)

    def ask(self, queries: Any, cameras: Any | None) -> Any:
        import numpy as np

        if cameras is None:
            return self._search(queries, None)
        rows = np.empty((len(queries), HITS), np.int64)
        for camera in np.unique(cameras):
            here = cameras == camera
            rows[here] = self._search(queries[here], self.cameras != camera)
        return rows

    def _search(self, queries: Any, keep: Any | None) -> Any:
        import numpy as np

        if self.method != "numpy":
            options = {}
            if keep is not None:
                bits = np.packbits(keep, bitorder="little")
                options["params"] = self.faiss.SearchParameters(
                    sel=self.faiss.IDSelectorBitmap(bits)
                )
            return self.index.search(queries, HITS, **options)[1]
        step = max(1, (64 << 20) // len(self.matrix))  # of scores: 256 MB
        found = []
        for start in range(0, len(queries), step):
            scores = queries[start : start + step] @ self.matrix.T
            if keep is not None:
                scores[:, ~keep] = -np.inf
            best = np.argpartition(scores, -HITS, axis=1)[:, -HITS:]
            order = np.argsort(-np.take_along_axis(scores, best, 1), axis=1)
            found.append(np.take_along_axis(best, order, 1))
        return np.concatenate(found)

    def rows_of(self, answer: Any) -> list[list[int]]:
        rows: list[list[int]] = answer.tolist()
        return rows


# ------------------------------------------------------------------------------------- measurement


def make(method: str, folder: Path, args: argparse.Namespace) -> Any:
    kind = InMemory if method in ("numpy", "faiss-flat", "faiss-fp16") else Ours
    (folder / method).mkdir(exist_ok=True)
    return kind(method, folder / method, args)


def fill(method: str, args: argparse.Namespace) -> dict[str, Any]:
    """In a fresh process: fill one of them, and see what it takes."""
    material = Material(args.rows[0], args)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:  # libraries read, kernels compiled
        toy = make(method, Path(folder), args)
        toy.fill(Material(2000, args))
        toy.ask(material.queries[:50], material.cameras[:50])
    side = make(method, args.folder, args)
    before = memory()
    report: dict[str, Any] = {"rows": material.rows, "method": method}
    report["add"] = material.rows / side.fill(material)
    report.update(side.finish())
    side.ask(material.queries[: args.batch], None)
    side.ask(material.queries[: args.batch], material.cameras[: args.batch])
    after = memory()
    report["own"] = after["RssAnon"] - before["RssAnon"]
    report["mapped"] = after["RssFile"] - before["RssFile"]
    files = (args.folder / method).rglob("*")
    report["disk"] = sum(path.stat().st_size for path in files if path.is_file())
    return report


def ask(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """In a fresh process: all of them, asked in turn. Times in ms, by method."""
    import time

    import numpy as np

    material = Material(args.rows[0], args)
    queries, cameras = material.queries, material.cameras
    sides = {method: make(method, args.folder, args) for method in args.methods}
    times: dict[str, dict[str, list[float]]] = {}
    answers: dict[str, Any] = {}
    for method, side in sides.items():
        side.open(material)
        times[method] = {name: [] for name in ("single", "filtered", "batch", "filtered batch")}
    for number in range(-1, args.single):  # the first one is not counted
        part = slice(max(0, number), max(0, number) + 1)
        for method, side in sides.items():
            for name, given in (("single", None), ("filtered", cameras[part])):
                time.sleep(PAUSE)
                start = time.perf_counter()
                side.ask(queries[part], given)
                times[method][name] += [1000 * (time.perf_counter() - start)] * (number >= 0)
    for _ in range(args.turns):
        for name, given in (("batch", None), ("filtered batch", cameras[: args.batch])):
            for method, side in sides.items():
                time.sleep(PAUSE)
                start = time.perf_counter()
                answer = side.ask(queries[: args.batch], given)
                spent = 1000 * (time.perf_counter() - start)
                times[method][name].append(spent / args.batch)
                answers.setdefault(method, side.rows_of(answer))
    return {
        method: {
            "best": min(found["single"]),
            **{f"p{p}": float(np.percentile(found["single"], p)) for p in (50, 99)},
            "filtered p50": float(np.median(found["filtered"])),
            "batch": min(found["batch"]),
            "filtered batch": min(found["filtered batch"]),
            "answer": answers[method],
        }
        for method, found in times.items()
    }


def work(args: argparse.Namespace) -> None:
    import numpy as np
    import torch

    if args.threads:
        torch.set_num_threads(args.threads)
    report: dict[str, Any] = ask(args) if args.worker == "ask" else fill(args.worker, args)
    setting = {"threads": torch.get_num_threads(), "torch": torch.__version__}
    report["setting of all"] = {**setting, "numpy": np.__version__}
    sys.stdout.write(json.dumps(report) + "\n")


def memory() -> dict[str, int]:
    """Bytes of this process in memory by kind, as Linux tells them."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = dict(line.split(":", 1) for line in lines)
    return {name: 1024 * int(found[name].split()[0]) for name in ("RssAnon", "RssFile")}


def run(worker: str, rows: int, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
    command = [sys.executable, str(Path(__file__).resolve()), "--worker", worker]
    command += ["--rows", str(rows), "--folder", str(folder), "--methods", *args.methods]
    for name in ("dim", "single", "batch", "turns", "noise", "recall", "seed", "threads"):
        if getattr(args, name) is not None:
            command += [f"--{name}", str(getattr(args, name))]
    if args.threads:
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            environment[name] = str(args.threads)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{worker} of {rows} failed ({done.returncode}):\n{done.stderr}")
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    if args.worker:
        work(args)
        return 0

    from rich.console import Console

    console = Console()
    agree = True
    for rows in args.rows:
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            reports = []
            for method in args.methods:
                with console.status(f"{rows:,} rows: filling {method} ..."):
                    reports.append(run(method, rows, Path(folder), args))
            with console.status(f"{rows:,} rows: asking ..."):
                asked = run("ask", rows, Path(folder), args)
        reports = [{**report, **asked[report["method"]]} for report in reports]
        compare(reports)
        if args.csv:
            write_csv(args.csv, reports, args)
        console.print(as_table(reports, args))
        agree = agree and all(r["agrees"] > 0.999 for r in reports if "recall" not in r)
    if not agree:
        console.print("exact methods DISAGREE")
    if args.csv:
        console.print(f"written: {args.csv}")
    return 0 if agree else 1


def compare(reports: list[dict[str, Any]]) -> None:
    """Hits shared with the first method, and times against numpy's, or the first one's."""
    first = next((r for r in reports if r["method"] == "numpy"), reports[0])
    for report in reports:
        pairs = list(zip(report["answer"], first["answer"], strict=True))
        shared = sum(len(set(one) & set(other)) for one, other in pairs)
        report["agrees"] = shared / sum(len(other) for _, other in pairs)
        report["best ratio"] = report["best"] / first["best"]
        report["single ratio"] = report["p50"] / first["p50"]
        report["batch ratio"] = report["batch"] / first["batch"]


def as_text(report: dict[str, Any]) -> dict[str, str]:
    def number(name: str, digits: int, factor: float = 1.0) -> str:
        return f"{factor * report[name]:.{digits}f}" if name in report else ""

    return {
        "rows": str(report["rows"]),
        "method": report["method"],
        "add rows/s": number("add", 0),
        "index s": number("index", 1),
        "open ms": number("open", 1, 1000),
        "best ms": number("best", 2),
        "p50 ms": number("p50", 2),
        "p99 ms": number("p99", 2),
        "filtered p50 ms": number("filtered p50", 2),
        "batch ms": number("batch", 3),
        "filtered batch ms": number("filtered batch", 3),
        "best/numpy": number("best ratio", 2),
        "single/numpy": number("single ratio", 2),
        "batch/numpy": number("batch ratio", 2),
        "recall %": number("recall", 2, 100),
        "same hits %": number("agrees", 2, 100),
        "own MB": number("own", 0, 1e-6),
        "mapped MB": number("mapped", 0, 1e-6),
        "disk MB": number("disk", 0, 1e-6),
        "setting": report.get("setting", ""),
    }


def as_table(reports: list[dict[str, Any]], args: argparse.Namespace) -> Any:
    from rich.table import Table

    last = reports[-1]["setting of all"]
    table = Table(
        title=f"galleries of {reports[-1]['rows']:,} x {args.dim}, {HITS} hits, {args.batch} "
        "queries a batch; times per query",
        caption=f"{last['threads']} threads, torch {last['torch']}, numpy {last['numpy']}, "
        f"Python {sys.version.split()[0]}; asked in turn",
    )
    table.add_column("", justify="left")
    texts = [as_text(report) for report in reports]
    for text in texts:
        table.add_column(text["method"], justify="right")
    for name in texts[0]:
        if name not in ("rows", "method") and any(text[name] for text in texts):
            table.add_row(name, *(text[name].replace(", ", "\n") for text in texts))
    return table


def write_csv(path: Path, reports: list[dict[str, Any]], args: argparse.Namespace) -> None:
    """The table and what it was measured with; rows of other sizes and methods stay."""
    import csv
    import io

    from engine.atomic import write_file

    setting = {
        **{
            name: getattr(args, name)
            for name in ("dim", "single", "batch", "turns", "noise", "seed")
        },
        **{name: reports[-1]["setting of all"][name] for name in ("threads", "torch", "numpy")},
        "python": sys.version.split()[0],
    }
    texts = [{**as_text(report), **setting} for report in reports]
    fresh = {(text["rows"], text["method"]) for text in texts}
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            old = [row for row in csv.DictReader(file) if (row["rows"], row["method"]) not in fresh]
        texts = sorted([*old, *texts], key=lambda row: int(row["rows"]))
    text = io.StringIO()
    writer = csv.DictWriter(text, list(texts[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(texts)
    write_file(path, text.getvalue().encode())


if __name__ == "__main__":
    sys.exit(main())
