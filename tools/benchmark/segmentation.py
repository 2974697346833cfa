#!/usr/bin/env python
"""Sliding-window inference at 2048x1024 against mmseg's own, with the same network and windows.

    python tools/benchmark/segmentation.py                        # ResNet-18 and ResNet-50
    python tools/benchmark/segmentation.py --quick                # ResNet-18, one setting
    python tools/benchmark/segmentation.py --image leftImg8bit.png --labels gtFine_labelIds.png \\
        --csv docs/results/segmentation_torch2.14.1_amd-epyc-2-cores.csv

mmseg's side is what its users run: EncoderDecoder.predict in float32, windows one by one (and, for
comparison, the same under bfloat16 autocast). Ours is seg.models.prediction. All take turns in one
process and medians are compared; the processor's own time is given beside the clock's, because it
means more where others use the machine. Peak memory is that of a fresh process each, over what it
held before the first prediction. Networks are DeepLabV3+ (output stride 16, 19 classes) with random
weights, their batch statistics taken from the image; between such classes rounding decides more
often than between trained ones (--config and --checkpoint).

Labels: what looking raw ids up, and checking them, adds to reading a label PNG of the same size;
the median of many, for each takes less than a millisecond.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.cli import run_tool

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

WINDOWS = {"512/341": (512, 341), "768/512": (768, 512)}
"""crop / stride: Rein's and HRDA's 512, RobustNet's training crop of 768."""
SIDES = ("mmseg float32", "ours float32", "ours bfloat16", "mmseg bfloat16")
REFERENCE = SIDES[0]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--threads", type=int, help="of torch; default: as torch decides")
    parser.add_argument("--repeats", type=int, default=5, help="per measurement (default 5)")
    parser.add_argument("--depths", type=int, nargs="+", default=[18, 50], help="of the ResNets")
    parser.add_argument("--windows", nargs="+", default=list(WINDOWS), choices=list(WINDOWS))
    parser.add_argument(
        "--batch-windows", type=int, metavar="N", help="together (default: 1 on a CPU, 8 on a GPU)"
    )
    parser.add_argument("--config", help="a trained model's config, instead of the ResNets")
    parser.add_argument("--checkpoint", help="its weights")
    parser.add_argument("--image", type=Path, help="image to label (default: drawn), at its size")
    parser.add_argument("--labels", type=Path, help="a PNG of Cityscapes label ids (default: made)")
    parser.add_argument("--quick", action="store_true", help="ResNet-18, one setting, 3 repeats")
    parser.add_argument("--skip-memory", action="store_true")
    parser.add_argument("--skip-networks", action="store_true", help="labels only")
    parser.add_argument("--csv", metavar="FILE", help="write every measurement there, too")
    parser.add_argument("--memory-of", nargs=3, help=argparse.SUPPRESS)  # network, windows, side
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()

    import torch
    from rich.console import Console

    from engine.manifest import device_name

    for name in ("repeats", "batch_windows", "threads"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name.replace('_', '-')}: expected 1 or more, got {value}")
    if bool(args.config) != bool(args.checkpoint):
        raise ValueError("--config and --checkpoint belong together")
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError("no CUDA device was found; leave --device out for the CPU")
    if args.batch_windows is None:
        args.batch_windows = 1 if args.device == "cpu" else 8
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.quick:
        args.depths, args.windows, args.repeats = [18], ["512/341"], min(3, args.repeats)
    if args.memory_of:
        print(peak_memory(args, *args.memory_of))
        return
    where = f"{device_name()}, torch {torch.__version__}"
    if args.device == "cpu":
        where += f", {torch.get_num_threads()} threads"
    console = Console(highlight=False)
    console.width = max(console.width, 120)
    records = []
    if not args.skip_networks:
        names = ["config"] if args.config else [f"resnet{depth}" for depth in args.depths]
        for name, windows in itertools.product(names, args.windows):
            rows = measure(args, name, windows)
            records += [{"where": where, **row} for row in rows]
            console.print(table(rows, f"{rows[0]['network']}, windows {windows}; {where}"))
    rows = measure_labels(args)
    records += [{"where": where, **row} for row in rows]
    console.print(label_table(rows, where))
    if args.csv:
        write_csv(Path(args.csv), records)


# ---------------------------------------------------------------------------------------- networks


def measure(args: argparse.Namespace, name: str, windows: str) -> list[dict[str, Any]]:
    from tqdm import tqdm

    image = read(args)
    runs = {side: prediction(args, name, windows, side, image) for side in SIDES}
    labels = {}
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    busy: dict[str, list[float]] = {side: [] for side in SIDES}
    rounds = [(i, side) for i in range(args.repeats + 1) for side in SIDES]
    for i, side in tqdm(rounds, desc=f"{name} {windows}", unit="image", disable=None):
        start, start_busy = time.perf_counter(), time.process_time()
        labels[side] = runs[side]()
        if i:  # the first one is not counted
            seconds[side].append(time.perf_counter() - start)
            busy[side].append(time.process_time() - start_busy)
    medians = {side: statistics.median(values) for side, values in seconds.items()}
    processor = {side: statistics.median(values) for side, values in busy.items()}
    rows = []
    for side in SIDES:
        memory = None if args.skip_memory else memory_in_child(name, windows, side)
        rows.append(
            {
                "network": name if args.config else f"DeepLabV3+ {name} OS16",
                "size": f"{image.shape[1]}x{image.shape[0]}",
                "windows": windows,
                "side": side,
                "batch_windows": args.batch_windows if side.startswith("ours") else 1,
                "seconds": round(medians[side], 4),
                "spread": round(max(seconds[side]) - min(seconds[side]), 4),
                "repeats": args.repeats,
                "speedup": round(medians[REFERENCE] / medians[side], 3),
                "cpu_seconds": round(processor[side], 4),
                "cpu_speedup": round(processor[REFERENCE] / processor[side], 3),
                "differing_pixels": float((labels[side] != labels[REFERENCE]).mean()),
                "peak_memory_mib": memory,
            }
        )
    return rows


def read(args: argparse.Namespace) -> np.ndarray:
    """(H, W, 3) uint8 RGB: the file, or drawn blobs and noise at 2048x1024."""
    import cv2
    import numpy as np

    if args.image:
        from seg.transforms.loading import read_image

        return read_image(args.image)
    rng = np.random.default_rng(0)
    image = np.zeros((1024, 2048, 3))
    for cells, weight in ((4, 0.5), (16, 0.3), (64, 0.15), (512, 0.05)):
        coarse = rng.random((cells, 2 * cells, 3))
        image += weight * cv2.resize(coarse, (2048, 1024), interpolation=cv2.INTER_CUBIC)
    return (image.clip(0, 1) * 255).astype(np.uint8)


def prediction(
    args: argparse.Namespace, name: str, windows: str, side: str, image: np.ndarray
) -> Callable[[], np.ndarray]:
    """A function that labels the image the way of that side."""
    import torch

    from engine.precision import autocast
    from seg.models.prediction import predict_labels

    crop, stride = WINDOWS[windows]
    owner, _, dtype = side.partition(" ")
    model = build(args, name, crop, stride, image).to(args.device)
    pixels = normalised(model, image).to(args.device)
    if owner == "mmseg":
        from mmseg.models import EncoderDecoder
        from mmseg.structures import SegDataSample

        shape = tuple(image.shape[:2])
        meta = dict(ori_shape=shape, img_shape=shape, pad_shape=shape, padding_size=[0] * 4)

        def run() -> Tensor:
            # by its class: a model of ours has its own predict
            (result,) = EncoderDecoder.predict(model, pixels[None], [SegDataSample(metainfo=meta)])
            return result.pred_sem_seg.data[0]
    else:
        if args.device == "cpu":
            model = model.to(memory_format=torch.channels_last)

        def network(x: Tensor) -> Tensor:
            logits: Tensor = model.decode_head(model.extract_feat(x))
            return logits

        run = partial(
            predict_labels,
            network,
            pixels,
            mode="slide",
            crop_size=(crop, crop),
            stride=(stride, stride),
            batch_windows=args.batch_windows,
            align_corners=model.align_corners,
        )

    def label() -> np.ndarray:
        with torch.no_grad(), autocast(dtype, args.device.partition(":")[0]):
            result: np.ndarray = run().cpu().numpy()
        return result

    return label


def build(
    args: argparse.Namespace, name: str, crop: int, stride: int, image: np.ndarray
) -> nn.Module:
    import torch
    from mmengine import ConfigDict
    from torch import nn

    test_cfg = ConfigDict(mode="slide", crop_size=(crop, crop), stride=(stride, stride))
    if args.config:
        from engine.cli import load_config
        from seg.inference import build_model

        model, _ = build_model(load_config(args.config), args.checkpoint)
        model.test_cfg = test_cfg
        return model
    from mmengine.registry import init_default_scope
    from mmseg.registry import MODELS

    torch.manual_seed(0)
    init_default_scope("mmseg")
    depth = int(name.removeprefix("resnet"))
    channels, low = (512, 64) if depth < 50 else (2048, 256)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MODELS.build(
            dict(
                type="EncoderDecoder",
                data_preprocessor=dict(
                    type="SegDataPreProcessor",
                    mean=[123.675, 116.28, 103.53],
                    std=[58.395, 57.12, 57.375],
                ),
                backbone=dict(
                    type="backbones.ResNet",
                    depth=depth,
                    strides=(1, 2, 2, 1),
                    dilations=(1, 1, 1, 2),
                ),
                decode_head=dict(
                    type="DepthwiseSeparableASPPHead",
                    in_channels=channels,
                    in_index=3,
                    channels=256,
                    dilations=(1, 6, 12, 18),
                    c1_in_channels=low,
                    c1_channels=48,
                    norm_cfg=dict(type="BN"),
                    num_classes=19,
                    align_corners=False,
                ),
                test_cfg=test_cfg,
            )
        )
    nn.init.normal_(model.decode_head.conv_seg.weight, std=0.1)
    # batch statistics of the image, as after training: otherwise activations vanish
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    pixels = normalised(model, image)[None, :, ::2, ::2]
    side = min(320, *pixels.shape[2:])
    corners = [pixels[:, :, :side, :side], pixels[:, :, -side:, -side:]]
    with torch.no_grad():
        model.train()
        model.decode_head(model.extract_feat(torch.cat(corners)))
    return model.eval()


def normalised(model: nn.Module, image: np.ndarray) -> Tensor:
    """(3, H, W) float32."""
    import torch

    pixels = torch.from_numpy(image).permute(2, 0, 1).float()
    return (pixels - model.data_preprocessor.mean.cpu()) / model.data_preprocessor.std.cpu()


# ------------------------------------------------------------------------------------------ memory


def memory_in_child(name: str, windows: str, side: str) -> float:
    """MiB, from a process that does nothing else."""
    command = [sys.executable, *sys.argv, "--memory-of", name, windows, side]
    # glibc then returns large tensors' memory at once, and the peak is what was in use together
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"the memory of {side} was not measured: {done.stderr[-500:]}")
    return float(done.stdout.split()[-1])


def peak_memory(args: argparse.Namespace, name: str, windows: str, side: str) -> float:
    """MiB that a prediction needs over the weights, the image and the libraries."""
    import torch

    run = prediction(args, name, windows, side, read(args))
    if args.device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return round((torch.cuda.max_memory_allocated() - before) / 2**20, 1)
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    give_back_freed_memory()  # of building the network
    # Linux's mark of the highest use starts anew
    Path("/proc/self/clear_refs").write_text("5")
    before = kilobytes(status, "VmRSS")
    run()
    return round((kilobytes(status, "VmHWM") - before) / 1024, 1)


def give_back_freed_memory() -> None:
    """What is freed but kept by the allocator would hide as much of the prediction's need."""
    import ctypes
    import gc

    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # glibc
        trim(0)


def kilobytes(status: Path, key: str) -> int:
    (line,) = (x for x in status.read_text().splitlines() if x.startswith(f"{key}:"))
    return int(line.split()[1])


# ------------------------------------------------------------------------------------------ labels


def measure_labels(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Reading a label PNG, and what seg.LoadLabels does after it: the look-up, the check."""
    import cv2
    import numpy as np

    from seg.transforms.loading import apply_table, has_unknown, read_labels

    path = args.labels
    made = None
    if path is None:
        import tempfile

        rng = np.random.default_rng(0)
        coarse = rng.integers(7, 34, (32, 64)).astype(np.uint8)
        made = tempfile.TemporaryDirectory()
        path = Path(made.name) / "labels.png"
        cv2.imwrite(str(path), cv2.resize(coarse, (2048, 1024), interpolation=cv2.INTER_NEAREST))
    try:
        seconds: dict[str, list[float]] = {"read the PNG": [], "look-up and check": []}
        for i in range(40 * args.repeats + 1):  # milliseconds each
            start = time.perf_counter()
            raw = read_labels(path, "cityscapes")
            middle = time.perf_counter()
            labels = apply_table(raw, "cityscapes", "cityscapes19", in_place=True)
            has_unknown(labels)
            end = time.perf_counter()
            if i:
                seconds["read the PNG"].append(middle - start)
                seconds["look-up and check"].append(end - middle)
    finally:
        if made is not None:
            made.cleanup()
    base = statistics.median(seconds["read the PNG"])
    return [
        {
            "network": "labels",
            "size": f"{raw.shape[1]}x{raw.shape[0]}",
            "side": step,
            "seconds": round(statistics.median(values), 6),
            "spread": round(max(values) - min(values), 6),
            "repeats": len(values),
            "share_of_reading": round(statistics.median(values) / base, 4),
        }
        for step, values in seconds.items()
    ]


# ------------------------------------------------------------------------------------------ output


def table(rows: list[dict[str, Any]], title: str) -> Any:
    from rich.table import Table

    drawn = Table(title=title, title_justify="left")
    drawn.add_column("side")
    for column in (
        *("s / image", "spread", f"x {REFERENCE}", "CPU s / image", "x"),
        *("differing pixels [%]", "peak memory [MiB]"),
    ):
        drawn.add_column(column, justify="right")
    for row in rows:
        memory = row["peak_memory_mib"]
        drawn.add_row(
            row["side"],
            f"{row['seconds']:.2f}",
            f"{row['spread']:.2f}",
            f"{row['speedup']:.2f}",
            f"{row['cpu_seconds']:.2f}",
            f"{row['cpu_speedup']:.2f}",
            f"{100 * row['differing_pixels']:.4f}",
            "-" if memory is None else f"{memory:,.0f}",
        )
    return drawn


def label_table(rows: list[dict[str, Any]], where: str) -> Any:
    from rich.table import Table

    drawn = Table(title=f"labels of {rows[0]['size']}; {where}", title_justify="left")
    drawn.add_column("step")
    for column in ("ms", "% of reading"):
        drawn.add_column(column, justify="right")
    for row in rows:
        share = f"{100 * row['share_of_reading']:.2f}"
        drawn.add_row(row["side"], f"{1e3 * row['seconds']:.3f}", share)
    return drawn


def write_csv(path: Path, records: list[dict[str, Any]]) -> None:
    columns = list(dict.fromkeys(itertools.chain.from_iterable(records)))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)


if __name__ == "__main__":
    run_tool(main)
