#!/usr/bin/env python
"""Write a trained model as one file that runs without this project, and check it.

    python tools/export.py reid CONFIG CHECKPOINT --out model.onnx
    python tools/export.py reid CONFIG CHECKPOINT --out model.onnx --int8 --data data/market1501
    python tools/export.py segmentation CONFIG CHECKPOINT --out model.onnx --size 512x1024
    python tools/export.py segmentation CONFIG CHECKPOINT --out model.onnx --size dynamic \\
        --check street_1.png street_2.png

The exported network is compared with the original on noise and on images; when they differ, nothing
is written and the exit code is 1. docs/examples/ shows programs that use such files.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.cli import run_tool, tool_parser

if TYPE_CHECKING:
    import numpy as np


def main() -> int | None:
    args = parser().parse_args()
    return args.run(args)


def parser() -> argparse.ArgumentParser:
    top = tool_parser(__doc__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    reid = commands.add_parser(
        "reid",
        help="a re-identification model to ONNX",
        description="Input 'images': (N, H, W, 3) uint8 RGB in 0..255 of any size, as decoded. "
        "Output 'embeddings': (N, D) float32 of unit length; the product of two is their cosine. "
        "Resizing, normalisation and everything else are inside. Fingerprint, threshold, protocol "
        "and preparation are stored in the file's metadata.",
        allow_abbrev=False,
    )
    add_common_arguments(reid, tolerance=1e-3, of="number of an embedding")
    reid.add_argument(
        "--int8",
        action="store_true",
        help="write FILE.int8.onnx with 8-bit weights, too, and say what it gains and costs",
    )
    reid.add_argument(
        "--data",
        metavar="[LAYOUT:]PATH",
        help="compare on images of this data set, and rank it with the float and 8-bit file",
    )
    reid.set_defaults(run=export_reid)

    segmentation = commands.add_parser(
        "segmentation",
        help="a segmentation network to ONNX (.onnx) or torch.export (.pt2)",
        description="Input 'image': (N, 3, H, W) uint8 RGB in 0..255; mean and standard deviation "
        "are inside the network. Output 'logits': (N, classes, H, W) float32 at the input's size, "
        "or with --labels 'labels': (N, H, W) uint8. Resizing and sliding windows stay outside. "
        "Classes, palette, protocol and normalisation are stored in the file's metadata.",
        allow_abbrev=False,
    )
    add_common_arguments(segmentation, tolerance=1e-4, of="logit")
    segmentation.add_argument(
        "--size",
        type=parse_size,
        default=(512, 1024),
        metavar="HxW|dynamic",
        help="of the input (default 512x1024); the batch size is always free",
    )
    segmentation.add_argument("--labels", action="store_true", help="labels instead of logits")
    segmentation.set_defaults(run=export_segmentation)
    return top


def add_common_arguments(command: argparse.ArgumentParser, *, tolerance: float, of: str) -> None:
    command.add_argument("config", metavar="CONFIG")
    command.add_argument("checkpoint", metavar="CHECKPOINT")
    command.add_argument("--out", type=Path, required=True, metavar="FILE")
    command.add_argument("--opset", type=int, default=18, help="of ONNX (default 18)")
    command.add_argument(
        "--check", nargs="+", type=Path, default=[], metavar="IMAGE", help="compare on these, too"
    )
    command.add_argument(
        "--tolerance",
        type=float,
        default=tolerance,
        help=f"largest difference allowed, relative to the largest {of} (default {tolerance:g})",
    )
    command.add_argument(
        "--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="override the config"
    )


def parse_size(text: str) -> tuple[int, int] | None:
    if text == "dynamic":
        return None
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"expected HEIGHTxWIDTH or 'dynamic', got {text!r}")
    return int(match[1]), int(match[2])


def export_reid(args: argparse.Namespace) -> None:
    from rich.console import Console

    from engine.cli import load_config
    from imaging.files import read_image
    from reid.export import export_network, metadata_of
    from reid.inference import FeatureExtractor

    if args.data is not None and not args.int8:
        raise ValueError("--data is what --int8 ranks: give both, or only --check IMAGE ...")
    config = load_config(args.config, args.cfg_options)
    extractor = FeatureExtractor(config, args.checkpoint, "cpu", dtype="float32")
    dataset = test_data(args.data) if args.data is not None else None
    images = [read_image(path) for path in args.check] or found_images(config, dataset)
    with Console(stderr=True).status("tracing and comparing"):
        report = export_network(
            extractor,
            args.out,
            opset=args.opset,
            metadata=metadata_of(config, extractor),
            images=images,
            tolerance=args.tolerance,
        )
    print(f"{args.out}: {megabytes(args.out):.1f} MB, {extractor.dim} numbers an image, any size")
    print(f"compared with the model on {report.batches} batches ({report.images} images):")
    print(f"  largest difference / largest number: {report.max_relative_difference:.1e}")
    print(f"  smallest cosine to the model's embedding: {report.least_cosine:.6f} on noise", end="")
    if report.least_image_cosine is None:
        print("; give real images with --check")
    else:
        print(f", {report.least_image_cosine:.6f} on images")
    if args.int8:
        report_int8(args.out, images, dataset)


def test_data(text: str) -> Any:
    """The split 'test' of [LAYOUT:]PATH."""
    from reid.data_options import parse_data
    from reid.registry import DATASETS

    _, dataset = parse_data(text, only_test=True)
    return DATASETS.build({**dataset, "split": "test"})


def found_images(config: Any, dataset: Any, count: int = 8) -> list[np.ndarray]:
    """Images spread over the data set, or over the first of the config's that is there."""
    from imaging.files import read_image
    from reid.registry import DATASETS

    for loader in (config.get("test_dataloader") or {}).values():
        if dataset is None and Path(loader["dataset"].get("root", "")).exists():
            dataset = DATASETS.build({**loader["dataset"], "transforms": None})
    if dataset is None:
        return []
    chosen = dataset.records[:: max(1, len(dataset.records) // count)][:count]
    return [read_image(record.path) for record in chosen]


def report_int8(path: Path, images: list[np.ndarray], dataset: Any) -> None:
    import numpy as np

    from reid.export import OnnxEmbedder, quantize, rank_dataset

    small = quantize(path, path.with_suffix(".int8.onnx"))
    exact, rounded = OnnxEmbedder(path), OnnxEmbedder(small)
    probes = images or list(np.random.default_rng(0).integers(0, 256, (8, 128, 64, 3), np.uint8))
    ratio = time_ratio(rounded, exact, probes)
    share = megabytes(small) / megabytes(path)
    print(f"{small}: {megabytes(small):.1f} MB ({100 * share:.0f}%), CPU time {ratio:.2f}x")
    cosines = (exact(probes) * rounded(probes)).sum(1)
    kind = "images" if images else "noise"
    print(f"  cosine to the float embedding: {cosines.min():.4f} or more ({len(probes)} {kind})")
    if dataset is not None:
        before, after = rank_dataset(exact, dataset), rank_dataset(rounded, dataset)
        print(f"  {dataset.splits.name}, in percent: float, 8-bit, change")
        for key in ("mAP", "rank-1"):
            change = 100 * (after[key] - before[key])
            print(f"    {key}: {100 * before[key]:.2f}, {100 * after[key]:.2f}, {change:+.2f}")


def time_ratio(one: Any, other: Any, images: list[np.ndarray], turns: int = 5) -> float:
    """Seconds of ``one`` over those of ``other``: medians of calls in turn, the first left out."""
    import statistics
    import time

    seconds: dict[Any, list[float]] = {one: [], other: []}
    for _ in range(turns + 1):
        for embedder, taken in seconds.items():
            start = time.perf_counter()
            embedder(images)
            taken.append(time.perf_counter() - start)
    return statistics.median(seconds[one][1:]) / statistics.median(seconds[other][1:])


def megabytes(path: Path) -> float:
    return path.stat().st_size / 2**20


def export_segmentation(args: argparse.Namespace) -> None:
    from rich.console import Console

    from engine.cli import load_config
    from seg.export import export_network, metadata_of
    from seg.inference import build_model, classes_of
    from seg.transforms.loading import read_image

    images = [read_image(path) for path in args.check]
    config = load_config(args.config, args.cfg_options)
    model, checkpoint = build_model(config, args.checkpoint)
    classes, palette = classes_of(config, model.num_classes, checkpoint)
    with Console(stderr=True).status("tracing and comparing"):
        report = export_network(
            model,
            args.out,
            size=args.size,
            labels=args.labels,
            opset=args.opset,
            metadata=metadata_of(config, model, classes, palette),
            images=images,
            tolerance=args.tolerance,
        )
    size = "any size" if args.size is None else "x".join(map(str, args.size))
    print(
        f"{args.out}: {megabytes(args.out):.1f} MB, {len(classes)} classes, input {size}, any batch"
    )
    print(f"compared with the model on {report.inputs} inputs ({len(images)} images):")
    if not args.labels:
        print(f"  largest difference / largest logit: {report.max_relative_difference:.1e}")
    print(f"  equal labels: {100 * report.equal_labels:.4f}% of the pixels")


if __name__ == "__main__":
    run_tool(main)
