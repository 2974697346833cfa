#!/usr/bin/env python
"""Images per second of classification against a plain torch + torchvision loop, in the same run.

    python tools/benchmark/classification.py                       # data pipeline, training step
    python tools/benchmark/classification.py --quick               # the same in a minute
    python tools/benchmark/classification.py --images val/ --skip-training
    python tools/benchmark/classification.py \\
        --csv docs/results/classification_torch2.14.1_amd-epyc-2-cores.csv

Data pipeline: from files (or an array in memory, as CIFAR's) to normalised batches, an epoch a
turn, with the loader's workers kept. The plain loop is the one of torchvision's recipes: Pillow,
RandomResizedCrop(224) or RandomCrop(32, padding=4), flip, ToTensor, Normalize. Beside it stands
the same with torchvision's faster decoder and v2 transforms on tensors. Ours is the pipeline of our
configs, and the normalisation of the batch that is part of the model. `difference` compares pixels
of the transforms for testing, in grey levels of 0..255, with Pillow's.

Training step: cls.Classifier and engine's optimizer wrapper against forward, cross entropy,
backward and SGD written by hand. Both have channels_last, bfloat16 autocast in the rows of that
name, the same weights and images; ours also normalises the batch. `difference` is that of the
first losses. Processors without bfloat16 instructions (AVX-512) take minutes for the bfloat16 rows:
--dtypes float32 leaves them out.

Sides take turns and medians are compared. CPU is the time of all processes: it means more where
others use the machine. The spread runs from the slowest to the fastest turn.
"""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.cli import run_tool

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIDES = ("plain torch", "plain torch, v2 on tensors", "reidseg")
REFERENCE, OURS = SIDES[0], SIDES[-1]
DTYPES = ("float32", "bfloat16")
CLASSES = {"resnet18": 1000, "cifar_resnet20": 10}
"""Networks of the training step, and of how many classes they are."""

PHOTO_TRAIN: list[dict[str, Any]] = [
    dict(type="AntialiasedRandomResizedCrop", size=(224, 224)),
    dict(type="HorizontalFlip", p=0.5),
]
PHOTO_TEST: list[dict[str, Any]] = [
    dict(type="AntialiasedSmallestMaxSize", max_size=256),
    dict(type="CenterCrop", height=224, width=224),
]
ARRAY_TRAIN: list[dict[str, Any]] = [
    dict(type="Pad", padding=4),
    dict(type="RandomCrop", height=32, width=32),
    dict(type="HorizontalFlip", p=0.5),
]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="photos (default: drawn)")
    parser.add_argument("--count", type=int, default=256, help="photos an epoch (default 256)")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--turns", type=int, default=9, help="per measurement (default 9)")
    parser.add_argument("--batch", type=int, default=32, help="of the photos; arrays: four times")
    parser.add_argument("--size", type=int, default=224, help="of the training step's photos")
    parser.add_argument("--device", default="cpu", help="of the training step: cpu or cuda")
    parser.add_argument("--dtypes", nargs="+", default=list(DTYPES), choices=DTYPES)
    parser.add_argument("--threads", type=int, help="of torch; default: as torch decides")
    parser.add_argument("--quick", action="store_true", help="few images, 3 turns")
    parser.add_argument("--skip-data", action="store_true")
    parser.add_argument("--skip-training", action="store_true")
    parser.add_argument("--csv", metavar="FILE", help="write every measurement there, too")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()

    import torch
    from rich.console import Console

    from engine.manifest import device_name

    for name in ("count", "turns", "batch", "size", "threads"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name}: expected 1 or more, got {value}")
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError("no CUDA device was found; leave --device out for the CPU")
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.quick:
        args.count, args.turns = min(args.count, 64), min(args.turns, 3)
    where = f"{device_name()}, torch {torch.__version__}, {torch.get_num_threads()} threads"
    console = Console(highlight=False)
    console.width = max(console.width, 120)
    records: list[dict[str, Any]] = []

    if not args.skip_data:
        with tempfile.TemporaryDirectory(prefix="photos_") as folder:
            for case in data_cases(args, Path(folder)):
                rows = measure_data(case, args)
                records += [{"where": where, **row} for row in rows]
                console.print(table(rows, f"data pipeline, {case.name}; {where}"))
    if not args.skip_training:
        for name, dtype in itertools.product(CLASSES, args.dtypes):
            rows = measure_training(name, dtype, args)
            records += [{"where": where, **row} for row in rows]
            title = f"training step, {rows[0]['case']}, {dtype}; {where}"
            console.print(table(rows, title))
    if args.csv:
        write_csv(Path(args.csv), records)


# ----------------------------------------------------------------------------------- data pipeline


@dataclass(frozen=True)
class Case:
    """Files or an array (N, 32, 32, 3), and how many of them make a batch."""

    name: str
    batch: int
    files: tuple[str, ...] = ()
    array: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.files) if self.array is None else len(self.array)


def data_cases(args: argparse.Namespace, folder: Path) -> Iterator[Case]:
    import numpy as np

    from imaging.files import list_images

    if args.images:
        files = tuple(itertools.islice(list_images(args.images, recursive=True), args.count))
        if not files:
            raise ValueError(f"--images: no image in {args.images}")
        yield Case(f"photos of {args.images.name}", args.batch, files)
    else:
        for size in ((375, 500), (227, 227)):
            files = tuple(draw_photos(folder, size, args.count))
            yield Case(f"JPEG {size[1]}x{size[0]}", args.batch, files)
    shape = (16 * args.count, 32, 32, 3)
    array = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    yield Case("array 32x32", 4 * args.batch, array=array)


def draw_photos(folder: Path, size: tuple[int, int], count: int) -> Iterator[str]:
    """JPEG files of quality 90: smooth areas, edges and texture, some 40 kB each at 500x375."""
    import cv2
    import numpy as np

    height, width = size
    for i in range(count):
        rng = np.random.default_rng(i)
        image = np.zeros((height, width, 3))
        for cells, weight in ((5, 150), (12, 70), (40, 25), (150, 12)):
            coarse = rng.random((cells, cells * width // height, 3)) * weight
            image += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        for _ in range(5):
            centre = (int(rng.integers(width)), int(rng.integers(height)))
            colour = rng.integers(0, 256, 3).tolist()
            cv2.circle(image, centre, int(rng.integers(10, 60)), colour, -1)
        image += rng.normal(0, 3, (height, width, 1))
        path = folder / f"{width}x{height}_{i}.jpg"
        cv2.imwrite(str(path), image.clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 90])
        yield str(path)


def measure_data(case: Case, args: argparse.Namespace) -> list[dict[str, Any]]:
    from tqdm import tqdm

    rows = []
    for workers in args.workers:
        sides = {name: side(case, workers) for name, side in LOADERS.items()}
        seconds: dict[str, list[float]] = {name: [] for name in SIDES}
        busy = dict.fromkeys(SIDES, 0.0)
        turns = [(i, name) for i in range(args.turns + 1) for name in SIDES[:: (-1) ** i]]
        for i, name in tqdm(turns, desc=f"{case.name}, {workers} workers", unit="turn"):
            start, own = time.perf_counter(), time.process_time()
            seen = sum(len(batch) for batch in sides[name])
            assert seen == len(case), (seen, len(case))
            busy[name] += time.process_time() - own
            if i:  # the first turn starts the workers
                seconds[name].append(time.perf_counter() - start)
        for name in SIDES:
            before = children_seconds()
            del sides[name]  # its workers end, and only now their time is known
            busy[name] += children_seconds() - before
        for name in SIDES:
            rows.append(
                {
                    "part": "data pipeline",
                    "case": case.name,
                    "side": name,
                    "batch": case.batch,
                    "workers": workers,
                    **speed(len(case), seconds, name),
                    "cpu_ms": round(1e3 * busy[name] / (args.turns + 1) / len(case), 4),
                    "cpu_ratio": round(busy[REFERENCE] / busy[name], 3),
                    "difference": pixel_difference(case) if name == OURS else None,
                }
            )
    return rows


def children_seconds() -> float:
    """CPU time of all processes that this one started and that have ended."""
    times = os.times()
    return times.children_user + times.children_system


@dataclass
class Epochs:
    """An iterable of normalised batches."""

    loader: Any
    finish: Callable[[Any], Tensor]

    def __iter__(self) -> Iterator[Tensor]:
        for batch in self.loader:
            yield self.finish(batch)


def our_loader(case: Case, workers: int) -> Iterable[Tensor]:
    from torch.utils.data import DataLoader

    from cls.datasets.base import collate
    from cls.samplers import SeededSampler
    from engine.normalizer import ImageNormalizer

    dataset = our_images(case, PHOTO_TRAIN if case.array is None else ARRAY_TRAIN)
    loader: Any = DataLoader(
        dataset,
        case.batch,
        sampler=SeededSampler(dataset, seed=0),
        collate_fn=collate,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    normalizer = ImageNormalizer()
    return Epochs(loader, lambda batch: normalizer(batch)["inputs"])


def our_images(case: Case, transforms: list[dict[str, Any]]) -> Any:
    import numpy as np

    from cls.datasets.base import ClassificationDataset, Listing

    class Images(ClassificationDataset):
        def parse(self) -> Listing:
            names = case.files or [f"array[{i}]" for i in range(len(case))]
            labels = np.zeros(len(case), np.int64)
            return Listing(case.name, "benchmark", ("any",), labels, names, images=case.array)

    return Images(".", transforms=transforms)


def plain_loader(case: Case, workers: int) -> Iterable[Tensor]:
    from PIL import Image
    from torchvision import transforms as T
    from torchvision.datasets.folder import default_loader

    first = T.RandomResizedCrop(224) if case.array is None else T.RandomCrop(32, padding=4)
    steps = [first, T.RandomHorizontalFlip(), T.ToTensor(), T.Normalize(MEAN, STD)]
    # how torchvision's ImageFolder and CIFAR10 read an image
    read = default_loader if case.array is None else Image.fromarray
    return Epochs(plain_batches(case, workers, T.Compose(steps), read), lambda batch: batch[0])


def tensor_loader(case: Case, workers: int) -> Iterable[Tensor]:
    import torch
    from torchvision.io import ImageReadMode, decode_image
    from torchvision.transforms import v2

    first: Any = v2.RandomResizedCrop(224) if case.array is None else v2.RandomCrop(32, padding=4)
    steps = [v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32, scale=True)]
    transform = v2.Compose([first, *steps, v2.Normalize(MEAN, STD)])

    def read(source: Any) -> Tensor:
        if isinstance(source, str):
            decoded: Tensor = decode_image(source, ImageReadMode.RGB)
            return decoded
        return torch.from_numpy(source).permute(2, 0, 1)

    return Epochs(plain_batches(case, workers, transform, read), lambda batch: batch[0])


def plain_batches(case: Case, workers: int, transform: Any, read: Callable[[Any], Any]) -> Any:
    """The loader as everyone writes it."""
    from torch.utils.data import DataLoader, Dataset

    sources: Any = case.files if case.array is None else case.array

    class Images(Dataset[Any]):
        def __getitem__(self, index: int) -> Any:
            return transform(read(sources[index])), 0

        def __len__(self) -> int:
            return len(case)

    return DataLoader(
        Images(),
        case.batch,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )


LOADERS = dict(zip(SIDES, (plain_loader, tensor_loader, our_loader), strict=True))


def pixel_difference(case: Case) -> float:
    """Mean over some images: ours against Pillow's, without random transforms, in grey levels."""
    import numpy as np
    from PIL import Image
    from torchvision import transforms as T

    ours = our_images(case, PHOTO_TEST if case.array is None else [])
    plain = T.Compose([T.Resize(256), T.CenterCrop(224)])
    differences = []
    for i in range(min(16, len(case))):
        if case.array is None:
            theirs = np.asarray(plain(Image.open(case.files[i]).convert("RGB")))
        else:
            theirs = case.array[i]
        pixels = ours[i]["inputs"].permute(1, 2, 0).numpy().astype(int)
        differences.append(np.abs(pixels - theirs).mean())
    return round(float(np.mean(differences)), 4)


# ----------------------------------------------------------------------------------- training step


def measure_training(name: str, dtype: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    import torch
    from tqdm import tqdm

    torch.manual_seed(0)
    small = name != "resnet18"
    batch, size = (4 * args.batch, 32) if small else (args.batch, args.size)
    images = torch.randint(256, (batch, size, size, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    labels = torch.randint(CLASSES[name], (batch,))
    steps = training_steps(name, dtype, images, labels, args.device)
    losses = {side: step() for side, step in steps.items()}  # the first one is not timed
    seconds: dict[str, list[float]] = {side: [] for side in steps}
    busy: dict[str, list[float]] = {side: [] for side in steps}
    sides = tuple(steps)
    turns = [(i, side) for i in range(args.turns) for side in sides[:: (-1) ** i]]
    for _, side in tqdm(turns, desc=f"{name}, {dtype}", unit="step"):
        start, own = time.perf_counter(), time.process_time()
        steps[side]()  # ends with the loss on the host: nothing is still under way
        seconds[side].append(time.perf_counter() - start)
        busy[side].append(time.process_time() - own)
    processor = {side: statistics.median(values) for side, values in busy.items()}
    return [
        {
            "part": "training step",
            "case": f"{name}, {batch} x {size}x{size}",
            "side": side,
            "batch": batch,
            "dtype": dtype,
            **speed(batch, seconds, side),
            "cpu_ms": round(1e3 * processor[side] / batch, 4),
            "cpu_ratio": round(processor[REFERENCE] / processor[side], 3),
            "difference": round(abs(losses[side] - losses[REFERENCE]), 6) if side == OURS else None,
        }
        for side in sides
    ]


def training_steps(
    name: str, dtype: str, images: Tensor, labels: Tensor, device: str
) -> dict[str, Callable[[], float]]:
    """Functions that train on one batch and return the loss before it, one a side."""
    import torch
    from torch.nn import functional as F

    from backbones import load_weights
    from cls.classifier import Classifier
    from engine.normalizer import ImageNormalizer
    from engine.precision import AutocastOptimWrapper

    plain: Any = plain_network(name)
    backbone = dict(type="backbones.ResNet", depth=18)
    if name != "resnet18":
        backbone = dict(type="backbones.CifarResNet", depth=20)
    ours: Any = Classifier(dict(backbone, num_classes=CLASSES[name]))
    load_weights(ours.backbone, plain.state_dict())
    for model in (plain, ours):
        model.to(device, memory_format=torch.channels_last).train()

    settings: Any = dict(lr=0.01, momentum=0.9, weight_decay=1e-4)
    their_optimizer = torch.optim.SGD(plain.parameters(), **settings)
    wrapper = AutocastOptimWrapper(
        optimizer=torch.optim.SGD(ours.parameters(), **settings), dtype=dtype
    )
    normalized = ImageNormalizer().normalize(images).to(device)
    targets = labels.to(device)

    def their_step() -> float:
        autocast = torch.autocast(
            device.partition(":")[0], torch.bfloat16, enabled=dtype == "bfloat16"
        )
        with autocast:
            loss = F.cross_entropy(plain(normalized), targets)
        their_optimizer.zero_grad()
        loss.backward()
        their_optimizer.step()
        value: float = loss.item()
        return value

    def our_step() -> float:
        value: float = ours.train_step({"inputs": images, "label": labels}, wrapper)["loss"].item()
        return value

    return {REFERENCE: their_step, OURS: our_step}


def plain_network(name: str) -> nn.Module:
    """torchvision's ResNet-18, or the ResNet-20 of 16, 32 and 64 channels with nn.BatchNorm2d."""
    import torch
    from torch import nn

    if name == "resnet18":
        from torchvision.models import resnet18

        network: nn.Module = resnet18()
        return network
    from torchvision.models.resnet import BasicBlock

    def stage(channels: int, planes: int, stride: int) -> nn.Sequential:
        shortcut = None
        if stride > 1:
            convolution = nn.Conv2d(channels, planes, 1, stride, bias=False)
            shortcut = nn.Sequential(convolution, nn.BatchNorm2d(planes))
        blocks = [BasicBlock(channels, planes, stride, shortcut)]
        return nn.Sequential(*blocks, BasicBlock(planes, planes), BasicBlock(planes, planes))

    class ResNet20(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(16)
            self.layer1, self.layer2, self.layer3 = (
                stage(16, 16, 1),
                stage(16, 32, 2),
                stage(32, 64, 2),
            )
            self.fc = nn.Linear(64, 10)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.bn1(self.conv1(x)))
            x = self.layer3(self.layer2(self.layer1(x)))
            logits: Tensor = self.fc(x.mean((2, 3)))
            return logits

    return ResNet20()


# ------------------------------------------------------------------------------------------ output


def speed(images: int, seconds: dict[str, list[float]], side: str) -> dict[str, Any]:
    """Medians of a side's turns, and of the ratio to the reference's."""
    rates = [images / value for value in seconds[side]]
    base = statistics.median(seconds[REFERENCE])
    return {
        "images_per_s": round(statistics.median(rates), 2),
        "spread": f"{min(rates):.4g}..{max(rates):.4g}",
        "turns": len(rates),
        "ratio": round(base / statistics.median(seconds[side]), 3),
    }


def table(rows: list[dict[str, Any]], title: str) -> Any:
    from rich.table import Table

    drawn = Table(title=title, title_justify="left")
    drawn.add_column("side")
    columns = ("workers", "images / s", "spread", "x plain", "CPU ms / image", "x", "difference")
    for column in columns:
        drawn.add_column(column, justify="right")
    for row in rows:
        difference = row["difference"]
        drawn.add_row(
            row["side"],
            str(row.get("workers", "-")),
            f"{row['images_per_s']:.4g}",
            row["spread"],
            f"{row['ratio']:.2f}",
            f"{row['cpu_ms']:.3g}",
            f"{row['cpu_ratio']:.2f}",
            "-" if difference is None else f"{difference:.2g}",
        )
    return drawn


def write_csv(path: Path, records: list[dict[str, Any]]) -> None:
    from engine.atomic import write_bytes

    text = io.StringIO()
    columns = list(dict.fromkeys(itertools.chain.from_iterable(records)))
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, text.getvalue().encode())


if __name__ == "__main__":
    run_tool(main)
