#!/usr/bin/env python
"""Training throughput: the whole loop against the bare step, and against a plain torch loop.

    python tools/benchmark/reid_training.py                          # on a drawn city
    python tools/benchmark/reid_training.py --data data/market1501 --csv results.csv
    python tools/benchmark/reid_training.py --models resnet50 --batch 4x4 --iterations 8

Training: the loop decodes, augments, steps and runs the hooks; the bare step is forward, backward
and optimiser on one batch of random pixels, with the same model, in the same process, right after
each turn of the loop. What the loop takes more is what data and hooks cost, in time and in
processor time (of all threads and loading processes), which other load on the machine disturbs
less. The plain torch loop is what one writes by hand: torchvision's ResNet with last stride 1
(which has batch norms only), a linear classifier, cross-entropy + batch-hard triplet, DataLoader
with torchvision transforms, Adam; same images, batch, size, workers, precision and memory format.

Data: microseconds of processor time an image, in one process, of reading, transforms, collating and
augmentation of batches.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from engine.cli import run_tool

MODELS = {
    "resnet18": ("configs/reid/resnet18_ibn_a_small_market1501.py", (128, 64)),
    "resnet50": ("configs/reid/resnet50_ibn_a_bot_market1501.py", (256, 128)),
}
# The dataset's cache, and whether batches are augmented on the device.
SIDES: dict[str, tuple[str | None, bool]] = {
    "reidseg": (None, False),
    "reidseg, cache bytes": ("bytes", False),
    "reidseg, cache resized": ("resized", False),
    "reidseg, cache resized, batches augmented": ("resized", True),
}
PLAIN = "plain torch, batch norms"
COLUMNS = (
    *("part", "case", "side", "s_per_iteration", "images_per_s", "against_bare_step"),
    *("cpu_against_bare_step", "against_plain_torch", "peak_mb"),
    *("read_us", "transforms_us", "collate_us", "batches_us", "total_us"),
)
Row = dict[str, str]


class Case(NamedTuple):
    """What is trained."""

    model: str
    size: tuple[int, int]
    identities: int
    instances: int

    @property
    def batch(self) -> int:
        return self.identities * self.instances

    def __str__(self) -> str:
        name = self.model.replace("resnet", "ResNet-") + "-IBN-a"
        shape = "x".join(map(str, self.size))
        return f"{name} {shape}, {self.identities} x {self.instances}"


class Pace(NamedTuple):
    """Of an iteration: seconds, and seconds of processor time."""

    seconds: float
    cpu: float


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", metavar="PATH", help="a Market1501 tree; by default one is drawn")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--size", type=pair, metavar="HxW", help="of images, for all models")
    parser.add_argument("--batch", type=pair, default=(16, 4), metavar="PxK", help="default 16x4")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES)[::2])
    parser.add_argument("--iterations", type=int, default=30, help="per turn (default 30)")
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--warmup", type=int, default=6, help="first iterations not counted")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--count", type=int, default=512, help="images of the data part")
    parser.add_argument("--skip-training", action="store_true")
    parser.add_argument("--skip-data", action="store_true")
    parser.add_argument("--csv", metavar="FILE", help="put the rows there, in place of older ones")
    args = parser.parse_args()
    if args.turns < 1 or not 0 <= args.warmup < args.iterations:
        raise ValueError(
            "--turns: expected 1 or more, and --iterations more than --warmup, got "
            f"{args.turns}, {args.iterations} and {args.warmup}"
        )
    return args


def pair(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"expected two numbers such as 16x4, got {text!r}")
    return int(match[1]), int(match[2])


def main() -> None:
    args = parse_arguments()

    import torch

    from engine.manifest import device_name
    from engine.precision import choose_dtype

    if args.data is None:
        from reid.synthetic import make_city

        args.data = tempfile.mkdtemp(prefix="city_") + "/noon"
        make_city(args.data)
    rows: list[Row] = []
    for model in args.models:
        case = Case(model, args.size or MODELS[model][1], *args.batch)
        if not args.skip_data:
            rows += data_rows(case, args)
        if not args.skip_training:
            rows += training_rows(case, args)
    dtype = choose_dtype("auto")
    where = f"{device_name()}, torch {torch.__version__}, {torch.get_num_threads()} threads"
    show(rows, f"{dtype}, channels last; {where}, {args.workers} workers")
    if args.csv:
        write(rows, Path(args.csv))


# ------------------------------------------------------------------------------ training


def training_rows(case: Case, args: argparse.Namespace) -> list[Row]:
    from tqdm import tqdm

    loops: dict[str, list[Pace]] = {side: [] for side in (*args.sides, PLAIN)}
    bare: dict[str, list[Pace]] = {side: [] for side in args.sides}
    peak: dict[str, float] = {}
    with tqdm(total=args.turns * len(loops), unit="turn") as bar:
        for _ in range(args.turns):
            for side in loops:
                bar.set_description(f"{case}: {side}")
                reset_peak()
                if side == PLAIN:
                    loops[side].append(plain(case, args))
                else:
                    loop, step = ours(case, side, args)
                    loops[side].append(loop)
                    bare[side].append(step)
                peak[side] = max(peak.get(side, 0), peak_megabytes())
                bar.update()
    median = {side: statistics.median(p.seconds for p in paces) for side, paces in loops.items()}
    every_step = [pace.seconds for side in bare.values() for pace in side]
    rows = [row(case, "bare step", statistics.median(every_step))]
    for side, seconds in median.items():
        more = {
            "against_plain_torch": f"{seconds / median[PLAIN]:.3f}",
            "peak_mb": f"{peak[side]:.0f}",
        }
        if side in bare:  # each turn with its own step: the machine's pace drifts
            turns = list(zip(loops[side], bare[side], strict=True))
            for key, field in (("against_bare_step", 0), ("cpu_against_bare_step", 1)):
                ratio = statistics.median(loop[field] / step[field] for loop, step in turns)
                more[key] = f"{ratio:.3f}"
        rows.append(row(case, side, seconds, **more))
    return rows


def row(case: Case, side: str, seconds: float, **more: str) -> Row:
    speed = {"s_per_iteration": f"{seconds:.4f}", "images_per_s": f"{case.batch / seconds:.4g}"}
    return {"part": "training", "case": str(case), "side": side, **speed, **more}


def ours(case: Case, side: str, args: argparse.Namespace) -> tuple[Pace, Pace]:
    """An iteration of the Runner's loop, and the bare step."""
    from engine.cli import build_runner

    config = training_config(case, side, args)
    if config.train_dataloader.dataset.get("cache") is not None:  # the state after an epoch
        config.train_dataloader.dataset.cache = dict(kind=SIDES[side][0], upfront=True)
    with tempfile.TemporaryDirectory() as folder:
        runner = build_runner(config, work_dir=folder)
        clock = Clock(args.warmup)
        runner.train_loop.run_iter = clock.wrap(runner.train_loop.run_iter)
        before = workers_seconds()
        runner.train()
        loop = clock.pace()
        # the loading processes have ended, and their time is known
        loading = (workers_seconds() - before) / args.iterations
        return Pace(loop.seconds, loop.cpu + loading), bare_step(runner, case, args)


def workers_seconds() -> float:
    """Processor time of all child processes that have ended."""
    times = os.times()
    return times.children_user + times.children_system


def training_config(case: Case, side: str, args: argparse.Namespace) -> Any:
    from engine.cli import load_config
    from reid.data_options import count_identities, parse_data, use_training_data

    config = load_config(MODELS[case.model][0])
    name, dataset = parse_data(f"market1501:{args.data}")
    use_training_data(config, dataset, name)
    loader = config.train_dataloader
    loader.batch_size = case.batch
    loader.num_workers = args.workers
    loader.persistent_workers = False
    sampler = dict(type="reid.PKSampler", identities=case.identities, instances=case.instances)
    loader.sampler = {**sampler, "iterations": args.iterations}
    count_identities(config)
    cache, on_device = SIDES[side]
    transforms = sized(loader.dataset.transforms, case.size)
    if on_device:
        transforms, augmentations = transforms[:1], transforms[1:]
        config.model.data_preprocessor = dict(
            type="imaging.AugmentingNormalizer", augmentations=augmentations
        )
    loader.dataset.transforms = transforms
    if cache is not None:
        loader.dataset.cache = cache
    config.train_cfg.max_epochs = 1
    for key in ("val_dataloader", "val_cfg", "val_evaluator", "visualizer"):
        config[key] = None
    config.log_level = "ERROR"
    return config


def sized(transforms: Any, size: tuple[int, int]) -> list[dict[str, Any]]:
    """The transforms of a config for images of another size."""
    new = dict(zip(("height", "width"), size, strict=True))
    return [{**step, **new} if "height" in step else dict(step) for step in transforms]


def bare_step(runner: Any, case: Case, args: argparse.Namespace) -> Pace:
    """Forward, backward and optimiser on random pixels that are there."""
    import torch

    from engine.normalizer import ImageNormalizer

    model, (height, width) = runner.model, case.size
    device = next(model.parameters()).device
    # without the augmentation of batches, if that is the side
    model.data_preprocessor = ImageNormalizer().to(device)
    pixels = torch.randint(0, 256, (case.batch, height, width, 3), dtype=torch.uint8)
    labels = torch.arange(case.identities).repeat_interleave(case.instances)
    batch = {"inputs": pixels.permute(0, 3, 1, 2), "label": labels, "camid": 0 * labels}
    clock = Clock(min(2, args.iterations - 2))
    step = clock.wrap(model.train_step)
    model.train()
    for _ in range(args.iterations - args.warmup + 2):
        step(batch, optim_wrapper=runner.optim_wrapper)
    return clock.pace()


class Clock:
    """Time from the end of one iteration to the end of the next: loading, step and hooks."""

    def __init__(self, warmup: int) -> None:
        self.warmup = warmup
        self.marks: list[Pace] = []

    def wrap(self, function: Callable[..., Any]) -> Callable[..., None]:
        def timed(*arguments: Any, **options: Any) -> None:
            function(*arguments, **options)
            self.mark()

        return timed

    def mark(self) -> None:
        import torch

        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.marks.append(Pace(time.perf_counter(), time.process_time()))

    def pace(self) -> Pace:
        """The mean, for a batch that comes late is part of it."""
        first = min(max(self.warmup - 1, 0), len(self.marks) - 2)
        start, end, count = self.marks[first], self.marks[-1], len(self.marks) - 1 - first
        return Pace((end.seconds - start.seconds) / count, (end.cpu - start.cpu) / count)


def plain(case: Case, args: argparse.Namespace) -> Pace:
    """An iteration of a loop without this project."""
    import torch
    import torchvision
    from torch import nn
    from torch.nn import functional as F

    from engine.precision import autocast, choose_dtype

    dtype = choose_dtype("auto")
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    net = getattr(torchvision.models, case.model)()
    last = net.layer4[0]
    for layer in (last.conv1, last.conv2, last.downsample[0]):
        layer.stride = (1, 1)
    dim, net.fc = net.fc.in_features, nn.Identity()
    images = PlainImages(args.data, case.size)
    model = nn.ModuleDict(
        {
            "net": net,
            "neck": nn.BatchNorm1d(dim),
            "fc": nn.Linear(dim, len(images.groups), bias=False),
        }
    ).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(model.parameters(), 3.5e-4, weight_decay=5e-4)
    loader: Any = torch.utils.data.DataLoader(
        images,  # type: ignore[arg-type]
        batch_sampler=list(images.batches(case, args.iterations)),
        num_workers=args.workers,
    )
    clock = Clock(args.warmup)
    model.train()
    for pixels, labels in loader:
        pixels = pixels.to(device, memory_format=torch.channels_last)
        labels = labels.to(device)
        with autocast(dtype, device):
            feature = model["net"](pixels)
            logits = model["fc"](model["neck"](feature))
        distances = torch.cdist(feature.float(), feature.float())
        same = labels[:, None] == labels[None]
        hardest = (distances * same).amax(1) - distances.masked_fill(same, torch.inf).amin(1)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=0.1)
        loss = loss + (hardest + 0.3).clamp(min=0).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        clock.mark()
    return clock.pace()


class PlainImages:
    """A data set of (file, label) pairs, as one writes it with torchvision."""

    def __init__(self, data: str, size: tuple[int, int]) -> None:
        import torch
        from torchvision.transforms import v2

        files = sorted(Path(data, "bounding_box_train").glob("*.jpg"))
        pids = sorted({f.name.partition("_")[0] for f in files} - {"-1"})
        self.groups = [[str(f) for f in files if f.name.startswith(f"{pid}_")] for pid in pids]
        self.transform = v2.Compose(
            [
                v2.Resize(size),
                v2.RandomHorizontalFlip(),
                v2.Pad(10 * size[0] // 256),
                v2.RandomCrop(size),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
                v2.RandomErasing(0.5, (0.02, 0.4)),
            ]
        )

    def batches(self, case: Case, count: int) -> Iterator[list[tuple[str, int]]]:
        import numpy as np

        rng = np.random.default_rng(0)
        for _ in range(count):
            chosen = rng.choice(len(self.groups), case.identities, replace=False)
            yield [
                (str(file), int(label))
                for label in chosen
                for file in rng.choice(self.groups[label], case.instances)
            ]

    def __getitem__(self, item: tuple[str, int]) -> Any:
        from torchvision.io import decode_image

        return self.transform(decode_image(item[0], "RGB")), item[1]  # type: ignore[arg-type]

    def __len__(self) -> int:
        return sum(map(len, self.groups))


def reset_peak() -> None:
    """Begin to measure memory anew, where the system can."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    elif Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")  # VmHWM


def peak_megabytes() -> float:
    """Of the accelerator; without one, of this process, the loading processes left out."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status")
    if status.exists():
        match = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        return int(match[1]) / 1024 if match else float("nan")
    return float("nan")


# ------------------------------------------------------------------------------ data


def data_rows(case: Case, args: argparse.Namespace) -> list[Row]:
    """Microseconds of processor time an image, by part; medians over turns."""
    import torch
    from torch.utils.data import default_collate

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a loading process has one
    parts: dict[str, list[dict[str, float]]] = {}
    sides = {side: prepared(case, side, args) for side in SIDES}
    images = PlainImages(args.data, case.size)
    files = [(file, label) for label, group in enumerate(images.groups) for file in group]
    files = (files * -(-args.count // len(files)))[: args.count]
    for dataset, augment in sides.values():  # once uncounted: caches fill
        measured(dataset, augment, keys_of(dataset, args.count), case.batch)
    for _ in range(max(3, args.turns)):
        for side, (dataset, augment) in sides.items():
            keys = keys_of(dataset, args.count)
            parts.setdefault(side, []).append(measured(dataset, augment, keys, case.batch))
        start = time.process_time()
        for at in range(0, args.count, case.batch):
            default_collate([images[item] for item in files[at : at + case.batch]])
        total = time.process_time() - start
        parts.setdefault(PLAIN.partition(",")[0], []).append({"total": total})
    torch.set_num_threads(threads)
    rows = []
    for side, turns in parts.items():
        columns = {
            f"{part}_us": f"{1e6 * statistics.median(t[part] for t in turns) / args.count:.1f}"
            for part in turns[0]
        }
        rows.append({"part": "data", "case": str(case), "side": side, **columns})
    return rows


def keys_of(dataset: Any, count: int) -> list[tuple[int, int]]:
    """Positions and seeds."""
    return [(i % len(dataset), 7919 * i) for i in range(count)]


def prepared(case: Case, side: str, args: argparse.Namespace) -> tuple[Any, Any]:
    """The data set of a side, and its augmentation of batches, if any."""
    from reid.registry import DATASETS

    config = training_config(case, side, args)
    normalizer = config.model.get("data_preprocessor") or {}
    augmentations = normalizer.get("augmentations")
    if augmentations is None:
        return DATASETS.build(config.train_dataloader.dataset), None
    from imaging.batch_augmentation import BatchAugmentation

    return DATASETS.build(config.train_dataloader.dataset), BatchAugmentation(augmentations)


def measured(dataset: Any, augment: Any, keys: Any, size: int) -> dict[str, float]:
    """Seconds of processor time by part, and of all, for the images of ``keys`` in batches."""
    from reid.datasets.base import collate

    seconds = dict.fromkeys(("read", "transforms", "collate", "batches", "total"), 0.0)
    for at in range(0, len(keys), size):
        marks = [time.process_time()]
        chosen = keys[at : at + size]
        images = [dataset.read(position) for position, _ in chosen]
        marks.append(time.process_time())
        for image, (_, seed) in zip(images, chosen, strict=True):
            dataset.transforms(image, seed)
        marks.append(time.process_time())
        samples = [dataset[key] for key in chosen]  # the parts together, as a loader has them
        marks.append(time.process_time())
        batch = collate(samples)
        marks.append(time.process_time())
        if augment is not None:
            augment(batch["inputs"], batch["seed"])
        marks.append(time.process_time())
        read, transforms, both, collating, batches = (b - a for a, b in pairwise(marks))
        batches = batches if augment is not None else 0.0
        whole = (read, transforms, collating, batches, both + collating + batches)
        for part, value in zip(seconds, whole, strict=True):
            seconds[part] += value
    return seconds


# ------------------------------------------------------------------------------ tables


def show(rows: list[Row], title: str) -> None:
    from rich.console import Console
    from rich.table import Table

    for part in ("data", "training"):
        chosen = [row for row in rows if row["part"] == part]
        columns = [c for c in COLUMNS[1:] if any(c in row for row in chosen)]
        table = Table(title=f"{part}; {title}", title_justify="left")
        for column in columns:
            table.add_column(column, justify="left" if column in ("case", "side") else "right")
        for one in chosen:
            table.add_row(*(one.get(column, "") for column in columns))
        if chosen:
            Console().print(table)


def write(rows: list[Row], path: Path) -> None:
    """Put the rows into the file; rows of other cases and parts that it has stay."""
    old: list[Row] = []
    if path.exists():
        with path.open(newline="") as file:
            old = [r for r in csv.DictReader(file) if r.keys() == set(COLUMNS)]
    new = {(r["part"], r["case"]) for r in rows}
    kept = [r for r in old if (r["part"], r["case"]) not in new]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(sorted([*kept, *rows], key=lambda r: (r["part"], r["case"])))


if __name__ == "__main__":
    run_tool(main)
