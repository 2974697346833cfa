#!/usr/bin/env python
"""Embed many images once and keep the features: for galleries, evaluation and other programs.

    python tools/extract_features.py CONFIG CHECKPOINT --out DIR --images photos/ more.txt list.csv
    python tools/extract_features.py CONFIG CHECKPOINT --out DIR --data data/market1501
    python tools/extract_features.py CONFIG CHECKPOINT --out DIR --images a.mp4 --boxes a.csv
    torchrun --nproc_per_node=4 tools/extract_features.py CONFIG CHECKPOINT --out DIR --images in/

--images takes images, folders (with all below them), lists (.txt: a path a line), tables (.csv: a
column path, and any others, which the records keep: pid, camera, time, ...) and videos, each with
a CSV file of its boxes: frame,x,y,w,h and any others. Frames count from 0, boxes are in pixels and
are clipped to the frame. Paths in a list are relative to the list. A path that stands twice is
embedded twice: a row for each entry.

DIR gets shards of features (safetensors with records as JSON lines, or Parquet), manifest.json and
failed.csv. A run that was stopped, killed too, goes on where it was with the same command; with
another model or list it is refused. The files do not depend on the number of processes.

Images that cannot be read are left out, listed in failed.csv and counted; --strict stops at the
first. From Python: reid.features.read_features(DIR) -> (features, records);
python tools/build_gallery.py GALLERY --features DIR makes a gallery of them.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from engine.cli import run_tool, tool_parser

if TYPE_CHECKING:
    from reid.image_sources import Item


def parse_arguments() -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument("config", metavar="CONFIG")
    parser.add_argument("checkpoint", metavar="CHECKPOINT")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--images", nargs="+", metavar="PATH", help="images, folders, lists, tables, videos"
    )
    source.add_argument("--data", metavar="[LAYOUT:]PATH", help="a data set, as for testing")
    parser.add_argument(
        "--boxes", nargs="+", default=[], metavar="CSV", help="for each video: frame,x,y,w,h"
    )
    parser.add_argument(
        "--split",
        choices=["train", "query", "gallery", "test"],
        help="of --data; default test: queries and gallery, all images of data without splits",
    )
    parser.add_argument("--camera-pattern", help="folders: regex on file names, one group = camera")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR")
    parser.add_argument(
        "--format", choices=["safetensors", "parquet"], default="safetensors", dest="file_format"
    )
    parser.add_argument(
        "--dtype", choices=["float32", "float16"], default="float32", help="of features on disk"
    )
    parser.add_argument(
        "--precision",
        choices=["float32", "bfloat16", "float16", "auto"],
        help="of the network; auto: bfloat16 where it is fast. Default: the config's eval_dtype",
    )
    parser.add_argument("--shard-size", type=int, metavar="N", help="rows a file (default 4096)")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument(
        "--workers", type=int, help="processes that read images; default: as many as help"
    )
    parser.add_argument("--strict", action="store_true", help="stop at an unreadable image")
    parser.add_argument("--device", help="cpu, cuda, ...; by default CUDA where there is one")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()

    from datetime import timedelta

    import torch
    from mmengine.dist import get_world_size, is_main_process
    from tqdm import tqdm

    from engine.manifest import collect_manifest
    from engine.wording import counted
    from reid.extraction import extract_features
    from reid.inference import FeatureExtractor

    items = list_sources(args)
    device = args.device
    if "RANK" in os.environ:
        if device is None and torch.cuda.is_available():
            device = f"cuda:{os.environ['LOCAL_RANK']}"
        # only a few words travel; and whoever is done waits for the others as long as it takes
        torch.distributed.init_process_group("gloo", timeout=timedelta(days=14))
    if str(device).startswith("cuda"):
        torch.cuda.set_device(torch.device(device))
    extractor = FeatureExtractor(
        args.config,
        args.checkpoint,
        device,
        batch_size=args.batch_size,
        threshold=False,
        dtype=args.precision,
    )
    main, world = is_main_process(), get_world_size()
    what = "embedding" if world == 1 else f"embedding (process 1 of {world})"
    with tqdm(unit="image", desc=what, disable=not main, smoothing=0.05) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        result = extract_features(
            extractor,
            items,
            args.out,
            dtype=args.dtype,
            file_format=args.file_format,
            shard_size=args.shard_size,
            workers=args.workers,
            strict=args.strict,
            about={
                "config": str(Path(args.config).resolve()),
                "weights": str(Path(args.checkpoint).resolve()),
                "source": args.data or args.images,
                "run": collect_manifest(),
            },
            progress=show,
        )
    if not main:
        return
    if result.done_before:
        print(f"{result.done_before:,} of {counted(result.entries, 'entry')} were done before")
    if result.repeated:
        print(f"note: {counted(result.repeated, 'entry')} stand in the list again: a row for each")
    rows = result.entries - result.failed
    print(f"{args.out}: {counted(rows, 'row')} of dimension {extractor.dim}, {args.dtype}")
    if result.failed:
        print(
            f"warning: {counted(result.failed, 'entry')} could not be read and have no row; see "
            f"{args.out / 'failed.csv'}"
        )
    print(f"next: python tools/build_gallery.py GALLERY --features {args.out}")


def list_sources(args: argparse.Namespace) -> list[Item]:
    from reid.image_sources import dataset_items, list_items

    if args.images:
        if args.split or args.camera_pattern:
            raise ValueError("--split and --camera-pattern belong to --data")
        return list_items(args.images, args.boxes)
    if args.boxes:
        raise ValueError("--boxes belong to a video in --images")
    from reid.data_options import parse_data
    from reid.registry import DATASETS

    _, config = parse_data(args.data, args.camera_pattern, only_test=not args.split)
    return dataset_items(DATASETS.build({**config, "split": args.split or "test"}))


if __name__ == "__main__":
    run_tool(main)
