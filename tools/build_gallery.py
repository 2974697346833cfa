#!/usr/bin/env python
"""Embed images and put them into a gallery on disk, to be searched with query_gallery.py.

    python tools/build_gallery.py GALLERY CONFIG CHECKPOINT --data data/market1501
    python tools/build_gallery.py GALLERY CONFIG CHECKPOINT --images my/photos more/photo.jpg
    python tools/build_gallery.py GALLERY --features DIR      # of tools/extract_features.py

--images takes what extract_features.py takes but videos: images, folders, lists (.txt, .csv).
Adding to an existing gallery appends what it does not hold yet, so a build that was stopped can be
run again; a gallery of another model or dimension is refused.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.cli import run_tool, tool_parser

if TYPE_CHECKING:
    import numpy as np

    from reid.gallery import Gallery
    from reid.image_sources import Item
    from reid.inference import FeatureExtractor


def parse_arguments() -> argparse.Namespace:
    parser = tool_parser(__doc__)
    parser.add_argument("gallery", metavar="GALLERY", help="folder of the gallery; made if absent")
    parser.add_argument("config", metavar="CONFIG", nargs="?")
    parser.add_argument("checkpoint", metavar="CHECKPOINT", nargs="?")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", metavar="[LAYOUT:]PATH", help="market1501, folder or csv, ...")
    source.add_argument("--images", nargs="+", metavar="PATH", help="files, folders or lists")
    source.add_argument("--features", metavar="DIR", help="features made before; needs no model")
    parser.add_argument(
        "--split",
        choices=["gallery", "query", "train", "test"],
        help="of --data; by default a data set's gallery, and all images of data without splits",
    )
    parser.add_argument("--camera-pattern", help="folders: regex on file names, one group = camera")
    parser.add_argument("--device", help="cpu, cuda, ...; by default CUDA where there is one")
    parser.add_argument(
        "--batch-size", type=int, default=256, help="images per step and per commit"
    )
    args = parser.parse_args()
    if bool(args.features) == bool(args.checkpoint):
        parser.error(
            "give CONFIG and CHECKPOINT with --data or --images, and neither with --features"
        )
    return args


def main() -> None:
    args = parse_arguments()

    from tqdm import tqdm

    from engine.atomic import write_json
    from reid.features import FeatureFolder
    from reid.inference import FeatureExtractor

    path = Path(args.gallery)
    if args.features:
        made = FeatureFolder.open(args.features).manifest
        dim, model, total = made["dim"], made["model"], made["entries"]
        config, weights = made.get("config"), made.get("weights")
    else:
        items = list_sources(args)
        extractor = FeatureExtractor(args.config, args.checkpoint, args.device, threshold=False)
        dim, model, total = extractor.dim, extractor.fingerprint, len(items)
        config, weights = (str(Path(p).resolve()) for p in (args.config, args.checkpoint))
    gallery = open_gallery(path, dim, model)
    held = {identity(record) for record in gallery.records.values()}
    before = len(gallery)
    if args.features:
        batches = stored(args.features, held)
    else:
        items = [item for item in items if identity(item.record) not in held]
        batches = embedded(extractor, items, args.batch_size)
        if known := total - len(items):
            print(f"{known:,} of these images are in the gallery already: not added again")
    with tqdm(total=len(items) if args.checkpoint else total, unit="image", desc="adding") as bar:
        for features, records in batches:
            if records:
                gallery.add(features, records, model=model)
            bar.update(len(records))
    if args.features and (known := total - (len(gallery) - before)):
        print(f"{known:,} of these entries are in the gallery already, or have no features")
    # what query_gallery.py needs to embed a query the same way
    write_json(path / "extractor.json", {"config": config, "weights": weights})
    print(f"{path}: {len(gallery):,} rows of dimension {gallery.dim}, {gallery.metric} similarity")
    print(f"next: python tools/query_gallery.py {path} IMAGE --picture ranked.png")


def open_gallery(path: Path, dim: int, model: str) -> Gallery:
    from reid.gallery import Gallery

    if (path / "manifest.json").exists():
        return Gallery.open(path, dim=dim, model=model)
    return Gallery.create(path, dim, model=model)


def identity(record: Mapping[str, Any]) -> tuple[object, ...]:
    """Whether two records are of the same image, or the same box of a video."""
    return tuple(record.get(name) for name in ("image", "frame", "x", "y", "w", "h"))


def embedded(
    extractor: FeatureExtractor, items: list[Item], size: int
) -> Iterator[tuple[np.ndarray, list[dict[str, Any]]]]:
    for start in range(0, len(items), size):
        part = items[start : start + size]
        yield extractor([item.path for item in part]), [dict(item.record) for item in part]


def stored(
    folder: str, held: set[tuple[object, ...]]
) -> Iterator[tuple[np.ndarray, list[dict[str, Any]]]]:
    from reid.features import iterate_features

    for features, records in iterate_features(folder):
        new = [row for row, record in enumerate(records) if identity(record) not in held]
        yield features[new], [records[row] for row in new]


def list_sources(args: argparse.Namespace) -> list[Item]:
    from reid.image_sources import dataset_items, list_items

    if args.images:
        return list_items(args.images)
    from reid.data_options import parse_data
    from reid.registry import DATASETS

    _, config = parse_data(args.data, args.camera_pattern, only_test=not args.split)
    # data without splits of its own is one split, 'test'
    default = "test" if "train_fraction" in config else "gallery"
    return dataset_items(DATASETS.build({**config, "split": args.split or default}))


if __name__ == "__main__":
    run_tool(main)
