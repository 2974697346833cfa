#!/usr/bin/env python
"""Images per second of a whole extraction against the network alone, in the same run.

    python tools/benchmark/feature_extraction.py                     # on drawn images
    python tools/benchmark/feature_extraction.py --data data/market1501/bounding_box_test
    python tools/benchmark/feature_extraction.py \\
        --csv docs/results/reid_extraction_float32_torch2.14.1_amd-epyc-2-cores.csv

The bare forward gets random images that are normalised and on the device already, batch after
batch. The extraction is all that tools/extract_features.py does: start of the reading processes,
JPEG files, resize, normalisation, network, feature files on disk. Both take turns, and the median
turn of each is compared.

On a CPU the reading takes its time from the network's own cores. CPU seconds are those of all
processes together: they mean more where others use the machine. Memory is the peak of this process
during a turn, and of the largest reading process.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.cli import run_tool

if TYPE_CHECKING:
    from reid.inference import FeatureExtractor

ROOT = Path(__file__).resolve().parents[2]
NETWORKS = {
    "resnet18": ("ResNet-18-IBN-a, 128x64", "resnet18_ibn_a_small_market1501", 512),
    "resnet50": ("ResNet-50-IBN-a, 256x128", "resnet50_ibn_a_bot_market1501", 64),
}
"""Name, config, and images of a turn on a CPU; a GPU takes 64 times as many."""


class Turn(NamedTuple):
    seconds: float
    cpu: float
    memory: int


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", metavar="FOLDER", help="images, with all below; default: drawn")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--images", type=int, help="of a turn, for each network")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument(
        "--workers", type=int, nargs="+", help="reading processes; default: 0 and as many as help"
    )
    parser.add_argument("--dtype", default="float32", help="float32, bfloat16, float16, auto")
    parser.add_argument("--device", help="cpu, cuda, ...; by default CUDA where there is one")
    parser.add_argument("--threads", type=int, help="of the network on a CPU; default: torch's")
    parser.add_argument("--csv", metavar="FILE", help="write the table there, too")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()

    import torch
    from rich.console import Console
    from rich.table import Table
    from tqdm import tqdm

    from engine.manifest import device_name
    from reid.extraction import extract_features
    from reid.image_loading import default_workers
    from reid.image_sources import list_items
    from reid.inference import FeatureExtractor
    from reid.synthetic import make_city

    if args.threads:
        torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory(prefix="extraction_") as folder:
        if args.data is None:
            args.data = f"{folder}/noon"
            make_city(args.data, identities=40)
        files = list_items([args.data])
        rows = []
        for network, config, count in (NETWORKS[name] for name in args.networks):
            extractor = FeatureExtractor(
                ROOT / f"configs/reid/{config}.py",
                device=args.device,
                batch_size=args.batch_size,
                dtype=args.dtype,
            )
            kind = extractor.device.type
            count = args.images or (count if kind == "cpu" else 64 * count)
            items = list(itertools.islice(itertools.cycle(files), count))
            choices = args.workers or sorted({0, default_workers(kind)})
            turns: dict[str, list[Turn]] = {"bare forward": []}
            works: dict[str, Callable[[], Any]] = {
                "bare forward": lambda e=extractor, n=count: forward(e, n)  # type: ignore[misc]
            }
            for workers in choices:
                name = f"extraction, {workers} workers"
                turns[name] = []
                works[name] = lambda e=extractor, i=items, w=workers: extract_features(  # type: ignore[misc]
                    e, i, tempfile.mkdtemp(dir=folder), workers=w
                )
            forward(extractor, 2 * args.batch_size)  # memory and kernels
            with tqdm(total=args.turns * len(works), unit="turn", desc=network) as bar:
                for _ in range(args.turns):
                    for name, work in works.items():
                        turns[name].append(measure(work, kind))
                        bar.update()
            rows += table_rows(network, count, turns)

    header = ("network", "work", "images/s", "of bare", "CPU s", "bare CPU of it", "peak MB")
    table = Table(
        title=f"{device_name()}, torch {torch.__version__}, {torch.get_num_threads()} threads, "
        f"{extractor.dtype}, batches of {args.batch_size}, median of {args.turns} turns",
        title_justify="left",
    )
    for column in header:
        table.add_column(column, justify="left" if column in header[:2] else "right")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    if args.csv:
        with Path(args.csv).open("w", newline="") as file:
            csv.writer(file).writerows([header, *rows])


def forward(extractor: FeatureExtractor, count: int) -> None:
    """``count`` random images through the network, as the extraction calls it."""
    import torch

    from engine.precision import autocast

    sample = extractor.transforms(numpy_image())
    batch = torch.randn(extractor.batch_size, *sample.shape, device=extractor.device)
    batch = batch.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode(), autocast(extractor.dtype, extractor.device.type):
        for start in range(0, count, extractor.batch_size):
            extractor.model(batch[: count - start], mode="predict")
    if extractor.device.type == "cuda":
        torch.cuda.synchronize()


def numpy_image() -> Any:
    import numpy as np

    return np.zeros((128, 64, 3), np.uint8)


def measure(work: Callable[[], Any], kind: str) -> Turn:
    """Seconds, CPU seconds of all processes, and peak bytes of memory (a GPU's on a GPU)."""
    import resource

    import torch

    def cpu() -> float:
        usages = (resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return sum(usage.ru_utime + usage.ru_stime for usage in usages)

    if kind == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    started, began = cpu(), time.perf_counter()
    work()
    seconds, used = time.perf_counter() - began, cpu() - started
    if kind == "cuda":
        return Turn(seconds, used, torch.cuda.max_memory_allocated())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        peak = int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024
    return Turn(seconds, used, peak)


def table_rows(network: str, count: int, turns: dict[str, list[Turn]]) -> list[tuple[str, ...]]:
    def median(name: str, field: str) -> float:
        return statistics.median(getattr(turn, field) for turn in turns[name])

    base, *_ = turns
    return [
        (
            f"{network}, {count:,} images",
            name,
            f"{count / median(name, 'seconds'):.1f}",
            f"{100 * median(base, 'seconds') / median(name, 'seconds'):.1f}%",
            f"{median(name, 'cpu'):.2f}",
            f"{100 * median(base, 'cpu') / median(name, 'cpu'):.1f}%",
            f"{median(name, 'memory') / 1e6:.0f}",
        )
        for name in turns
    ]


if __name__ == "__main__":
    run_tool(main)
