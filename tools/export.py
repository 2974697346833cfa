#!/usr/bin/env python
"""Write a trained model as one file that runs without this project, and check it.

    python tools/export.py segmentation CONFIG CHECKPOINT --out model.onnx --size 512x1024
    python tools/export.py segmentation CONFIG CHECKPOINT --out model.onnx --size dynamic \\
        --check street_1.png street_2.png

The exported network is compared with the original on noise and on the images of --check; when they
differ, nothing is written and the exit code is 1.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from engine.cli import run_tool, tool_parser


def main() -> int | None:
    args = parser().parse_args()
    return args.run(args)


def parser() -> argparse.ArgumentParser:
    top = tool_parser(__doc__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    segmentation = commands.add_parser(
        "segmentation",
        help="a segmentation network to ONNX (.onnx) or torch.export (.pt2)",
        description="Input 'image': (N, 3, H, W) uint8 RGB in 0..255; mean and standard deviation "
        "are inside the network. Output 'logits': (N, classes, H, W) float32 at the input's size, "
        "or with --labels 'labels': (N, H, W) uint8. Resizing and sliding windows stay outside. "
        "Classes, palette, protocol and normalisation are stored in the file's metadata.",
        allow_abbrev=False,
    )
    segmentation.add_argument("config", metavar="CONFIG")
    segmentation.add_argument("checkpoint", metavar="CHECKPOINT")
    segmentation.add_argument("--out", type=Path, required=True, metavar="FILE")
    segmentation.add_argument(
        "--size",
        type=parse_size,
        default=(512, 1024),
        metavar="HxW|dynamic",
        help="of the input (default 512x1024); the batch size is always free",
    )
    segmentation.add_argument("--labels", action="store_true", help="labels instead of logits")
    segmentation.add_argument("--opset", type=int, default=18, help="of ONNX (default 18)")
    segmentation.add_argument(
        "--check", nargs="+", type=Path, default=[], metavar="IMAGE", help="compare on these, too"
    )
    segmentation.add_argument(
        "--tolerance",
        type=float,
        default=1e-4,
        help="largest difference allowed, relative to the largest logit (default 1e-4)",
    )
    segmentation.add_argument(
        "--cfg-options", nargs="+", default=[], metavar="KEY=VALUE", help="override the config"
    )
    segmentation.set_defaults(run=export_segmentation)
    return top


def parse_size(text: str) -> tuple[int, int] | None:
    if text == "dynamic":
        return None
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"expected HEIGHTxWIDTH or 'dynamic', got {text!r}")
    return int(match[1]), int(match[2])


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
    megabytes = args.out.stat().st_size / 2**20
    size = "any size" if args.size is None else "x".join(map(str, args.size))
    print(f"{args.out}: {megabytes:.1f} MB, {len(classes)} classes, input {size}, any batch")
    print(f"compared with the model on {report.inputs} inputs ({len(images)} images):")
    if not args.labels:
        print(f"  largest difference / largest logit: {report.max_relative_difference:.1e}")
    print(f"  equal labels: {100 * report.equal_labels:.4f}% of the pixels")


if __name__ == "__main__":
    run_tool(main)
