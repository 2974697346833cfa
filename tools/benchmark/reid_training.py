#!/usr/bin/env python
"""Seconds per training iteration: this toolkit against a plain torch loop, in the same run.

    python tools/benchmark/reid_training.py                          # on a drawn city
    python tools/benchmark/reid_training.py --data data/market1501

The plain loop is what one writes by hand: torchvision's ResNet-18 with last stride 1, a linear
classifier, cross-entropy + batch-hard triplet, DataLoader with torchvision transforms, Adam,
bfloat16 autocast and channels_last; same images, batch (16 x 4), size (128x64) and workers.
Both are run in turn, several times; the median iteration of each is compared.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from engine.cli import run_tool

CONFIGS = {
    "reidseg, BN": "configs/reid/resnet18_small_market1501.py",
    "reidseg, IBN-a": "configs/reid/resnet18_ibn_a_small_market1501.py",
    "reidseg, IBN-b": "configs/reid/resnet18_ibn_b_small_market1501.py",
}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", metavar="PATH", help="a Market1501 tree; by default one is drawn")
    parser.add_argument("--iterations", type=int, default=60, help="per turn (default 60)")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--csv", metavar="FILE", help="write the table there, too")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()

    import torch
    from rich.console import Console
    from rich.table import Table
    from tqdm import tqdm

    from engine.manifest import device_name
    from reid.synthetic import make_city

    if args.data is None:
        args.data = tempfile.mkdtemp(prefix="city_") + "/noon"
        make_city(args.data)
    times: dict[str, list[float]] = {"plain torch": [], **{name: [] for name in CONFIGS}}
    with tqdm(total=args.turns * len(times), unit="turn") as bar:
        for _ in range(args.turns):
            for name, seconds in times.items():
                bar.set_description(name)
                seconds += ours(CONFIGS[name], args) if name in CONFIGS else plain(args)
                bar.update()

    table = Table(
        title=f"ResNet-18, 128x64, 16 x 4, bf16 + channels_last; {device_name()}, "
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {args.workers} workers",
        title_justify="left",
    )
    rows = [("loop", "s / iteration (median)", "images / s", "time against plain torch")]
    base = statistics.median(times["plain torch"])
    for name, seconds in times.items():
        median = statistics.median(seconds)
        rows.append((name, f"{median:.3f}", f"{64 / median:.0f}", f"{median / base:.2f}x"))
    for column in rows[0]:
        table.add_column(column, justify="left" if column == "loop" else "right")
    for row in rows[1:]:
        table.add_row(*row)
    Console().print(table)
    if args.csv:
        with Path(args.csv).open("w", newline="") as file:
            csv.writer(file).writerows(rows)


def ours(config_file: str, args: argparse.Namespace) -> list[float]:
    """Seconds of each iteration (after the first ten) of a run through the Runner."""
    from engine.cli import build_runner, load_config
    from reid.data_options import count_identities, parse_data, use_training_data

    config = load_config(config_file)
    name, dataset = parse_data(f"market1501:{args.data}")
    use_training_data(config, dataset, name)
    config.train_dataloader.num_workers = args.workers
    config.train_dataloader.sampler.iterations = args.iterations
    config.train_cfg.max_epochs = 1
    for key in ("val_dataloader", "val_cfg", "val_evaluator", "visualizer"):
        config[key] = None
    config.log_level = "ERROR"
    count_identities(config)
    with tempfile.TemporaryDirectory() as folder:
        runner = build_runner(config, work_dir=folder)
        clock = Clock()
        runner.train_loop.run_iter = clock.wrap(runner.train_loop.run_iter)
        runner.train()
    return clock.seconds()


class Clock:
    """Time from the end of one iteration to the end of the next: loading, step and hooks."""

    def __init__(self) -> None:
        self.marks: list[float] = []

    def wrap(self, function: Any) -> Any:
        def timed(*arguments: Any) -> None:
            function(*arguments)
            self.mark()

        return timed

    def mark(self) -> None:
        self.marks.append(time.perf_counter())

    def seconds(self) -> list[float]:
        return [b - a for a, b in zip(self.marks[10:], self.marks[11:], strict=False)]


def plain(args: argparse.Namespace) -> list[float]:
    import numpy as np
    import torch
    from torch import nn
    from torch.nn import functional as F
    from torchvision.io import decode_image
    from torchvision.models import resnet18
    from torchvision.transforms import v2

    files = sorted(Path(args.data, "bounding_box_train").glob("*.jpg"))
    pids = sorted({f.name[:4] for f in files})
    groups = {pid: [f for f in files if f.name.startswith(pid)] for pid in pids}
    transform = v2.Compose(
        [
            v2.Resize((128, 64)),
            v2.RandomHorizontalFlip(),
            v2.Pad(5),
            v2.RandomCrop((128, 64)),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
            v2.RandomErasing(0.5, (0.02, 0.4)),
        ]
    )

    class Images(torch.utils.data.Dataset[Any]):
        def __getitem__(self, item: tuple[str, int]) -> Any:
            return transform(decode_image(item[0], "RGB")), item[1]

        def __len__(self) -> int:
            return len(files)

    rng = np.random.default_rng(0)
    batches = []
    for _ in range(args.iterations):
        chosen = rng.choice(len(pids), 16, replace=False)
        picked = [(rng.choice(groups[pids[c]], 4), c) for c in chosen]  # type: ignore[arg-type]
        batches.append([(str(f), int(c)) for group, c in picked for f in group])

    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    net = resnet18()
    net.layer4[0].conv1.stride = net.layer4[0].downsample[0].stride = (1, 1)
    net.fc = nn.Identity()  # type: ignore[assignment]
    model = nn.ModuleDict(
        {"net": net, "neck": nn.BatchNorm1d(512), "fc": nn.Linear(512, len(pids), bias=False)}
    ).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(model.parameters(), 3.5e-4, weight_decay=5e-4)
    loader = torch.utils.data.DataLoader(
        Images(),
        batch_sampler=batches,
        num_workers=args.workers,  # type: ignore[arg-type]
    )
    clock = Clock()
    model.train()
    for images, labels in loader:
        images = images.to(device, memory_format=torch.channels_last)
        labels = labels.to(device)
        with torch.autocast(device, torch.bfloat16):
            feature = model["net"](images)
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
    return clock.seconds()


if __name__ == "__main__":
    run_tool(main)
